"""Opening data sets: local files, folders, WebDataset shards and names on the hub, in one notation.

`load_rows` opens any of them for pretraining, evaluation and the tasks. `open_source` opens the source of a recipe.
"""

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow
from datasets import load_dataset, load_from_disk

from clippo.data.damage import check_shard, find_unreadable
from clippo.data.specs import SourceSpec
from clippo.data.text_files import csv_options

Rows = datasets.Dataset | datasets.IterableDataset

BUILDERS = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".arrow": "arrow",
    ".tar": "webdataset",
}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")  # of json and csv files; C4 is .json.gz
SPLITS = ("train", "validation", "valid", "val", "dev", "test")
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")  # captions of an image folder
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
    try:
        rows = _load(path, split, config, streaming, texts, name)
        if rows.column_names is None:  # a stream knows its columns after its first row
            rows = rows._resolve_features()
    except (datasets.exceptions.DatasetGenerationError, pyarrow.ArrowInvalid) as error:
        where = find_unreadable(path, name) or path
        raise ValueError(f"{name}: {where} cannot be read: {error.__cause__ or error}.") from error
    if columns is not None:
        rows = _select(rows, columns, name)
    for column, feature in (rows.features or {}).items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows


def has_splits(path: str | Path) -> bool:
    """False for a file, a glob or a folder that `load_rows` can only read whole.

    Args:
        path: As for `load_rows`.
    """
    folder = Path(path)
    if not folder.is_dir():
        return not _names_files(str(path))
    if (folder / "state.json").is_file():
        return False
    images = any(child.suffix.lower() in IMAGES for child in folder.iterdir())
    return bool(_data_files(folder) and not images) or any((folder / split).is_dir() for split in SPLITS)


def open_source(spec: SourceSpec) -> Rows:
    """Open the source of a recipe, reduced to the columns that training reads.

    Args:
        spec: The source.

    Raises:
        FileNotFoundError, ConnectionError: The path matches no file, or the hub has no such data set.
        ValueError: A file cannot be read, or a column is missing or holds no text.
    """
    split = None if spec.split == "train" else spec.split
    rows = load_rows(spec.path, split, spec.config, streaming=spec.streaming, name=spec.name)
    if spec.kind == "image_text" and spec.image_column not in rows.column_names:  # "json.title" holds no image
        raise ValueError(_no_column([spec.image_column], rows, spec.name))
    every, rows = rows.features, _select(rows, spec.columns, spec.name)
    if every:
        _check_texts(spec, every)
    return rows


def _select(rows: Rows, columns: Sequence[str], name: str) -> Rows:
    """The columns, "json.title" as "json"."""
    names = rows.column_names
    tops = {column: column if column in names else column.partition(".")[0] for column in columns}
    missing = [column for column, top in tops.items() if top not in names or not _is_there(rows, top, column)]
    if missing:
        raise ValueError(_no_column(missing, rows, name))
    return rows.select_columns(list(dict.fromkeys(tops.values())))


def _is_there(rows: Rows, top: str, column: str) -> bool:
    """True when `column` is `top` itself or a field of it."""
    if column == top or not rows.features:
        return True
    entries = rows.features[top]
    return isinstance(entries, dict) and column.removeprefix(top + ".") in entries


def _no_column(missing: Sequence[str], rows: Rows, name: str) -> str:
    return f"{name}: no column {', '.join(missing)}; there are {', '.join(rows.column_names)}."


def _check_texts(spec: SourceSpec, features: datasets.Features) -> None:
    for column in spec.text_columns:
        top, _, field = column.partition(".")
        feature = features[column] if column in features else features[top][field]
        lists = (datasets.List, datasets.LargeList)
        inner = feature.feature if isinstance(feature, lists) and spec.text_column is None else feature
        dtype = getattr(inner, "dtype", None)
        if dtype not in ("string", "large_string", "string_view", "null"):
            wanted = "strings" if spec.text_column is not None else "strings or lists of strings"
            raise ValueError(f"{spec.name}: column {column} must hold {wanted}, it holds {dtype or feature}.")


