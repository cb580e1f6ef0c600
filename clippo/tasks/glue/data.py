"""The GLUE task table, the rows of each task as strings and labels, and the collator that renders them.

Rows come from the hub or from local files with the hub's columns.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import ClassLabel, Dataset

from clippo.data.sources import load_rows

HUB_NAME = "nyu-mll/glue"


@dataclass(frozen=True)
class GlueTask:
    """Columns, classes and metrics of one task.

    Args:
        columns: Text columns of the hub's data set, one or two.
        labels: Class names in the order of the hub's label numbers. A regression task has none.
        metrics: Names of the reported metrics after Wang et al. 2018. The first one selects checkpoints.
        evaluation: Evaluation splits. The first one selects checkpoints.

    Example:
        >>> task = GLUE_TASKS["mrpc"]
        >>> task.is_pair, task.is_regression, task.metrics
        (True, False, ('f1', 'accuracy'))
    """

    columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: tuple[str, ...] = ("accuracy",)
    evaluation: tuple[str, ...] = ("validation",)

    @property
    def is_regression(self) -> bool:
        """True if the label is a number and not a class."""
        return not self.labels

    @property
    def is_pair(self) -> bool:
        """True if a row holds two texts."""
        return len(self.columns) == 2


_SENTENCES = ("sentence1", "sentence2")
GLUE_TASKS = {
    "cola": GlueTask(("sentence",), ("unacceptable", "acceptable"), ("matthews_correlation",)),
    "sst2": GlueTask(("sentence",), ("negative", "positive")),
    "mrpc": GlueTask(_SENTENCES, ("not_equivalent", "equivalent"), ("f1", "accuracy")),
    "stsb": GlueTask(_SENTENCES, (), ("spearmanr", "pearson")),
    "qqp": GlueTask(("question1", "question2"), ("not_duplicate", "duplicate"), ("f1", "accuracy")),
    "mnli": GlueTask(
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        evaluation=("validation_matched", "validation_mismatched"),
    ),
    "qnli": GlueTask(("question", "sentence"), ("entailment", "not_entailment")),
    "rte": GlueTask(_SENTENCES, ("entailment", "not_entailment")),
    "wnli": GlueTask(_SENTENCES, ("not_entailment", "entailment")),
}


def glue_task(name: str) -> GlueTask:
    """Returns the task of that name from the table.

    Raises:
        ValueError: The table has no such task.
    """
    if name not in GLUE_TASKS:
        raise ValueError(f"{name!r} is not a GLUE task; choose one of {', '.join(GLUE_TASKS)}.")
    return GLUE_TASKS[name]


def load_glue(name: str, folder: str | Path | None = None) -> dict[str, Dataset]:
    """Loads and checks the training and evaluation splits of one task.

    Args:
        name: A key of `GLUE_TASKS`.
        folder: Folder with NAME/train* and NAME/validation* files (parquet, csv, tsv, json or jsonl). None loads from
            the hub. "train_subset.parquet" counts as train if it is the only such file. One of MNLI's two evaluation
            files is enough.

    Returns:
        {"train": ..., "validation": ...} with the columns "text", "text_pair" (pair tasks) and "label". MNLI has
        "validation_matched" and "validation_mismatched", as far as the files exist.

    Raises:
        FileNotFoundError: A split has no file.
        ValueError: A column is missing, a text is not a string, a label is not valid, or the files of a split are
            ambiguous.
    """
    task = glue_task(name)
    if folder is None:
        return {
            split: as_texts(load_rows(HUB_NAME, split, name), task, f"{HUB_NAME}, {name}, {split}")
            for split in ("train", *task.evaluation)
        }
    place, splits = Path(folder) / name, {}
    for split in ("train", *task.evaluation):
        if any(place.glob(f"{split}*")):
            # "NA" and "None" are words, and a column with numbers only is text too.
            splits[split] = as_texts(load_rows(place, split, texts=task.columns), task, f"{place}, {split}")
        elif split == "train" or not any(any(place.glob(f"{other}*")) for other in task.evaluation):
            raise FileNotFoundError(
                f"No {split}* file in {place}; put a .parquet, .csv, .tsv, .json or .jsonl file there with the columns "
                f"{', '.join(task.columns)} and label."
            )
    return splits


def as_texts(rows: Dataset, task: GlueTask, source: str) -> Dataset:
    """Converts rows with the hub's columns to "text", "text_pair" and "label", and checks every cell.

    Args:
        rows: Rows with the columns of the task.
        task: An entry of `GLUE_TASKS`.
        source: Name of the data in error messages.
    """
    missing = [column for column in (*task.columns, "label") if column not in rows.column_names]
    if missing:
        raise ValueError(f"{source} has no column {', '.join(missing)}; it has {', '.join(rows.column_names)}.")
    columns = {}
    for target, column in zip(("text", "text_pair"), task.columns, strict=False):
        cells = rows[column][:]
        wrong = next((i for i, cell in enumerate(cells) if not isinstance(cell, str)), None)
        if wrong is not None:
            raise ValueError(f"{source}, row {wrong}: {column} is {cells[wrong]!r}, not a string; fix or drop the row.")
        columns[target] = cells
    feature, labels = rows.features["label"], rows["label"][:]
    if isinstance(feature, ClassLabel) and set(feature.names) == set(task.labels):
        # Labels are matched by name because a file may number the classes in another order.
        labels = [feature.int2str(label) if label is not None and label >= 0 else label for label in labels]
    columns["label"] = [_parse_label(label, task, f"{source}, row {i}") for i, label in enumerate(labels)]
    return Dataset.from_dict(columns)


def _parse_label(label: Any, task: GlueTask, place: str) -> int | float:
    names = ", ".join(f"{i} ({text})" for i, text in enumerate(task.labels)) or "a number"
    if isinstance(label, str):  # a class name, or a number from a csv file
        if label in task.labels:
            return task.labels.index(label)
        try:
            label = float(label)
        except ValueError:
            raise ValueError(f"{place}: the label is {label!r}; it has to be {names}.") from None
    if label is not None and not isinstance(label, int | float):
        raise ValueError(f"{place}: the label is {label!r}; it has to be {names}.")
    if label is None or label == -1 or not math.isfinite(label):
        raise ValueError(f"{place}: the label is {label}; training and evaluation need labelled rows only.")
    if task.is_regression:
        return float(label)
    if label != int(label) or not 0 <= label < len(task.labels):
        raise ValueError(f"{place}: the label is {label}; it has to be one of {names}.")
    return int(label)


def add_length(rows: Dataset) -> Dataset:
    """Adds the column `length`, the number of characters of a row. Trainer groups rows by it."""
    texts = [rows[name][:] for name in ("text", "text_pair") if name in rows.column_names]
    return rows.add_column("length", [sum(map(len, row)) for row in zip(*texts, strict=True)])


def count_truncated(rows: Dataset, tokenizer: Any) -> int:
    """Counts the texts or pairs that do not fit on the canvas."""
    truncated = 0
    for start in range(0, len(rows), 1000):
        part = rows[start : start + 1000]
        pairs = (part["text"], part["text_pair"]) if "text_pair" in part else (part["text"],)
        truncated += sum(measured.chars_cut > 0 for measured in tokenizer.measure(*pairs))
    return truncated


@dataclass
class TextClassificationCollator:
    """Renders labelled texts or pairs into a batch for `ClippoForSequenceClassification`.

    Args:
        tokenizer: A `ClippoTokenizer`.
        canvas_format: Format of the canvases on their way to the model: "packed" (1 bit a pixel), "uint8" or "float".

    Returns:
        `text_pixel_values`, and `labels` as int64 (B,), or as float32 (B,) if the labels are floats. The call takes a
        list of {"text", "label"}. All of them or none of them have "text_pair".

    Example:
        >>> from clippo import ClippoTokenizer
        >>> collate = TextClassificationCollator(ClippoTokenizer(canvas_size=64), canvas_format="uint8")
        >>> batch = collate([{"text": "good", "label": 1}, {"text": "bad", "label": 0}])
        >>> batch["text_pixel_values"].shape, batch["labels"]
        (torch.Size([2, 1, 64, 64]), tensor([1, 0]))
    """

    tokenizer: Any
    canvas_format: str = "packed"

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        pair = [row["text_pair"] for row in rows] if "text_pair" in rows[0] else None
        canvases = self.tokenizer(
            [row["text"] for row in rows], pair, return_tensors="pt", canvas_format=self.canvas_format
        )
        labels = torch.tensor([row["label"] for row in rows])  # (B,)
        return {**canvases, "labels": labels.float() if labels.is_floating_point() else labels}
