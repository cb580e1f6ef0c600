"""Folders of images, with a folder for each class or with a metadata file."""

from pathlib import Path, PurePosixPath

import datasets
from datasets import concatenate_datasets, load_dataset

from clippo.data.text_files import csv_options

Rows = datasets.Dataset | datasets.IterableDataset


def open_image_folder(folder: Path, split: str | None, streaming: bool, name: str) -> Rows:
    """Rows of a folder of images, undecoded.

    Args:
        folder: The images lie below a folder of the split's name, or below `folder` where they have no splits.
        split: Split, "train" by default.
        streaming: Read rows as they are needed.
        name: Name of the data set in messages.

    Raises:
        FileNotFoundError: There are no images.
        ValueError: The split is missing, or a metadata file is wrong.
    """
    if (folder / (split or "train")).is_dir() and not (folder / "metadata.csv").is_file():
        folder, split = folder / (split or "train"), None
    tables = sorted(folder.rglob("metadata.csv"))
    if tables and split is None:
        rows = concatenate_datasets([_read_metadata(table, name) for table in tables])
        return rows.to_iterable_dataset() if streaming else rows
    try:
        rows = load_dataset("imagefolder", data_dir=str(folder), split=split or "train", streaming=streaming)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{name}: {folder} holds neither data files nor images; check the path.") from error
    except ValueError as error:
        raise ValueError(f"{name}: {folder} cannot be read as a folder of images: {error}.") from error
    return rows


def _read_metadata(table: Path, name: str) -> datasets.Dataset:
    """Rows of one metadata.csv; `datasets` reads it by other rules than a CSV file, and "null" is missing there."""
    rows = load_dataset("csv", data_files=[str(table)], split="train", **csv_options(table))
    for column in rows.column_names:
        if column == "file_name" or column.endswith("_file_name"):
            target = column.removesuffix("file_name").removesuffix("_") or "image"
            paths = [str(table.parent / _inside(path, table, name)) for path in rows[column]]
            rows = rows.remove_columns(column).add_column(target, paths)
            rows = rows.cast_column(target, datasets.Image(decode=False))
    if not any(isinstance(feature, datasets.Image) for feature in rows.features.values()):
        raise ValueError(f"{name}: {table} has no column file_name; it has {', '.join(rows.column_names)}.")
    return rows


def _inside(path: str, table: Path, name: str) -> str:
    """The path of an image, if it stays below its metadata file."""
    parts = PurePosixPath(str(path).replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or "://" in str(path) or not parts.parts:
        raise ValueError(f"{name}: {table} names the file {path!r}; give a path below the folder of the table.")
    return str(path)
