"""Local files and folders, known names, captions from one or several columns."""

import pytest
from datasets import Dataset

from clippo.evaluation.prompts import read_prompts
from clippo.evaluation.sources import NAMED, Source, class_names, collect_captions, find_source, open_rows, read_columns


def test_names_and_overrides():
    assert find_source("cifar100").label == "fine_label" and find_source("imagenet").split == "validation"
    assert find_source("coco", split="validation", image=None) == Source(
        "royokong/coco_test", split="validation", captions={"en": "text"}
    )
    assert len(NAMED["xm3600"].captions) == 36
    with pytest.raises(ValueError, match="'nothing' is neither one of imagenet"):
        find_source("nothing")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("limit", [None, 5])
def test_parquet_rows_with_undecoded_pictures(labelled, streaming, limit):
    rows = open_rows(Source(str(labelled)), streaming=streaming, limit=limit)
    assert class_names(Source(str(labelled)), rows, read_prompts()) == ["red", "lime_green", "blue", "Blue!"]
    cells, columns = read_columns(rows, "image", "label")
    cells = list(cells)
    assert len(cells) == (limit or 12) and columns["label"] == [i % 3 for i in range(limit or 12)]
    assert cells[4]["bytes"] == b"no picture"
    one = open_rows(Source(str(labelled / "train.parquet")))
    assert len(one) == 24


def test_a_folder_of_pictures(labelled, tmp_path):
    rows = open_rows(Source(str(labelled)))
    for i in (0, 1, 2, 3):
        folder = tmp_path / "test" / ("ant", "bee")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(rows[i]["image"]["bytes"])
    source = Source(str(tmp_path))
    rows = open_rows(source)
    assert class_names(source, rows, read_prompts()) == ["ant", "bee"] and rows["label"][:] == [0, 0, 1, 1]
    with pytest.raises(FileNotFoundError, match="neither validation"):
        open_rows(Source(str(tmp_path / "test" / "ant"), split="validation"))


def test_class_names_from_a_file_or_an_error(tmp_path):
    rows = Dataset.from_dict({"image": [0], "label": [0]})
    (tmp_path / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    assert class_names(Source("x", class_names=str(tmp_path / "names.txt")), rows, read_prompts()) == ["cat", "dog"]
    assert class_names(Source("x", class_names="imagenet"), rows, read_prompts())[0] == "tench"
    with pytest.raises(ValueError, match="does not name its classes"):
        class_names(Source("x"), rows, read_prompts())
    with pytest.raises(ValueError, match="is no file"):
        class_names(Source("x", class_names="missing.txt"), rows, read_prompts())
    with pytest.raises(ValueError, match="No column caption in the data; it has image, label"):
        read_columns(rows, "image", "caption")


def test_captions_of_several_columns():
    found = collect_captions("ru", [["кот", None, "", "пёс"], [["кошка", " "], [], None, ["собака", "щенок"]]])
    assert found.texts == ["кот", "кошка", "пёс", "собака", "щенок"] and found.rows == [0, 0, 3, 3, 3]
    assert found.script == "Cyrillic" and found.without == 2
