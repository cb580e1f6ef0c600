"""GLUE from local files: columns, label names, label numbers and refused rows."""

import json

import datasets
import pandas as pd
import pytest

from clippo.tasks.glue.data import GLUE_TASKS, glue_task, load_glue

PAIRS = [("a cat", "a dog", 0), ("NA", "None", 1), ('say "yes', "no,\nno", 1), ("ไทย 🐈", "مرحبا", 0)]


def write(folder, task, rows, split="train", kind="parquet", columns=("sentence1", "sentence2", "label")):
    (folder / task).mkdir(exist_ok=True)
    frame = pd.DataFrame(rows, columns=list(columns))
    path = folder / task / f"{split}.{kind}"
    if kind == "parquet":
        frame.to_parquet(path)
    elif kind == "csv":
        frame.to_csv(path, index=False)
    elif kind == "tsv":
        path.write_text("\n".join("\t".join(map(str, row)) for row in [columns, *rows]), encoding="utf-8")
    else:
        path.write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")), encoding="utf-8")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("kind", ["parquet", "csv", "json", "jsonl", "tsv"])
def test_local_files_of_any_kind(tmp_path, kind):
    rows = [row for row in PAIRS if kind != "tsv" or "\n" not in row[1]]
    write(tmp_path, "mrpc", rows, "train", kind)
    write(tmp_path, "mrpc", rows[:2], "validation_subset", kind)
    splits = load_glue("mrpc", tmp_path)
    assert list(splits) == ["train", "validation"] and len(splits["validation"]) == 2
    got = splits["train"]
    assert list(zip(got["text"], got["text_pair"], got["label"], strict=True)) == rows


def test_labels_by_name_and_by_number(tmp_path):
    names = datasets.ClassLabel(names=["not_entailment", "entailment"])  # RTE's own order is the other one
    data = datasets.Dataset.from_dict({"sentence1": ["a", "b"], "sentence2": ["c", "d"], "label": [0, 1]})
    (tmp_path / "rte").mkdir()
    data.cast_column("label", names).to_parquet(tmp_path / "rte" / "train.parquet")
    write(tmp_path, "rte", [("a", "c", "entailment"), ("b", "d", "not_entailment")], "validation", "csv")
    splits = load_glue("rte", tmp_path)
    assert splits["train"]["label"][:] == [1, 0] and splits["validation"]["label"][:] == [0, 1]


def test_regression_and_single_sentences(tmp_path):
    for split in ("train", "validation"):
        write(tmp_path, "stsb", [("a", "b", 3), ("c", "d", 5)], split)
        write(tmp_path, "sst2", [("a", 1), ("", 0)], split, columns=("sentence", "label"))
    assert load_glue("stsb", tmp_path)["train"]["label"][:] == [3.0, 5.0]
    assert load_glue("sst2", tmp_path)["train"].column_names == ["text", "label"]


def test_mnli_takes_one_or_both_evaluation_sets(tmp_path):
    columns = ("premise", "hypothesis", "label")
    for split in ("train", "validation_matched"):
        write(tmp_path, "mnli", [("a", "b", 2)], split, columns=columns)
    assert list(load_glue("mnli", tmp_path)) == ["train", "validation_matched"]
    write(tmp_path, "mnli", [("a", "b", 1)], "validation_mismatched", columns=columns)
    assert list(load_glue("mnli", tmp_path)) == ["train", "validation_matched", "validation_mismatched"]
    for file in (tmp_path / "mnli").glob("validation_matched*"):
        file.unlink()
    assert list(load_glue("mnli", tmp_path)) == ["train", "validation_mismatched"]
    for file in (tmp_path / "mnli").glob("validation_mismatched*"):
        file.unlink()
    with pytest.raises(FileNotFoundError, match=r"No validation_matched\* file"):
        load_glue("mnli", tmp_path)


@pytest.mark.parametrize("other", ["train_subset.parquet", "train.csv"])
def test_two_candidates_for_one_split_are_not_mixed(tmp_path, other):
    for split in ("train", "validation"):
        write(tmp_path, "sst2", [("a", 1)], split, columns=("sentence", "label"))
    stem, kind = other.split(".")
    write(tmp_path, "sst2", [("a", 1)], stem, kind, columns=("sentence", "label"))
    with pytest.raises(ValueError, match="could all be the split train"):
        load_glue("sst2", tmp_path)


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_texts_of_nothing_but_numbers(tmp_path, kind):
    for split in ("train", "validation"):
        write(tmp_path, "sst2", [("12", 1), ("007", 0)], split, kind, columns=("sentence", "label"))
    assert load_glue("sst2", tmp_path)["train"]["text"][:] == ["12", "007"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl"])
def test_a_byte_order_mark_is_skipped(tmp_path, kind):
    for split in ("train", "validation"):
        write(tmp_path, "sst2", [("null", 1), ("nan", 0)], split, kind, columns=("sentence", "label"))
        path = tmp_path / "sst2" / f"{split}.{kind}"
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_glue("sst2", tmp_path)["train"]["text"][:] == ["null", "nan"]


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([("a", "b")], ("sentence1", "label"), "has no column sentence2; it has sentence1, label"),
        ([("a", "b", 0), ("a", None, 1)], None, "row 1: sentence2 is None, not a string"),
        ([("a", "b", 0), ("a", "b", 2)], None, r"row 1: the label is 2; it has to be one of 0 \(not_equ.*1 \(equ"),
        (
            [("a", "b", 0.0), ("a", "b", float("nan"))],
            None,
            "row 1: the label is (nan|None); training and evaluation need",
        ),
        ([("a", "b", "yes")], None, r"row 0: the label is 'yes'; it has to be 0 \(not_equivalent\), 1 \(equivalent\)"),
        ([("a", "b", -1)], None, "row 0: the label is -1; training and evaluation need"),
        ([("a", "b", [1])], None, r"row 0: the label is \[1\]; it has to be 0"),
    ],
)
def test_bad_files_are_explained(tmp_path, rows, columns, message):
    write(tmp_path, "mrpc", rows, columns=columns or ("sentence1", "sentence2", "label"))
    with pytest.raises(ValueError, match=message):
        load_glue("mrpc", tmp_path)


def test_missing_files_and_tasks_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No train\* file in .*qqp; put a .*question1, question2 and label"):
        load_glue("qqp", tmp_path)
    with pytest.raises(ValueError, match="'sst-2' is not a GLUE task"):
        load_glue("sst-2", tmp_path)


def test_the_shared_files_are_the_official_ones(shared):
    sizes = {"cola": (8551, 1043), "mrpc": (3668, 408), "stsb": (5749, 1500), "rte": (2490, 277), "wnli": (635, 71)}
    folder = shared("data", "glue")
    for task, expected in sizes.items():
        splits = load_glue(task, folder)
        assert tuple(map(len, splits.values())) == expected
        assert ("text_pair" in splits["train"].column_names) == glue_task(task).is_pair
        if not GLUE_TASKS[task].is_regression:
            assert set(splits["train"]["label"]) == set(range(len(GLUE_TASKS[task].labels)))
