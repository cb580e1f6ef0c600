"""Opening a source of pairs: a hub name, local files, an image folder or WebDataset shards, all through `datasets`.

docs/data.md describes the fields as a recipe uses them.
"""

import glob
import logging
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet as parquet
from datasets import load_dataset
from huggingface_hub.dataclasses import StrictDataclassFieldValidationError, strict

logger = logging.getLogger(__name__)

BUILDERS = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".arrow": "arrow",
    ".tar": "webdataset",
}
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")  # of json and csv files; C4 is .json.gz
KINDS = ("image_text", "text_text")


@strict
@dataclass
class SourceSpec:
    """One source of a training or validation mixture, as written in a recipe.

    Args:
        path: Glob of .parquet, .json, .jsonl, .csv (these three also .gz), .arrow or .tar (WebDataset) files; a folder
            of pictures with a metadata file; or the name of a data set on the hub.
        kind: "image_text", or "text_text" for pairs of texts.
        name: What messages call it; the path by default.
        weight: Share of the batch; the weights of a mixture sum to 1.
        split, config: Of a data set on the hub; `split` also of an image folder with folders for its splits.
        streaming: Read on the fly instead of by random access; WebDataset shards usually are.
        image_column: Column of the pictures.
        caption_columns: Column(s) of texts, strings or lists of strings; "json.title" is the field `title` of a column
            `json`, which is where WebDataset shards keep them. Image-text: one of all captions of a row is drawn each
            time. Text-text: two different ones are.
        fields: "all" draws among all captions of all columns; "one" first draws a column, then a caption in it, which
            is how YFCC's title, description and tags are used.
        descriptive_only: Drop captions that describe nothing (file names, dates, camera defaults).
        text_column: Text-text: column of documents, read as pairs of consecutive sentences.
        min_chars, max_chars: Lengths of such sentences; longer ones would be cut by the canvas.

    Raises:
        StrictDataclassFieldValidationError: A value of another type.
        ValueError: Values that do not go together; nothing that is set stays without effect.
    """

    path: str
    kind: str = "image_text"
    name: str | None = None
    weight: float | int = 1.0
    split: str = "train"
    config: str | None = None
    streaming: bool = False
    image_column: str = "image"
    caption_columns: str | list[str] | None = None
    fields: str = "all"
    descriptive_only: bool = False
    text_column: str | None = None
    min_chars: int = 8
    max_chars: int = 200

    def __post_init__(self):
        self.name = self.name or self.path
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: kind={self.kind!r} is not known; write one of {', '.join(KINDS)}.")
        if self.fields not in ("all", "one"):
            raise ValueError(f"{self.name}: fields={self.fields!r} is not known; write 'all' or 'one'.")
        if isinstance(self.caption_columns, str):
            self.caption_columns = [self.caption_columns]
        if self.kind == "text_text" and (self.text_column is None) == (not self.caption_columns):
            raise ValueError(
                f"{self.name}: a text_text source takes text_column (documents) or caption_columns (several texts a "
                "row), one of the two."
            )
        if self.kind == "image_text" and not self.caption_columns:
            raise ValueError(f"{self.name}: an image_text source needs caption_columns.")
        if self.kind == "image_text":
            self._refuse("an image_text source", "text_column", "min_chars", "max_chars")
        elif self.text_column is not None:
            self._refuse("documents", "fields", "descriptive_only", "image_column")
        else:
            self._refuse("pairs of captions", "fields", "image_column", "min_chars", "max_chars")
        if not 1 <= self.min_chars <= self.max_chars:
            raise ValueError(
                f"{self.name}: min_chars={self.min_chars} and max_chars={self.max_chars} must be a rising range from 1."
            )

    def _refuse(self, what: str, *names: str) -> None:
        """An error for options that would have no effect here."""
        defaults = {field.name: field.default for field in fields(self)}
        given = [name for name in names if getattr(self, name) != defaults[name]]
        if given:
            raise ValueError(f"{self.name}: {', '.join(given)} would have no effect on {what}; leave it out.")

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> "SourceSpec":
        """From a mapping of a recipe.

        Raises:
            ValueError: No mapping, a key that no field is called, no path, or values that cannot be.
        """
        known = [field.name for field in fields(cls)]
        if not isinstance(spec, Mapping):
            raise ValueError(f"A source is a mapping of {', '.join(known)}, got {spec!r}.")
        unknown = sorted(set(map(str, spec)) - set(known))
        if unknown or "path" not in spec:
            wrong = f"has unknown keys {', '.join(unknown)}" if unknown else "has no path"
            raise ValueError(f"The source {dict(spec)} {wrong}; a source knows {', '.join(known)}.")
        try:
            return cls(**spec)
        except StrictDataclassFieldValidationError as error:
            raise ValueError(f"The source {spec.get('name') or spec['path']}: {error.__cause__ or error}.") from error

    @property
    def text_columns(self) -> list[str]:
        """The columns of documents or captions."""
        return [self.text_column] if self.text_column is not None else list(self.caption_columns)

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        return [*([self.image_column] if self.kind == "image_text" else []), *self.text_columns]


