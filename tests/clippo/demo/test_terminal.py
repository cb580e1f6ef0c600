"""The demo on random weights prints the model's probabilities and marks the right answers that are known."""

import re

import pytest
import torch
from PIL import Image

from clippo import ClippoModel, ClippoProcessor
from clippo.demo import terminal
from clippo.demo.terminal import Query, print_retrieval, read_queries, run_demo
from clippo.evaluation.classification import zero_shot
from clippo.evaluation.encoder import Encoder
from clippo.visualization.inputs import read_images


@pytest.fixture
def pictures():
    return {name: Image.new("RGB", (60, 40), name) for name in ("red", "green", "blue", "yellow", "white", "black")}


def test_probabilities_are_the_models(tiny_folder, pictures, capsys):
    queries = [
        Query("rot", "German", "red"),
        Query("緑", "Japanese", "green", held_out=True),
        Query("כחול", "Hebrew", "blue"),
    ]
    sheet = run_demo(str(tiny_folder), pictures, queries)
    output = capsys.readouterr().out
    model, processor = ClippoModel.from_pretrained(tiny_folder), ClippoProcessor.from_pretrained(tiny_folder)
    names = ["red", "green", "blue"]
    expected = zero_shot(
        Encoder(model, processor), [pictures[name] for name in names], [query.text for query in queries]
    )
    zero_shot_part = output.partition("Retrieval")[0]
    shares = [float(share) for share in re.findall(r"([\d.]+)%", zero_shot_part)]
    assert shares == pytest.approx([100 * p for row in expected for p in sorted(row.tolist(), reverse=True)], abs=0.06)
    assert zero_shot_part.count("<- right") == 3
    assert "trained: right image first for" in output and "held out: right image first for" in output
    assert sheet.mode == "RGB" and sheet.width > 700


def test_unknown_answers_are_not_marked(tiny_folder, pictures, capsys):
    run_demo(str(tiny_folder), pictures, [Query(str(number)) for number in range(12)])
    output = capsys.readouterr().out
    assert f"{terminal.ON_SHEET} labels" in output
    assert "right image first" not in output and "<-" not in output and "held out" not in output
    assert "[" not in output.partition("Retrieval")[2]


def test_retrieval_counts_and_brackets(capsys):
    names = list("abcdefgh")
    images = torch.eye(8)
    queries = [
        Query("one", "English", "a"),
        Query("two", "English", "h"),
        Query("three", "English", "b", held_out=True),
    ]
    texts = torch.stack([images[0], torch.tensor([8.0, 7, 6, 5, 4, 3, 2, 1]) / 204**0.5, images[1]])
    print_retrieval(texts, images, names, queries)
    output = capsys.readouterr().out
    assert "one    [a]" in output and "three  [b]" in output and "two    a  b  c  d  e\n" in output
    assert "trained: right image first for 1 of 2 texts, among the first 5 for 1; by chance 0.2 and 1.2" in output
    assert "held out: right image first for 1 of 1 texts, among the first 5 for 1; by chance 0.1 and 0.6" in output


def test_errors_name_what_is_missing(tiny_folder, pictures, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no folder .*none"):
        run_demo(str(tmp_path / "none"), pictures, [Query("a")])
    with pytest.raises(ValueError, match="images that are missing: pink"):
        run_demo(str(tiny_folder), pictures, [Query("a", picture="pink")])
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(FileNotFoundError, match="no images in"):
        read_images(tmp_path)
    with pytest.raises(FileNotFoundError, match="no images in"):
        read_images(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no queries\.json in"):
        read_queries(tmp_path)


def test_pictures_come_by_name(tmp_path):
    for name in ("b.png", "a.JPG", "c.webp"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    assert list(read_images(tmp_path)) == ["a", "b", "c"]
