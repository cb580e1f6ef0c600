"""Image-text matching: half of the captions are swapped, and only those of other images are wrong."""

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from clippo.tasks.vqa.answers import AnswerVocabulary
from clippo.tasks.vqa.matching import (
    MATCHING_ANSWERS,
    MatchingCollator,
    load_captions,
    matching_accuracy,
    swap_captions,
)

from ....tiny import tiny_processor

GREY = Image.new("RGB", (8, 8))


def rows(images):
    return [
        {"image": GREY, "image_number": n, "question": f"caption {i} of {n}", "answers": ["true"]}
        for i, n in enumerate(images)
    ]


@pytest.mark.parametrize("images", [range(64), [i // 5 for i in range(100)], [0, 1] * 8, [0, 1, 1, 1]])
@pytest.mark.parametrize("seed", range(5))
def test_labels_are_right_and_every_caption_stays_in_the_batch(images, seed):
    items = rows(images)
    swapped = swap_captions(items, np.random.default_rng(seed))
    assert sorted(item["question"] for item in swapped) == sorted(item["question"] for item in items)
    for item in swapped:
        belongs = item["question"].endswith(f" of {item['image_number']}")
        assert item["answers"] == ["true" if belongs else "false"]
    wrong = sum(item["answers"] == ["false"] for item in swapped)
    assert wrong <= len(items) // 2
    if len(set(images)) > 10:
        assert wrong == len(items) // 2  # also where neighbours show one image


@pytest.mark.parametrize("images", [[], [0], [0, 0, 0, 0]])
def test_batches_in_which_nothing_can_be_wrong(images):
    swapped = swap_captions(rows(images), np.random.default_rng(0))
    assert [item["answers"] for item in swapped] == [["true"]] * len(images)


def test_the_choice_depends_on_the_seeds():
    collate = MatchingCollator(tiny_processor(), AnswerVocabulary(MATCHING_ANSWERS))
    items = rows(range(16))
    seeded = [[{**item, "seed": seed + i} for i, item in enumerate(items)] for seed in (1, 1, 2)]
    labels = [collate(batch)["labels"] for batch in seeded]
    assert torch.equal(labels[0], labels[1]) and not torch.equal(labels[0], labels[2])
    assert torch.equal(collate(items)["labels"], collate(items)["labels"])  # in evaluation


def test_captions_become_true_statements(tmp_path):
    columns = {"image": [GREY, GREY], "captions": [["a", " ", "b"], ["c"]]}
    features = datasets.Features(image=datasets.Image(), captions=datasets.List(datasets.Value("string")))
    datasets.Dataset.from_dict(columns, features).to_parquet(str(tmp_path / "train.parquet"))
    questions = load_captions(str(tmp_path / "train.parquet"))
    assert questions.rows == [(0, "a", ["true"]), (0, "b", ["true"]), (1, "c", ["true"])]
    with pytest.raises(ValueError, match="nothing"):
        load_captions(str(tmp_path / "train.parquet"), caption_column="nothing")


def test_accuracy():
    labels = np.array([[1, 0], [0, 1], [0, 1], [1, 0]])
    prediction = type("P", (), {"predictions": np.array([0, 1, 0, 0]), "label_ids": labels})
    assert matching_accuracy(prediction) == {"accuracy": 0.75}
