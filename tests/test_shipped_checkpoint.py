"""The checkpoint in the repository: complete, small, without copies of the code, and as good as the README shows."""

import os
import subprocess
import sys

import pytest
import yaml
from transformers import pipeline

import clippo

from .conftest import ROOT
from .processes import HIDE_CLIPPO

FOLDER = ROOT / "checkpoints" / "clippo-emoji"
READER = ROOT / "checkpoints" / "clippo-reader"
PROGRAM = """
import sys, transformers
for name in ("AutoTokenizer", "AutoImageProcessor", "AutoProcessor", "AutoModel"):
    try:
        thing = getattr(transformers, name).from_pretrained(sys.argv[1], trust_remote_code=True)
        print(name, "opened", type(thing).__module__)
    except ImportError as error:
        print(name, "failed", error)
"""


def test_its_card_is_the_model_card():
    card = (ROOT / "model_card.md").read_text(encoding="utf-8")
    assert (FOLDER / "README.md").read_text(encoding="utf-8") == card, (
        "copy model_card.md to the checkpoint's README.md"
    )
    front_matter = yaml.safe_load(card.split("---")[1])
    assert front_matter["pipeline_tag"] == "zero-shot-image-classification"
    assert f"{clippo.ClippoModel.from_pretrained(FOLDER).num_parameters():,}" in card


@pytest.mark.parametrize("folder", [FOLDER, READER], ids=lambda folder: folder.name)
def test_its_folder_is_small(folder):
    assert sum(path.stat().st_size for path in folder.iterdir()) < 16e6


@pytest.mark.parametrize("folder", [FOLDER, READER], ids=lambda folder: folder.name)
def test_its_files_of_code_only_name_the_package(folder):
    names = {path.name for path in folder.glob("*.py")}
    for name in names:
        assert (folder / name).read_text(encoding="utf-8").count("\n") < 6, f"{name} is a copy; restore it with git"
    assert names == {
        "configuration_clippo.py", "image_processing_clippo.py", "processing_clippo.py", "tokenization_clippo.py",
    }  # fmt: skip


@pytest.mark.parametrize("package", [True, False], ids=["with-package", "without-package"])
def test_trusting_it_opens_the_package_or_names_it(package, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_MODULES_CACHE": str(tmp_path / "modules"), "HF_HUB_OFFLINE": "1"}
    program = PROGRAM
    if package:
        environment["PYTHONPATH"] = str(ROOT)
    else:  # hidden, because the environment of the tests may have it
        program = HIDE_CLIPPO + program
    command = [sys.executable, "-c", program, str(FOLDER)]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    assert len(lines) == 4
    for line in lines:
        assert " opened clippo." in line if package else " failed " in line and "`pip install clippo`" in line, line


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
