"""The nine GLUE tasks as lists of strings and labels, from the hub or from local files in the hub's columns."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datasets import ClassLabel, Dataset, load_dataset

HUB_NAME = "nyu-mll/glue"
FILE_TYPES = {".parquet": "parquet", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json"}


class GlueTask(NamedTuple):
    """One task: its text columns, its classes in the order of the hub's label numbers (none: regression)."""

    columns: tuple[str, ...]
    labels: tuple[str, ...]
    evaluation: tuple[str, ...] = ("validation",)  # splits, the first being the one that checkpoints are chosen by

    @property
    def is_regression(self) -> bool:
        return not self.labels

    @property
    def is_pair(self) -> bool:
        return len(self.columns) == 2


_SENTENCES = ("sentence1", "sentence2")
GLUE_TASKS = {
    "cola": GlueTask(("sentence",), ("unacceptable", "acceptable")),
    "sst2": GlueTask(("sentence",), ("negative", "positive")),
    "mrpc": GlueTask(_SENTENCES, ("not_equivalent", "equivalent")),
    "stsb": GlueTask(_SENTENCES, ()),
    "qqp": GlueTask(("question1", "question2"), ("not_duplicate", "duplicate")),
    "mnli": GlueTask(
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        ("validation_matched", "validation_mismatched"),
    ),
    "qnli": GlueTask(("question", "sentence"), ("entailment", "not_entailment")),
    "rte": GlueTask(_SENTENCES, ("entailment", "not_entailment")),
    "wnli": GlueTask(_SENTENCES, ("not_entailment", "entailment")),
}


def glue_task(name: str) -> GlueTask:
    """The task of that name; ValueError if there is none."""
    if name not in GLUE_TASKS:
        raise ValueError(f"{name!r} is no GLUE task; choose one of {', '.join(GLUE_TASKS)}.")
    return GLUE_TASKS[name]


def load_glue(name: str, folder: str | Path | None = None) -> dict[str, Dataset]:
    """Training and evaluation splits of one task, checked, with the columns "text", "text_pair" (of pairs) and "label".

    Args:
        name: A key of `GLUE_TASKS`.
        folder: Where FOLDER/NAME/train*.parquet, validation*.parquet are, or csv, tsv, json, jsonl files; None loads
            from the hub. "train_subset.parquet" counts as train if there is no other. Of MNLI one of the two
            evaluation files is enough.

    Returns:
        {"train": ..., "validation": ...}, with MNLI "validation_matched" and "validation_mismatched", as far as there.

    Raises:
        FileNotFoundError: There is no file of a split.
        ValueError: A column is missing, a text is no string, or a label is missing, not finite or none of the task's;
            or it is not clear which files a split is.
    """
    task = glue_task(name)
    splits = {}
    for split in ("train", *task.evaluation):
        if folder is None:
            rows, source = load_dataset(HUB_NAME, name, split=split), f"{HUB_NAME}, {name}, {split}"
        else:
            paths = _files(Path(folder) / name, split)
            if not paths:
                if split != "train" and any(_files(Path(folder) / name, other) for other in task.evaluation):
                    continue
                raise FileNotFoundError(
                    f"No {split}* file in {Path(folder) / name}; it takes {', '.join(sorted(FILE_TYPES))} files with "
                    f"the columns {', '.join(task.columns)} and label."
                )
            rows, source = _read(paths, task.columns), str(paths[0])
        splits[split] = as_texts(rows, task, source)
    return splits


def as_texts(rows: Dataset, task: GlueTask, source: str) -> Dataset:
    """Rows in the hub's columns as "text", "text_pair", "label", every cell checked; `source` is named in errors."""
    missing = [column for column in (*task.columns, "label") if column not in rows.column_names]
    if missing:
        raise ValueError(f"{source} has no column {', '.join(missing)}; it has {', '.join(rows.column_names)}.")
    columns = {}
    for target, column in zip(("text", "text_pair"), task.columns, strict=False):
        cells = rows[column][:]
        wrong = next((i for i, cell in enumerate(cells) if not isinstance(cell, str)), None)
        if wrong is not None:
            raise ValueError(f"{source}, row {wrong}: {column} is {cells[wrong]!r}, not a string; mend or drop it.")
        columns[target] = cells
    feature, labels = rows.features["label"], rows["label"][:]
    if isinstance(feature, ClassLabel) and set(feature.names) == set(task.labels):
        # By name, since a file may number the classes in another order.
        labels = [feature.int2str(label) if label is not None and label >= 0 else label for label in labels]
    columns["label"] = [_label(label, task, f"{source}, row {i}") for i, label in enumerate(labels)]
    return Dataset.from_dict(columns)


def _label(label, task: GlueTask, place: str) -> int | float:
    names = ", ".join(f"{i} ({text})" for i, text in enumerate(task.labels)) or "a number"
    if isinstance(label, str):  # a name, or a number from a csv file
        if label in task.labels:
            return task.labels.index(label)
        try:
            label = float(label)
        except ValueError:
            raise ValueError(f"{place}: the label is {label!r}; it has to be {names}.") from None
    if label is not None and not isinstance(label, int | float):
        raise ValueError(f"{place}: the label is {label!r}; it has to be {names}.")
    if label is None or label == -1 or not math.isfinite(label):
        raise ValueError(f"{place}: the label is {label}; only rows with a label can be trained or measured on.")
    if task.is_regression:
        return float(label)
    if label != int(label) or not 0 <= label < len(task.labels):
        raise ValueError(f"{place}: the label is {label}; it has to be one of {names}.")
    return int(label)


def _files(folder: Path, split: str) -> list[Path]:
    paths = sorted(path for path in folder.glob(f"{split}*") if path.suffix in FILE_TYPES)
    whole = [path for path in paths if path.stem == split]
    if len({path.suffix for path in paths}) > 1 or (whole and len(paths) > 1):
        raise ValueError(
            f"{', '.join(path.name for path in paths)} in {folder} could all be {split}; leave one there, or parts of "
            "it of one type."
        )
    return paths


def _read(paths: Sequence[Path], texts: Sequence[str]) -> Dataset:
    options = {}
    if FILE_TYPES[paths[0].suffix] == "csv":
        # "NA" and "None" are words, and a column of nothing but numbers is text too.
        options = {"keep_default_na": False, "converters": dict.fromkeys(texts, str)}
    if paths[0].suffix == ".tsv":
        options |= {"sep": "\t", "quoting": 3}  # GLUE's own files: a quotation mark is a character
    return load_dataset(FILE_TYPES[paths[0].suffix], data_files=[str(path) for path in paths], split="train", **options)
