"""Opening a source of pairs: a hub name, local files, an image folder or WebDataset shards, all through `datasets`.

docs/data.md describes the fields as a recipe uses them.
"""

import glob
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import datasets
import pyarrow
from datasets import load_dataset

BUILDERS = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".arrow": "arrow",
    ".tar": "webdataset",
}
KINDS = ("image_text", "text_text")


@dataclass
class SourceSpec:
    """One source of a training or validation mixture, as written in a recipe.

    Args:
        path: Glob of .parquet, .json, .jsonl, .csv, .arrow or .tar (WebDataset) files; a folder of pictures with a
            metadata file; or the name of a data set on the hub.
        kind: "image_text", or "text_text" for pairs of texts.
        name: What messages call it; the path by default.
        weight: Share of the batch; the weights of a mixture sum to 1.
        split, config: Of a data set on the hub.
        streaming: Read on the fly instead of by random access; WebDataset shards usually are.
        image_column: Column of the pictures.
        caption_columns: Column(s) of texts, strings or lists of strings. Image-text: one of all captions of a row is
            drawn each time. Text-text: two different ones are.
        fields: "all" draws among all captions of all columns; "one" first draws a column, then a caption in it, which
            is how YFCC's title, description and tags are used.
        descriptive_only: Drop captions that describe nothing (file names, dates, camera defaults).
        text_column: Text-text: column of documents, read as pairs of consecutive sentences.
        min_chars, max_chars: Lengths of such sentences; longer ones would be cut by the canvas.
    """

    path: str
    kind: str = "image_text"
    name: str | None = None
    weight: float = 1.0
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

    @classmethod
    def from_dict(cls, spec: dict[str, Any]) -> "SourceSpec":
        """From a mapping of a recipe.

        Raises:
            ValueError: A key that no field is called, or no path.
        """
        known = [field.name for field in fields(cls)]
        unknown = sorted(set(spec) - set(known))
        if unknown or "path" not in spec:
            wrong = f"has unknown keys {', '.join(unknown)}" if unknown else "has no path"
            raise ValueError(f"The source {spec} {wrong}; a source knows {', '.join(known)}.")
        return cls(**spec)

    @property
    def columns(self) -> list[str]:
        """The columns that are read."""
        if self.text_column is not None:
            return [self.text_column]
        return [*([self.image_column] if self.kind == "image_text" else []), *self.caption_columns]


def open_source(spec: SourceSpec) -> "datasets.Dataset | datasets.IterableDataset":
    """The rows of a source, reduced to the columns that are read, pictures not decoded yet.

    Raises:
        FileNotFoundError: The path is no hub name and matches no file.
        ValueError: The files cannot be read, or a column is missing; the sentence says which there are.
    """
    try:
        rows = _load(spec)
    except (datasets.exceptions.DatasetGenerationError, pyarrow.ArrowInvalid) as error:
        raise ValueError(f"{spec.name}: {spec.path} cannot be read: {error.__cause__ or error}.") from error
    names = rows.column_names
    if names is None:  # a stream tells its columns with its first row
        rows = rows._resolve_features()
        names = rows.column_names
    missing = [column for column in spec.columns if column not in names]
    if missing:
        raise ValueError(f"{spec.name}: no column {', '.join(missing)}; there are {', '.join(names)}.")
    rows = rows.select_columns(spec.columns)
    if spec.kind == "image_text" and rows.features and isinstance(rows.features[spec.image_column], datasets.Image):
        rows = rows.cast_column(spec.image_column, datasets.Image(decode=False))
    return rows


def _load(spec: SourceSpec):
    path = Path(spec.path)
    if path.is_dir():
        return load_dataset("imagefolder", data_dir=str(path), split=spec.split, streaming=spec.streaming)
    if path.suffix in BUILDERS or any(char in spec.path for char in "*?["):
        files = sorted(glob.glob(spec.path, recursive=True))
        if not files:
            raise FileNotFoundError(f"{spec.name}: no file matches {spec.path}.")
        suffixes = sorted({Path(file).suffix for file in files})
        if len(suffixes) > 1 or suffixes[0] not in BUILDERS:
            raise ValueError(
                f"{spec.name}: {spec.path} matches files of type {', '.join(suffixes)}; give one type of "
                f"{', '.join(BUILDERS)}."
            )
        if suffixes == [".tar"]:
            for file in files:
                _check_tar(file, spec.name)
        # Local files have no splits of their own: what the glob says is what is read.
        return load_dataset(BUILDERS[suffixes[0]], data_files=files, split="train", streaming=spec.streaming)
    if path.is_absolute() or spec.path.startswith("."):
        raise FileNotFoundError(f"{spec.name}: there is no {spec.path}.")
    return load_dataset(spec.path, spec.config, split=spec.split, streaming=spec.streaming)


def _check_tar(file: str, name: str) -> None:
    """A tar archive ends with two blocks of zeros; Python's tarfile takes one that was cut short for complete."""
    size = Path(file).stat().st_size
    with open(file, "rb") as archive:
        archive.seek(max(0, size - 1024))
        if size % 512 or archive.read().strip(b"\0"):
            raise ValueError(
                f"{name}: the shard {file} was cut short; download it again or take it out of the pattern."
            )
