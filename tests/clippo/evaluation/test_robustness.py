"""Robustness: whole sentences find themselves, a bag of words loses what it cannot spell, and the command runs."""

import json

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch

from clippo.evaluation.command import run_command
from clippo.evaluation.robustness import DAMAGES, damage, robustness_report
from clippo.evaluation.text_text import Sentences
from clippo.evaluation.word_counts import CountEncoder

PAIRS = [
    ("A man plays a guitar", "A man is playing a guitar", 4.5),
    ("A woman slices bread", "Bread is sliced by a woman", 4.0),
    ("Some children run home", "The stock market fell sharply", 0.0),
    ("The old house burned down", "An old house was on fire", 3.5),
    ("Seven birds sit there", "Nobody reads this paper", 0.2),
]


@pytest.fixture
def judged(tmp_path):
    columns = dict(zip(("sentence1", "sentence2", "label"), (list(c) for c in zip(*PAIRS, strict=True)), strict=True))
    parquet.write_table(pa.table(columns), tmp_path / "test.parquet")
    return str(tmp_path / "test.parquet")


def test_bag_of_words_as_the_model(judged):
    texts = [text for pair in PAIRS for text in pair[:2]]
    report = robustness_report(CountEncoder("bag of words", texts), Sentences(judged))
    rows = {(row["damage"], row["share"]): row for row in report.rows}
    assert len(rows) == len(DAMAGES)
    assert rows["none", "0%"]["model, found"] == 1.0
    assert rows["upper case", "100%"]["model, found"] == 1.0  # counts are of small letters
    assert rows["look-alike letters", "100%"]["model, found"] < 0.5
    assert rows["look-alike letters", "100%"]["letter n-grams, found"] < 1.0
    for row in report.rows:
        assert row["model, found"] == row["bag of words, found"]
    assert report.counts == {"pairs": 5, "sentences to find": 10}


def test_damage_of_a_text_does_not_depend_on_the_others():
    texts = [text for pair in PAIRS for text in pair[:2]]
    assert damage(texts, "typing errors", 0.2, 3)[:4] == damage(texts[:4], "typing errors", 0.2, 3)
    assert damage(texts, "typing errors", 0.2, 3) != damage(texts, "typing errors", 0.2, 4)
    assert damage(texts, "none", 0.0, 3) == texts


def test_vectors_of_counts_have_unit_length():
    encoder = CountEncoder("letter n-grams", ["one text", "another"])
    assert torch.allclose(encoder.texts(["one text"]).norm(dim=1), torch.ones(1))
    assert encoder.texts(["Ω"]).norm() == 0


def test_command(judged, save_tiny, tmp_path):
    folder = save_tiny(image_size=32)
    options = ["--data", judged, "--beside", folder, "--output_dir", str(tmp_path / "out"), "--cache_dir", ""]
    (report,) = run_command(["robustness", "--model", folder, *options, "--progress", "false"])
    written = json.loads((tmp_path / "out" / f"{report.name}.json").read_text())
    assert [row["model, found"] for row in written["rows"]] == [row[f"{folder}, found"] for row in written["rows"]]
    assert written["rows"][0]["model, found"] == 1.0 or report.counts["different texts too long for the canvas, cut"]
