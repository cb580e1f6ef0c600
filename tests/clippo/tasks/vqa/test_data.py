"""Questions from parquet and from VQAv2's files, answer vocabularies and batches."""

import io
import json

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from clippo.processing import ClippoProcessor
from clippo.tasks.vqa.answers import AnswerVocabulary, is_right
from clippo.tasks.vqa.data import QuestionCollator, VisualQuestions, load_questions

DRAW = np.random.default_rng(0)
PICTURES = [Image.fromarray(DRAW.integers(0, 256, (20, 24, 3), dtype=np.uint8)) for _ in range(2)]


def grouped():
    features = datasets.Features(
        image=datasets.Image(),
        questions=datasets.List(datasets.Value("string")),
        answers=datasets.List(datasets.Value("string")),
    )
    columns = {"image": PICTURES, "questions": [["a?", "b?"], ["c?"]], "answers": [["yes", "no"], ["red, blue"]]}
    return datasets.Dataset.from_dict(columns, features)


def test_rows_with_several_questions():
    data = VisualQuestions.from_rows(grouped())
    assert [(item["question"], item["answers"]) for item in (data[i] for i in range(len(data)))] == [
        ("a?", ["yes"]), ("b?", ["no"]), ("c?", ["red, blue"]),
    ]  # fmt: skip
    assert np.array_equal(np.asarray(data[2]["image"]), np.asarray(PICTURES[1]))
    fetched = data.__getitems__([0, 2, 1])
    assert fetched[0]["image"] is fetched[2]["image"]  # The image is opened once in a batch.


def test_rows_with_one_question_and_ten_answers():
    rows = datasets.Dataset.from_dict(
        {"image": [0], "question": ["a?"], "answers": [[{"answer": "x", "answer_id": i} for i in range(10)]]}
    )
    assert VisualQuestions.from_rows(rows).answers == [["x"] * 10]


def test_answers_in_every_form():
    rows = datasets.Dataset.from_dict(
        {"image": ["x.png"] * 4, "question": ["a?"] * 4, "answers": [{"answer": ["no", "yes"], "id": [1, 2]}] * 4}
    )
    assert VisualQuestions.from_rows(rows).answers[0] == ["no", "yes"]
    for answers, expected in (([True, False], [["true"], ["false"]]), ([3, 4], [["3"], ["4"]])):
        rows = datasets.Dataset.from_dict({"image": ["x.png"] * 2, "question": ["a?"] * 2, "answer": answers})
        assert VisualQuestions.from_rows(rows).answers == expected
    for column, cells, message in (
        ("question", ["a?", None], "Row 1: the question is None"),
        ("answer", ["no", None], "Row 1: the answer is None; it has to be a string"),
    ):
        broken = datasets.Dataset.from_dict({**rows.to_dict(), column: cells})
        with pytest.raises(ValueError, match=message):
            VisualQuestions.from_rows(broken)


def test_pictures_as_bytes_and_broken_ones(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (3, 2), "red").save(buffer, "PNG")
    questions = VisualQuestions([{"bytes": buffer.getvalue(), "path": None}], [(0, "a?", ["no"])])
    assert questions[0]["image"].size == (3, 2)
    (tmp_path / "x.png").write_bytes(buffer.getvalue()[:40])
    with pytest.raises(ValueError, match="Image 0 cannot be used, broken image"):
        VisualQuestions([tmp_path / "x.png"], [(0, "a?", ["no"])])[0]


def test_a_hub_name_needs_its_split():
    with pytest.raises(ValueError, match="'hub/name' has no split; write hub/name:train"):
        load_questions("hub/name")


def test_right_in_either_form():
    assert is_right("2", ["two"]) and is_right("two", ["two"]) and not is_right("two", ["2"])
    assert AnswerVocabulary.from_data([["a"], ["the dog"]], normalize=True).answers == ["dog"]


def test_wrong_rows_are_refused():
    with pytest.raises(ValueError, match=r"No column picture .* it has image, questions, answers"):
        VisualQuestions.from_rows(grouped(), image_column="picture")
    rows = datasets.Dataset.from_dict({"image": [0], "questions": [["a?", "b?"]], "answers": [["x"]]})
    with pytest.raises(ValueError, match="Row 0 has 2 questions and 1 answers"):
        VisualQuestions.from_rows(rows)