def open_source(spec: SourceSpec) -> "datasets.Dataset | datasets.IterableDataset":
    """The rows of a source, reduced to the columns that are read, pictures not decoded yet.

    Raises:
        FileNotFoundError, ConnectionError: The path matches no file, or there is no such data set on the hub.
        ValueError: The files cannot be read, or a column is missing or holds no text; the sentence says what there is.
    """
    try:
        rows = _load(spec)
        if rows.column_names is None:  # a stream tells its columns with its first row
            rows = rows._resolve_features()
    except (datasets.exceptions.DatasetGenerationError, pyarrow.ArrowInvalid) as error:
        where = find_unreadable(spec) or spec.path
        raise ValueError(f"{spec.name}: {where} cannot be read: {error.__cause__ or error}.") from error
    names = rows.column_names
    tops = {column: column if column in names else column.partition(".")[0] for column in spec.columns}
    missing = [column for column, top in tops.items() if top not in names]
    missing += [column for column, top in tops.items() if top in names and not _is_there(spec, rows, top, column)]
    if missing:
        raise ValueError(f"{spec.name}: no column {', '.join(missing)}; there are {', '.join(names)}.")
    if rows.features:
        _check_texts(spec, rows.features)
    rows = rows.select_columns(list(dict.fromkeys(tops.values())))
    if spec.kind == "image_text" and rows.features and isinstance(rows.features[spec.image_column], datasets.Image):
        rows = rows.cast_column(spec.image_column, datasets.Image(decode=False))
    return rows


def _is_there(spec: SourceSpec, rows: "datasets.Dataset | datasets.IterableDataset", top: str, column: str) -> bool:
    """Whether `column` is `top` itself or, for texts, an entry of it, as "json.title" is of "json"."""
    if column == top or not rows.features:
        return True
    entries = rows.features[top]
    return column != spec.image_column and isinstance(entries, dict) and column.removeprefix(top + ".") in entries


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


def _load(spec: SourceSpec):
    path = Path(spec.path)
    if path.is_dir():
        spec._refuse("a local folder", "config")
        return load_dataset("imagefolder", data_dir=str(path), split=spec.split, streaming=spec.streaming)
    if _file_type(spec.path) in BUILDERS or any(char in spec.path for char in "*?["):
        # They have no splits of their own: what the glob says is what is read.
        spec._refuse("local files, which `path` names", "split", "config")
        files = local_files(spec)
        types = sorted({_file_type(file) for file in files})
        if len(types) > 1 or types[0] not in BUILDERS:
            raise ValueError(
                f"{spec.name}: {spec.path} matches files of type {', '.join(types)}; give one type of "
                f"{', '.join(BUILDERS)}."
            )
        if types == [".tar"]:
            for file in files:
                _check_tar(file, spec.name)
        return load_dataset(BUILDERS[types[0]], data_files=files, split="train", streaming=spec.streaming)
    if path.is_absolute() or spec.path.startswith("."):
        raise FileNotFoundError(f"{spec.name}: there is no {spec.path}.")
    try:
        return load_dataset(spec.path, spec.config, split=spec.split, streaming=spec.streaming)
    except (ConnectionError, FileNotFoundError) as error:  # DatasetNotFoundError is a FileNotFoundError
        raise type(error)(
            f"{spec.name}: there is no file or folder {spec.path} below {Path.cwd()}, and the hub did not help: {error}"
        ) from error


def local_files(spec: SourceSpec) -> list[str]:
    """What `path` matches, sorted. Raises `FileNotFoundError` when it is nothing."""
    files = sorted(glob.glob(spec.path, recursive=True))
    if not files:
        raise FileNotFoundError(f"{spec.name}: no file matches {spec.path}.")
    return files


def _file_type(file: str) -> str:
    path = Path(file)
    inner = Path(path.stem).suffix
    return inner if path.suffix in COMPRESSIONS and BUILDERS.get(inner) in ("json", "csv") else path.suffix


def _check_tar(file: str, name: str) -> None:
    """A tar archive ends with two blocks of zeros; Python's tarfile takes one that was cut short for complete."""
    size = Path(file).stat().st_size
    with open(file, "rb") as archive:
        archive.seek(max(0, size - 1024))
        if size % 512 or archive.read().strip(b"\0"):
            raise ValueError(
                f"{name}: the shard {file} was cut short; download it again or take it out of the pattern."
            )


def find_unreadable(spec: SourceSpec) -> str | None:
    """The first local tar or parquet file that cannot be read to its end, after `datasets` failed and named none.

    Reads the headers of tar archives and all of parquet files, so it may take as long as a pass over them.
    """
    files = sorted(glob.glob(spec.path, recursive=True))
    if len(files) > 1:
        logger.warning("%s: a file cannot be read; looking for the one among %d.", spec.name, len(files))
    for file in files:
        try:
            if _file_type(file) == ".tar":
                with tarfile.open(file) as archive:
                    for _ in archive:
                        pass
            elif _file_type(file) == ".parquet":
                with parquet.ParquetFile(file) as table:
                    for _ in table.iter_batches():
                        pass
            elif len(files) == 1:
                return file
        except (OSError, EOFError, tarfile.TarError, pyarrow.ArrowException):
            return file
    return None
