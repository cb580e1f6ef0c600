"""Local files and folders, known names, captions from one or several columns."""

import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value

from clippo.evaluation.benchmarks import (
    NAMED,
    Benchmark,
    class_names,
    collect_captions,
    find_benchmark,
    open_rows,
    read_columns,
)
from clippo.evaluation.prompts import read_prompts


def test_names_and_overrides():
    assert find_benchmark("cifar100").label == "fine_label" and find_benchmark("imagenet").split == "validation"
    assert find_benchmark("coco", split="validation", image=None) == Benchmark(
        "royokong/coco_test", split="validation", captions={"en": "text"}
    )
    assert len(NAMED["xm3600"].captions) == 36
    with pytest.raises(ValueError, match="'nothing' is neither one of imagenet"):
        find_benchmark("nothing")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("limit", [None, 5])
def test_parquet_rows_with_undecoded_images(labelled, streaming, limit):
    rows = open_rows(Benchmark(str(labelled), streaming=streaming, limit=limit))
    assert class_names(Benchmark(str(labelled)), rows, read_prompts()) == ["red", "lime_green", "blue", "Blue!"]
    cells, columns = read_columns(rows, "image", "label")
    cells = list(cells)
    assert len(cells) == (limit or 12) and columns["label"] == [i % 3 for i in range(limit or 12)]
    assert cells[4]["bytes"] == b"no picture"
    one = open_rows(Benchmark(str(labelled / "train.parquet")))
    assert len(one) == 24


def test_a_folder_of_images(labelled, tmp_path):
    rows = open_rows(Benchmark(str(labelled)))
    for i in (0, 1, 2, 3):
        folder = tmp_path / "test" / ("ant", "bee")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(rows[i]["image"]["bytes"])
    benchmark = Benchmark(str(tmp_path))
    rows = open_rows(benchmark)
    assert class_names(benchmark, rows, read_prompts()) == ["ant", "bee"] and rows["label"][:] == [0, 0, 1, 1]
    with pytest.raises(FileNotFoundError, match=r"no validation\* file in"):
        open_rows(Benchmark(str(labelled), split="validation"))


def test_class_names_from_a_file_or_an_error(tmp_path):
    rows = Dataset.from_dict({"image": [0], "label": [0]})
    (tmp_path / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    assert class_names(Benchmark("x", class_names=str(tmp_path / "names.txt")), rows, read_prompts()) == ["cat", "dog"]
    assert class_names(Benchmark("x", class_names="imagenet"), rows, read_prompts())[0] == "tench"
    with pytest.raises(ValueError, match="does not name its classes"):
        class_names(Benchmark("x"), rows, read_prompts())
    with pytest.raises(ValueError, match="is not a file"):
        class_names(Benchmark("x", class_names="missing.txt"), rows, read_prompts())
    with pytest.raises(ValueError, match="No column caption in the data; it has image, label"):
        read_columns(rows, "image", "caption")


@pytest.mark.parametrize(
    ("columns", "remedy"),
    [
        (("image", "coarse_label"), "Its images are in img: pass --image img."),
        (
            ("img", "label"),
            "Its labels are in coarse_label, fine_label: pass --label coarse_label or --label fine_label.",
        ),
        (("img", "text"), "it has img, fine_label, coarse_label, note."),
    ],
)
def test_a_missing_column_suggests_the_column_of_that_type(columns, remedy):
    labels = ClassLabel(names=["a", "b"])
    features = Features({"img": Image(), "fine_label": labels, "coarse_label": labels, "note": Value("string")})
    rows = Dataset.from_list([{"img": None, "fine_label": 0, "coarse_label": 1, "note": ""}], features=features)
    with pytest.raises(ValueError, match="No column") as raised:
        read_columns(rows, *columns)
    assert remedy in str(raised.value)


def test_captions_of_several_columns():
    found = collect_captions("ru", [["кот", None, "", "пёс"], [["кошка", " "], [], None, ["собака", "щенок"]]])
    assert found.texts == ["кот", "кошка", "пёс", "собака", "щенок"] and found.rows == [0, 0, 3, 3, 3]
    assert found.script == "Cyrillic" and found.without == 2