@pytest.fixture
def vqa_v2(tmp_path):
    (tmp_path / "images").mkdir()
    for image_id, picture in zip((9, 25), PICTURES, strict=True):
        picture.save(tmp_path / "images" / f"COCO_train2014_{image_id:012}.png")
    questions = [
        {"image_id": 25, "question": "a?", "question_id": 250},
        {"image_id": 9, "question": "b?", "question_id": 90},
    ]
    answers = [{"answer": "net" if i < 4 else "pitch", "answer_id": i + 1} for i in range(10)]
    annotations = [{"question_id": q["question_id"], "image_id": q["image_id"], "answers": answers} for q in questions]
    # A byte order mark, as some editors write it.
    (tmp_path / "questions.json").write_text(json.dumps({"questions": questions}), encoding="utf-8-sig")
    (tmp_path / "annotations.json").write_text(json.dumps({"annotations": annotations}))
    return [str(tmp_path / name) for name in ("questions.json", "annotations.json", "images")]


def test_the_official_files(vqa_v2):
    data = VisualQuestions.from_vqa_v2(*vqa_v2)
    assert len(data) == 2 and data[0]["question"] == "a?" and data.answers[0] == ["net"] * 4 + ["pitch"] * 6
    assert np.array_equal(np.asarray(data[0]["image"]), np.asarray(PICTURES[1]))
    data.images[0].unlink()
    with pytest.raises(FileNotFoundError, match=r"1 images are not in .* id 9"):
        VisualQuestions.from_vqa_v2(*vqa_v2)


def test_vocabulary_by_frequency_and_soft_scores():
    answers = [["red"] * 7 + ["blue"] * 3, ["blue"], ["a dog", "Dog"], ["zebra"]]
    vocabulary = AnswerVocabulary.from_data(answers, min_count=1)
    assert vocabulary.answers[0] == "blue" and vocabulary.id2label[0] == "blue"
    assert AnswerVocabulary.from_data(answers, size=2).answers == ["blue", "Dog"]  # ties are sorted alphabetically
    assert AnswerVocabulary.from_data(answers, min_count=2).answers == ["blue"]
    normal = AnswerVocabulary.from_data(answers, normalize=True)
    assert "dog" in normal.answers and "a dog" not in normal.answers
    torch.testing.assert_close(
        AnswerVocabulary(["red", "blue"]).scores(["red"] * 7 + ["blue"] * 2 + ["x"]), torch.tensor([1.0, 2 / 3])
    )
    torch.testing.assert_close(normal.scores(["a dog", "cow"])[normal.answers.index("dog")], torch.tensor(0.5))
    assert vocabulary.scores(["never seen"]).sum() == 0
    assert AnswerVocabulary(["yes", "no"]).scores(["no"]).tolist() == [0, 1]
    with pytest.raises(ValueError, match="different answers"):
        AnswerVocabulary(["a", "a"])


def test_batches_and_blindness():
    processor = ClippoProcessor.from_size(64)
    processor = ClippoProcessor(processor.image_processor, processor.tokenizer, {"min_rows": 2, "max_rows": 2})
    items = VisualQuestions.from_rows(grouped()).__getitems__([0, 1, 2])
    vocabulary = AnswerVocabulary(["yes", "no"])
    both, no_picture, no_question = (
        QuestionCollator(processor, vocabulary, blind)(items)["pixel_values"] for blind in (None, "picture", "question")
    )
    assert both.dtype == torch.uint8 and both.shape == (3, 3, 64, 64)
    assert torch.equal(no_picture[:, :, :32], both[:, :, :32]) and (no_picture[:, :, 32:] == 127).all()
    assert torch.equal(no_question[:, :, 32:], both[:, :, 32:]) and (no_question[:, :, :32] == 127).all()
    labels = QuestionCollator(processor, vocabulary)(items)["labels"]
    assert labels.tolist() == [[1, 0], [0, 1], [0, 0]]  # the last answer is not in the vocabulary
    with pytest.raises(ValueError, match="blind='image'"):
        QuestionCollator(processor, vocabulary, "image")
