"""Text pairs in every layout through the stock text-classification pipeline, with the package and by remote code."""

import pytest
import torch
from transformers import pipeline

import clippo

from .test_remote_code import run_without_package

CLASSES = {0: "good", 1: "bad", 2: "mixed"}
PAIRS = [
    {"text": "a film", "text_pair": "good"},
    {"text": "ภาพยนตร์ مرحبا", "text_pair": "🐈"},
    {"text": "", "text_pair": "плохо"},
    {"text": "word " * 1000, "text_pair": "b"},
]


VARIANTS = ["rows-uint8", "rows-packed", "two_canvas-uint8", "two_canvas-packed"]


@pytest.fixture(scope="module")
def folders(save_tiny):
    """Folders of one classifier for each layout and format."""
    made = {}
    for name in VARIANTS:
        layout, canvas_format = name.split("-")
        made[name] = save_tiny(
            clippo.ClippoForSequenceClassification,
            id2label=CLASSES,
            num_text_canvases=2 if layout == "two_canvas" else 1,
            skip_blank_patches=canvas_format == "packed",
        )
        tokenizer = clippo.ClippoTokenizer(canvas_size=64, canvas_format=canvas_format, pair_layout=layout)
        tokenizer.save_pretrained(made[name])
    return made


@pytest.fixture(params=VARIANTS)
def folder(request, folders):
    return folders[request.param]


def expected_scores(folder) -> list[dict[str, float]]:
    model = clippo.ClippoForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = clippo.ClippoTokenizer.from_pretrained(folder)
    drawn = tokenizer([p["text"] for p in PAIRS], [p["text_pair"] for p in PAIRS], return_tensors="pt")
    with torch.no_grad():
        probabilities = model(**drawn).logits.softmax(-1)
    assert probabilities.std(0).min() > 1e-4  # The scores of the texts differ, so the comparison is meaningful.
    return [dict(zip(CLASSES.values(), row, strict=True)) for row in probabilities.tolist()]


def as_dict(answer) -> dict[str, float]:
    return {entry["label"]: entry["score"] for entry in answer}


def test_pairs_one_by_one_and_in_batches(folder):
    classify = pipeline("text-classification", model=folder, top_k=None)
    expected = expected_scores(folder)
    assert as_dict(classify(PAIRS[0])) == pytest.approx(expected[0], abs=1e-5)
    for options in ({}, {"batch_size": 3}):
        for answer, scores in zip(classify(PAIRS, **options), expected, strict=True):
            assert as_dict(answer) == pytest.approx(scores, abs=1e-5)


def test_single_texts(folder):
    classify = pipeline("text-classification", model=folder)
    if classify.model.config.num_text_canvases == 2:
        with pytest.raises(ValueError, match="give the tokenizer text and text_pair"):
            classify("a film")
    else:
        assert [answer["label"] in CLASSES.values() for answer in classify(["a film", "плохо"])] == [True, True]


def test_remote_code_draws_and_scores_the_same(folders, tmp_path):
    auto = ["AutoModelForSequenceClassification", "AutoTokenizer"]
    task = {"auto": auto, "save": [], "pipelines": ["text-classification"], "photos": [], "texts": PAIRS}
    answers = run_without_package([{**task, "folder": folder} for folder in folders.values()], tmp_path)
    for folder, answer in zip(folders.values(), answers, strict=True):
        assert all(origin.startswith("transformers_modules:") for origin in answer["classes"].values())
        for got, scores in zip(answer["text-classification"], expected_scores(folder), strict=True):
            assert as_dict(got) == pytest.approx(scores, abs=1e-5)