def _load(path: str, split: str | None, config: str | None, streaming: bool, texts: Sequence[str], name: str) -> Rows:
    folder = Path(path)
    if folder.is_dir():
        _refuse(name, "a local folder", config=config)
        if any((folder / file).is_file() for file in ("dataset_dict.json", "state.json")):
            return _saved(folder, split, streaming, name)
        files = _files_of_split(folder, split, name)
        return _open_files(files, streaming, texts, name) if files else _image_folder(folder, split, streaming, name)
    if _names_files(path):
        _refuse(name, "local files, which `path` names", split=split, config=config)
        files = sorted(glob.glob(path, recursive=True))
        if not files:
            raise FileNotFoundError(f"{name}: no file matches {path}.")
        return _open_files(files, streaming, texts, name)
    if folder.is_absolute() or path.startswith("."):
        raise FileNotFoundError(f"{name}: there is no {path}.")
    try:
        return load_dataset(path, config, split=split or "train", streaming=streaming)
    except (ConnectionError, FileNotFoundError) as error:  # DatasetNotFoundError is a FileNotFoundError
        raise type(error)(
            f"{name}: there is no file or folder {path} below {Path.cwd()}, and the hub did not help: {error}"
        ) from error


def _refuse(name: str, what: str, **options: Any) -> None:
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise ValueError(f"{name}: {', '.join(given)} would have no effect on {what}; leave it out.")


def _names_files(path: str) -> bool:
    return _file_type(path) in BUILDERS or any(char in path for char in "*?[")


def _file_type(file: str | Path) -> str:
    path = Path(file)
    inner = Path(path.stem).suffix
    return inner if path.suffix in COMPRESSIONS and BUILDERS.get(inner) in ("json", "csv") else path.suffix


def _open_files(files: Sequence[str], streaming: bool, texts: Sequence[str], name: str) -> Rows:
    types = sorted({_file_type(file) for file in files})
    if len(types) > 1 or types[0] not in BUILDERS:
        raise ValueError(f"{name}: there are files of type {', '.join(types)}; give one type of {', '.join(BUILDERS)}.")
    builder, options = BUILDERS[types[0]], {}
    if builder == "webdataset":
        for file in files:
            check_shard(file, name)
    if builder == "csv":
        options = csv_options(files[0])
        if texts:
            options["converters"] = dict.fromkeys(texts, str)
    return load_dataset(builder, data_files=list(files), split="train", streaming=streaming, **options)


def _data_files(folder: Path) -> list[Path]:
    files = (file for file in folder.iterdir() if file.is_file() and file.name not in METADATA)
    return sorted(file for file in files if _file_type(file) in BUILDERS)


def _files_of_split(folder: Path, split: str | None, name: str) -> list[str]:
    """Data files of a split in a folder; none for a folder of images."""
    files = _data_files(folder)
    found = [file for file in files if file.name.startswith(split or "train")]
    if not found and any(child.is_dir() or child.suffix.lower() in IMAGES for child in folder.iterdir()):
        return []  # a folder of images; data files beside them belong to something else
    if not found and split is None and not any(file.name.startswith(SPLITS) for file in files):
        found = files  # nothing is named after a split
    if files and not found:
        raise FileNotFoundError(
            f"{name}: no {split or 'train'}* file in {folder}; it has {', '.join(file.name for file in files)}. Give "
            "the beginning of a name as the split."
        )
    whole = [file for file in found if file.name.partition(".")[0] == (split or "train")]
    if len({_file_type(file) for file in found}) > 1 or (whole and len(found) > 1):
        raise ValueError(
            f"{name}: {', '.join(file.name for file in found)} in {folder} could all be the split "
            f"{split or 'train'}; leave one, or parts of one type."
        )
    return [str(file) for file in found]


def _saved(folder: Path, split: str | None, streaming: bool, name: str) -> Rows:
    """A folder that `save_to_disk` wrote."""
    rows = load_from_disk(str(folder))
    if isinstance(rows, datasets.DatasetDict):
        if (split or "train") not in rows:
            raise ValueError(f"{name}: no split {split or 'train'} in {folder}; it has {', '.join(rows)}.")
        rows = rows[split or "train"]
    else:
        _refuse(name, "a saved data set without splits", split=split)
    return rows.to_iterable_dataset() if streaming else rows


def _image_folder(folder: Path, split: str | None, streaming: bool, name: str) -> Rows:
    """Images below a folder of the split's name, or below `folder` where the images have no splits."""
    if split is not None and (folder / split).is_dir():
        folder, split = folder / split, None
    return load_dataset("imagefolder", data_dir=str(folder), split=split or "train", streaming=streaming)
