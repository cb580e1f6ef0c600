"""CIDEr-D and BLEU-4 against pycocoevalcap 1.2, words of several languages, edit distance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippo.tasks.generation.metrics import CaptionOverlap, CharacterErrorRate, edit_distance
from clippo.tasks.generation.overlap import bleu_4, cider_d, words

PREDICTIONS = [
    "a brown dog runs in the grass",
    "two cats on a sofa",
    "a man in a red shirt rides a bike",
    "a dog runs on the beach",
]
REFERENCES = [
    ["a dog runs on the grass", "the brown dog is running in a field"],
    ["two cats sleep on a red sofa", "cats sleeping on the couch", "a pair of cats on a sofa"],
    ["a man rides a bike down the street"],
    ["children play in the water at the beach", "kids are playing on the beach"],
]


def split(texts):
    return [split(text) if isinstance(text, list) else text.split() for text in texts]


def test_scores_are_those_of_the_coco_evaluation():
    scores = cider_d(split(PREDICTIONS), split(REFERENCES))
    assert scores == pytest.approx([2.31442639, 2.8533825, 2.81724915, 1.52012894], abs=1e-8)
    # pycocoevalcap adds 1e-15 and 1e-9 to avoid a division by zero.
    assert bleu_4(split(PREDICTIONS), split(REFERENCES)) == pytest.approx(0.27138365870993353, abs=1e-9)


def test_the_metric_averages_and_counts_distinct_captions():
    scores = CaptionOverlap().compute(predictions=PREDICTIONS, references=REFERENCES)
    assert scores["CIDEr-D"] == pytest.approx(2.3762967442221643)
    assert scores["distinct"] == 1
    same = CaptionOverlap().compute(predictions=["a dog"] * 4, references=REFERENCES)
    assert same["distinct"] == 0.25
    assert same["BLEU-4"] == 0


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("A Dog, running!", "en", ["a", "dog", "running"]),
        ("नमस्ते दुनिया।", "hi", ["नमस्ते", "दुनिया"]),
        ("猫が好き。", "ja", ["猫", "が", "好", "き"]),
        ("两只狗, 一只猫", "zh-CN", list("两只狗一只猫")),
        ("", "en", []),
    ],
)
def test_words(text, language, expected):
    assert words(text, language) == expected


@given(st.text("ab", max_size=6), st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_edit_distance_is_a_metric(a, b, c):
    assert (edit_distance(a, b) == 0) == (a == b)
    assert edit_distance(a, b) == edit_distance(b, a) <= max(len(a), len(b))
    assert edit_distance(a, c) <= edit_distance(a, b) + edit_distance(b, c)


def test_character_error_rate_weighs_lines_by_their_length():
    scores = CharacterErrorRate().compute(predictions=["abcd", "x"], references=[["abcd"], ["yz"]])
    assert scores == {"CER": pytest.approx(2 / 6), "exact_lines": 0.5}
