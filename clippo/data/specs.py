"""Specification of one data source, as a recipe writes it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from huggingface_hub.dataclasses import StrictDataclassFieldValidationError, strict

KINDS = ("image_text", "text_text", "vectors")
Spec = TypeVar("Spec")


def read_spec(cls: type[Spec], spec: Mapping[str, Any]) -> Spec:
    """Instance of a specification from a mapping of a recipe.

    Args:
        cls: Strict dataclass with a field `path`.
        spec: Its fields by name.

    Raises:
        ValueError: `spec` is not a mapping, has an unknown key or no path, or holds an impossible value.
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


class AloneSpec:
    """Part of the specifications of data sets that are the only source of a run. `kind` is a field of each.

    Attributes:
        title: Word for the data set in messages.

    Example:
        >>> from clippo.emoji import EmojiSpec
        >>> EmojiSpec.is_among([{"kind": "emoji", "path": "data/emoji"}])
        True
    """

    title: ClassVar[str]
    kind: str

    @classmethod
    def from_dict(cls: type[Spec], spec: Mapping[str, Any]) -> Spec:
        """The source that a mapping of a recipe describes; see `read_spec`."""
        return read_spec(cls, spec)

    @classmethod
    def is_among(cls, sources: list) -> bool:
        """True when the sources of a recipe are this data set.

        Args:
            sources: The mappings of a recipe.

        Raises:
            ValueError: Another source stands beside it.
        """
        kinds = [source.get("kind") if isinstance(source, Mapping) else None for source in sources]
        if cls.kind in kinds and len(kinds) > 1:
            raise ValueError(f"The {cls.title} data set is trained on alone; leave out the other sources.")
        return cls.kind in kinds


@strict
@dataclass
class SourceSpec:
    """One source of a training or validation mixture, as a recipe writes it.

    Args:
        path: File, glob, folder or hub name, see `load_rows`.
        kind: "image_text", "text_text" for pairs of texts, or "vectors" for texts with vectors that `clippo embed`
            made of the same rows.
        name: Name in messages, the path by default.
        weight: Share of the batch; the weights of a mixture sum to 1.
        split: Split of a folder or of a data set on the hub.
        config: Configuration of a data set on the hub.
        streaming: Read rows as they are needed; large WebDataset sources usually do.
        image_column: Column of the images.
        jpeg_side: Decode JPEG files at 1/2, 1/4 or 1/8 of their size, as far as both sides keep so many pixels.
        caption_columns: Column or columns of texts, strings or lists of strings. "json.title" is the field `title` of a
            column `json`, where WebDataset shards keep texts. An image-text sample draws one of all captions of a row,
            a text-text sample two different ones.
        fields: "all" draws among the captions of all columns. "one" first draws a column and then a caption in it, as
            for the title, description and tags of YFCC.
        descriptive_only: Drop captions that describe nothing (file names, dates, camera defaults).
        text_column: Column of documents, read as pairs of consecutive sentences (text-text).
        vectors: Folder of the vectors.
        key_column: Column with the keys of the vectors, where the rows are not those that were embedded.
        typos: Vectors: share of the texts that are drawn with typing errors, see `clippo.data.misspellings.vary`.
        other_case: Vectors: share of the texts that are drawn in capitals or in small letters.
        min_chars: Shortest sentence of such a pair.
        max_chars: Longest sentence of such a pair; the canvas would cut longer ones.

    Raises:
        StrictDataclassFieldValidationError: A value has the wrong type.
        ValueError: Values do not go together, or one would have no effect.

    Example:
        >>> from clippo.data import SourceSpec
        >>> SourceSpec.from_dict({"path": "photos/*.parquet", "caption_columns": "caption"}).columns
        ['image', 'caption']
    """

    path: str
    kind: str = "image_text"
    name: str | None = None
    weight: float | int = 1.0
    split: str = "train"
    config: str | None = None
    streaming: bool = False
    image_column: str = "image"
    jpeg_side: int | None = None
    caption_columns: str | list[str] | None = None
    fields: str = "all"
    descriptive_only: bool = False
    text_column: str | None = None
    vectors: str | None = None
    key_column: str | None = None
    typos: float | int = 0.0
    other_case: float | int = 0.0
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
        if self.kind != "text_text" and not self.caption_columns:
            raise ValueError(f"{self.name}: an {self.kind} source needs caption_columns.")
        if self.kind == "vectors":
            self._check_vectors()
        else:
            self._refuse(f"an {self.kind} source", "vectors", "key_column", "typos", "other_case")
        if self.kind == "image_text":
            self._refuse("an image_text source", "text_column", "min_chars", "max_chars")
        elif self.kind == "vectors":
            self._refuse("texts with vectors", "text_column", "image_column", "min_chars", "max_chars")
        elif self.text_column is not None:
            self._refuse("documents", "fields", "descriptive_only", "image_column")
        else:
            self._refuse("pairs of captions", "fields", "image_column", "min_chars", "max_chars")
        if self.kind != "image_text":
            self._refuse(f"a {self.kind} source", "jpeg_side")
        elif self.jpeg_side is not None and self.jpeg_side < 1:
            raise ValueError(f"{self.name}: jpeg_side={self.jpeg_side} is not a number of pixels; give 1 or more.")
        if not 1 <= self.min_chars <= self.max_chars:
            raise ValueError(
                f"{self.name}: min_chars={self.min_chars} and max_chars={self.max_chars} must be a rising range from 1."
            )

    def _check_vectors(self) -> None:
        if self.vectors is None:
            raise ValueError(f"{self.name}: a vectors source needs vectors, the folder that `clippo embed` wrote.")
        if self.streaming:
            raise ValueError(f"{self.name}: vectors belong to row numbers, which a stream lacks; leave out streaming.")
        if not (0 <= self.typos <= 1 and 0 <= self.other_case <= 1):
            raise ValueError(
                f"{self.name}: typos={self.typos} and other_case={self.other_case} are shares; write 0 to 1."
            )

    def _refuse(self, what: str, *names: str) -> None:
        """Raise `ValueError` if an option is set that has no effect here."""
        defaults = {field.name: field.default for field in fields(self)}
        given = [name for name in names if getattr(self, name) != defaults[name]]
        if given:
            raise ValueError(f"{self.name}: {', '.join(given)} would have no effect on {what}; leave it out.")

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> "SourceSpec":
        """The source that a mapping of a recipe describes; see `read_spec`."""
        return read_spec(cls, spec)

    @property
    def text_columns(self) -> list[str]:
        """Columns of documents or captions."""
        return [self.text_column] if self.text_column is not None else list(self.caption_columns)

    @property
    def columns(self) -> list[str]:
        """Columns that training reads."""
        return [*([self.image_column] if self.kind == "image_text" else []), *self.text_columns]
