"""The VQA challenge's accuracy against its definition, and the unusual rules of its normalisation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippo.tasks.vqa.accuracy import VqaAccuracy, exact_match, set_accuracy, vqa_accuracy
from clippo.tasks.vqa.answers import normalize_answer


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Dog", "dog"),
        ("a an the", ""),
        ("two", "2"),
        ("none", "0"),
        ("TEN cats", "10 cats"),
        ("dont", "don't"),
        ("couldn'tve", "couldn't've"),
        ("ow's'at", "'ow's'at"),
        ("somebody'd", "somebodyd"),
        ("shes", "shes"),  # not in the official table
        ("black/white", "black white"),  # a mark between letters becomes a space
        ("black / white", "black white"),
        ("black, white", "black white"),
        ("1,000", "1000"),  # a comma between digits makes every mark vanish
        ("1,000-2,000", "10002000"),
        ("3.5", "3.5"),
        ("yes.", "yes"),
        ("mr. x.", "mr x"),
        ("what?!", "what"),
    ],
)
def test_normalisation(answer, expected):
    assert normalize_answer(answer) == expected


@pytest.mark.parametrize(("agreeing", "expected"), [(0, 0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1), (10, 1)])
def test_accuracy_by_number_of_people_who_agree(agreeing, expected):
    """Ten-way leave-one-out is equal to this table."""
    assert vqa_accuracy("red", ["red"] * agreeing + ["blue"] * (10 - agreeing)) == pytest.approx(expected)


@given(st.lists(st.sampled_from(["a dog", "dog", "Dog.", "two", "2", "cat"]), min_size=10, max_size=10), st.data())
def test_it_is_the_published_average(answers, data):
    prediction = data.draw(st.sampled_from(["dog", "2", "cat", "mouse"]))
    clean = [normalize_answer(a) for a in answers] if len(set(answers)) > 1 else answers
    said = normalize_answer(prediction) if len(set(answers)) > 1 else prediction
    subsets = [clean[:i] + clean[i + 1 :] for i in range(10)]
    expected = sum(min(1, subset.count(said) / 3) for subset in subsets) / 10
    assert vqa_accuracy(prediction, answers) == pytest.approx(expected)


def test_people_who_all_wrote_the_same_are_taken_at_their_word():
    assert vqa_accuracy("two", ["two"] * 10) == 1 and vqa_accuracy("2", ["two"] * 10) == 0
    assert vqa_accuracy("2", ["two"] * 9 + ["three"]) == 1


def test_exact_match_and_sets():
    assert exact_match(" red", ["red"]) == 1 and exact_match("Red", ["red"]) == 0
    assert set_accuracy("lamp, book", ["book, lamp"]) == 1 and exact_match("lamp, book", ["book, lamp"]) == 0
    assert set_accuracy("book", ["book, lamp"]) == 0


def test_the_metric_averages():
    metric = VqaAccuracy()
    got = metric.compute(predictions=["red", "no"], references=[["red"] * 2 + ["blue"] * 8, ["yes"] * 10])
    assert got == {"vqa_accuracy": pytest.approx(0.3), "exact_match": 0.5, "set_accuracy": 0.5}
    assert metric.compute(predictions=["b, a"], references=[["a, b"]]) == {"exact_match": 0, "set_accuracy": 1}
    metric.add_batch(predictions=["red"], references=[["red"]])
    metric.add_batch(predictions=["red"], references=[["blue"]])
    assert metric.compute()["exact_match"] == 0.5


def test_too_few_answers_are_refused():
    with pytest.raises(ValueError, match="there are 1 answers"):
        vqa_accuracy("red", ["red"])
