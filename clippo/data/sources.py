"""Opening data sets: local files, folders, WebDataset shards and names on the hub, in one notation.

`load_rows` opens any of them for pretraining, evaluation and the tasks. `open_source` opens the source of a recipe.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import datasets
from datasets import load_dataset, load_from_disk

from clippo.data.damaged_files import READ_ERRORS, find_unreadable
from clippo.data.image_folders import Rows, open_image_folder
from clippo.data.local_files import BUILDERS, SAVED, file_type, has_splits, how_to_get, local_files, names_files
from clippo.data.shards import check_end, open_shards
from clippo.data.specs import SourceSpec
from clippo.data.text_files import csv_options

__all__ = ["NOTATION", "Rows", "check_columns", "has_splits", "load_rows", "open_source"]

# Messages of `datasets` about files without rows.
NO_ROWS = ("corresponds to no data", "Must pass at least one table")
TEXTS = ("string", "large_string", "string_view", "null")
HUB_NAME = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)?")
# "folder:validation" or "owner/name:train[:100]", but neither "C:\..." nor "https://...".
NOTATION = re.compile(r"(?P<path>[^:]{2,}):(?P<split>[A-Za-z_][\w.+-]*(?:\[[^\]]*\])?)")


def load_rows(
    path: str | Path,
    split: str | None = None,
    config: str | None = None,
    columns: Sequence[str] | None = None,
    streaming: bool = False,
    *,
    texts: Sequence[str] = (),
    name: str | None = None,
) -> Rows:
    """Open a data set; its images stay undecoded cells {"bytes", "path"}.

    Args:
        path: One of:
            * a file or a glob of .parquet, .json, .jsonl, .csv, .tsv, .arrow or .tar (WebDataset) files; JSON and CSV
              files may be compressed;
            * a folder of such files, whose names begin with their split ("train-00000.parquet");
            * a folder that `save_to_disk` wrote;
            * a folder of images, with a folder for each class or a metadata file, and perhaps a folder for each split;
            * the name of a data set on the hub.
            "path:split" is a short form of path and split.
        split: Split to open, "train" by default. Files and globs have no splits, see `has_splits`.
        config: Configuration of a data set on the hub.
        columns: Columns to keep; "json.title" is the field `title` of the column `json`, which is kept whole.
        streaming: Read rows as they are needed instead of preparing a copy that allows random access.
        texts: Columns of CSV files that hold text even where every cell is a number.
        name: Name of the data set in messages, `path` by default.

    Returns:
        A `datasets.Dataset`, or with `streaming` a `datasets.IterableDataset`.

    Raises:
        FileNotFoundError, ConnectionError: No file matches, or the hub has no such data set.
        ValueError: A file cannot be read, a column is missing, or an argument has no effect on such a path.

    Example:
        >>> load_rows("docs/pictures/queries.json").column_names
        ['text', 'language', 'picture', 'held_out']
    """
    path, name = str(path), name or str(path)
    notation = NOTATION.fullmatch(path)
    if notation and split is None and not Path(path).exists():
        path, split = notation["path"], notation["split"]
    rows = _load(path, split, config, streaming, texts, name)
    if rows.column_names is None:  # a stream knows its columns after its first row
        rows = rows._resolve_features()
    if columns is not None:
        rows = _select(rows, columns, name)
    for column, feature in (rows.features or {}).items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows


def open_source(spec: SourceSpec, all_columns: bool = False) -> Rows:
    """Open the source of a recipe, reduced to the columns that training reads.

    Args:
        spec: The source.
        all_columns: Keep every column, after the same checks.

    Raises:
        FileNotFoundError, ConnectionError: The path matches no file, or the hub has no such data set.
        ValueError: A file cannot be read, or a column is missing or holds no text.
    """
    split = None if spec.split == "train" else spec.split
    rows = load_rows(spec.path, split, spec.config, streaming=spec.streaming, name=spec.name)
    if spec.kind == "image_text":
        check_columns(rows, [spec.image_column], spec.name, nested=False)
    every, selected = rows.features, _select(rows, spec.columns, spec.name)
    if every:
        _check_texts(spec, every)
    return rows if all_columns else selected


def check_columns(rows: Rows, columns: Iterable[str], name: str, nested: bool = True) -> None:
    """Raise `ValueError` if a column is missing; the message says which columns hold images and texts.

    Args:
        rows: Opened data set.
        columns: Wanted columns.
        name: Name of the data set in the message.
        nested: Accept "json.title", the field `title` of the column `json`.
    """
    columns = list(columns)
    missing = [column for column in columns if not _is_there(rows, column, nested)]
    if not missing:
        return
    hints = []
    for kind, what, option in (
        (datasets.Image, "images", "image_column in a recipe, --image on the command line"),
        (datasets.Value, "texts", "caption_columns in a recipe, --captions on the command line"),
    ):
        found = [column for column, feature in (rows.features or {}).items() if isinstance(feature, kind)]
        found = [column for column in found if kind is datasets.Image or rows.features[column].dtype in TEXTS]
        if found and not set(found) & set(columns):
            hints.append(f" Its {what} are in {', '.join(found)}: name them ({option}).")
    names = ", ".join(rows.column_names)
    raise ValueError(f"No column {', '.join(missing)} in {name}; it has {names}.{''.join(hints)}")


def _select(rows: Rows, columns: Sequence[str], name: str) -> Rows:
    """The columns, "json.title" as "json"."""
    check_columns(rows, columns, name)
    return rows.select_columns(list(dict.fromkeys(_top(rows, column) for column in columns)))


def _top(rows: Rows, column: str) -> str:
    return column if column in rows.column_names else column.partition(".")[0]


def _is_there(rows: Rows, column: str, nested: bool) -> bool:
    if column in rows.column_names:
        return True
    top, _, field = column.partition(".")
    if not nested or top not in rows.column_names:
        return False
    entries = (rows.features or {}).get(top)
    return entries is None or (isinstance(entries, dict) and field in entries)


def _check_texts(spec: SourceSpec, features: datasets.Features) -> None:
    for column in spec.text_columns:
        top, _, field = column.partition(".")
        feature = features[column] if column in features else features[top][field]
        lists = (datasets.List, datasets.LargeList)
        inner = feature.feature if isinstance(feature, lists) and spec.text_column is None else feature
        dtype = getattr(inner, "dtype", None)
        if dtype not in TEXTS:
            wanted = "strings" if spec.text_column is not None else "strings or lists of strings"
            raise ValueError(f"{spec.name}: column {column} must hold {wanted}, it holds {dtype or feature}.")


def _load(path: str, split: str | None, config: str | None, streaming: bool, texts: Sequence[str], name: str) -> Rows:
    folder = Path(path)
    if folder.is_dir() or names_files(path):
        what = "a local folder" if folder.is_dir() else "local files, which `path` names"
        _refuse(name, what, split=None if folder.is_dir() else split, config=config)
        if any((folder / file).is_file() for file in SAVED):
            return _open_saved(folder, split, streaming, name)
        files = local_files(path, split, name)
        if files:
            return _open_files(files, streaming, texts, name)
        return open_image_folder(folder, split, streaming, name)
    if folder.is_absolute() or not HUB_NAME.fullmatch(path):
        raise FileNotFoundError(f"{name}: there is no file or folder {path}; check the path.{how_to_get(path)}")
    try:
        return load_dataset(path, config, split=split or "train", streaming=streaming)
    except (ConnectionError, FileNotFoundError) as error:  # DatasetNotFoundError is a FileNotFoundError
        hint = how_to_get(path) or " Check the path, or give the name of a data set on the hub: owner/name."
        raise type(error)(
            f"{name}: there is no file or folder {path} below {Path.cwd()}.{hint} The hub reports: {error}"
        ) from error


def _refuse(name: str, what: str, **options: Any) -> None:
    """Raise `ValueError` for options that have no effect."""
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{name}: {', '.join(given)} would have no effect on {what}; leave it out.")


def _open_files(files: Sequence[str], streaming: bool, texts: Sequence[str], name: str) -> Rows:
    """Rows of local files of one type."""
    kind = file_type(files[0])
    if kind == ".tar":
        for file in files:
            check_end(file, name)
    try:
        rows = _open_type(kind, list(files), streaming, texts)
        if rows.column_names is None:  # a stream knows its columns after its first row
            rows = rows._resolve_features()
    except (*READ_ERRORS, StopIteration, datasets.exceptions.DatasetGenerationError) as error:
        where = find_unreadable(files, name) or f"one of {', '.join(files[:3])}"
        reason = str(error.__cause__ or error).strip().rstrip(".")
        if not reason or any(words in reason for words in NO_ROWS):
            reason = "it holds no rows"
        raise ValueError(f"{name}: {where} cannot be read: {reason}.") from error
    if not rows.column_names:
        raise ValueError(f"{name}: {files[0]} holds no rows.")
    return rows


def _open_type(kind: str, files: list[str], streaming: bool, texts: Sequence[str]) -> Rows:
    if kind == ".tar":
        return open_shards(files, streaming)
    options = csv_options(files[0]) if BUILDERS[kind] == "csv" else {}
    if options and texts:
        options["converters"] = dict.fromkeys(texts, str)
    return load_dataset(BUILDERS[kind], data_files=files, split="train", streaming=streaming, **options)


def _open_saved(folder: Path, split: str | None, streaming: bool, name: str) -> Rows:
    """Rows of a folder that `save_to_disk` wrote."""
    rows = load_from_disk(str(folder))
    if isinstance(rows, datasets.DatasetDict):
        if (split or "train") not in rows:
            raise ValueError(f"{name}: no split {split or 'train'} in {folder}; it has {', '.join(rows)}.")
        rows = rows[split or "train"]
    else:
        _refuse(name, "a saved data set without splits", split=split)
    return rows.to_iterable_dataset() if streaming else rows
