"""The checkpoint in the repository: complete, small, current, and able to do what the README shows."""

from pathlib import Path

import pytest
import yaml
from transformers import pipeline
from transformers.dynamic_module_utils import get_relative_imports

import clippo
from clippo.modeling_clippo.configuration_clippo import AUTO_MAP

from .conftest import ROOT

FLAT = ("modeling_clippo", "processing")
FOLDER = ROOT / "checkpoints" / "clippo-emoji"
ENTRIES = {module.partition(".")[0] for module in AUTO_MAP.values()} | {
    "image_processing_clippo", "processing_clippo", "tokenization_clippo",
}  # fmt: skip


def sources() -> dict[str, Path]:
    """The files that the classes of a checkpoint need, by name: the entries and what they import."""
    paths = {path.stem: path for folder in FLAT for path in (ROOT / folder).glob("*_clippo.py")}
    wanted, found = set(ENTRIES), {}
    while wanted:
        path = paths[wanted.pop()]
        found[path.name] = path
        wanted |= {name for name in get_relative_imports(path) if f"{name}.py" not in found}
    return found


def test_its_card_is_the_model_card():
    card = (ROOT / "model_card.md").read_text(encoding="utf-8")
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == card, (
        "copy model_card.md to the checkpoint's README.md"
    )
    front_matter = yaml.safe_load(card.split("---")[1])
    assert front_matter["pipeline_tag"] == "zero-shot-image-classification"
    assert f"{clippo.ClippoModel.from_pretrained(FOLDER).num_parameters():,}" in card


def test_its_weights_are_small():
    assert (FOLDER / "model.safetensors").stat().st_size < 15e6


def test_its_remote_code_is_the_code_here():
    copies = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.py")}
    expected = sources()
    assert copies.keys() == expected.keys()
    for name, text in copies.items():
        assert text == expected[name].read_text(encoding="utf-8"), f"{name} is stale: run scripts/export_checkpoint.py"


@pytest.mark.parametrize(
    ("picture", "labels", "right"),
    [
        ("cat", ["cat", "dog", "rocket", "pizza", "tree"], "cat"),
        ("rocket", ["gato", "perro", "cohete", "pizza", "árbol"], "cohete"),
        ("pizza", ["кошка", "собака", "ракета", "пицца", "дерево"], "пицца"),
        ("cat", ["cat", "Hund", "ракета", "пицца", "木"], "cat"),
    ],
)
def test_it_finds_what_it_was_taught(picture, labels, right):
    classify = pipeline("zero-shot-image-classification", str(FOLDER))
    path = str(ROOT / "docs" / "pictures" / f"{picture}.webp")
    best = classify(path, candidate_labels=labels, hypothesis_template="{}")[0]
    assert best["label"] == right and best["score"] > 0.9
