"""Texts joined with the vectors of their images: sources of kind "vectors"."""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from clippo.data.misspellings import vary
from clippo.data.samples import UnusableRow, captions_of, cell_texts, draw_captions
from clippo.data.sources import Rows, open_source
from clippo.data.specs import SourceSpec
from clippo.data.vectors import Vectors

logger = logging.getLogger(__name__)


class VectorSource:
    """Rows of texts, each with a vector that `clippo embed` made.

    The rows are those that were embedded, which is checked, or they name their vectors in `spec.key_column`.

    Args:
        spec: Source of kind "vectors".

    Attributes:
        vectors: `Vectors` of the folder.

    Raises:
        FileNotFoundError: The folder has no vectors.
        ValueError: They cannot be used.

    Example:
        >>> import datasets, tempfile, torch
        >>> from clippo.data.vectors import About, row_hash
        >>> folder = tempfile.mkdtemp()
        >>> texts = ["ein Hund", "ein Haus"]
        >>> rows = datasets.Dataset.from_dict({"de": texts, "en": ["a dog", "a house"]})
        >>> written = rows.to_parquet(f"{folder}/t.parquet")
        >>> about = About("some/model", "t.parquet", "en", "texts", "ab12", 2, 3, "float32")
        >>> hashes = [row_hash(text, "texts") for text in ("a dog", "a house")]
        >>> Vectors.write(folder, about, torch.eye(2, 3), [0, 1], hashes)
        >>> spec = SourceSpec(f"{folder}/t.parquet", "vectors", caption_columns="de", vectors=folder)
        >>> source = VectorSource(spec)
        >>> source.item(0, source.open()[0], None)["text"]
        'ein Hund'
    """

    def __init__(self, spec: SourceSpec):
        self.spec, self.vectors = spec, Vectors(spec.vectors)
        self._rows: list[int] = []  # row of the vectors for each row of `open`

    def open(self) -> Rows:
        """Open the texts, and check that the vectors are theirs. Rows without a caption are left out.

        Raises:
            ValueError: The vectors are stale, of other data, or fewer than the texts; no key has a vector.
        """
        spec, vectors = self.spec, self.vectors
        every = open_source(spec, all_columns=True)
        if spec.key_column is None:
            vectors.check_rows(every, spec.name)
            places = list(range(len(every)))
        else:
            places = self._places_of_keys(every)
        texts = every.select_columns(_tops(every, spec.text_columns))
        kept = []
        for start in range(0, len(texts), 1000):  # row by row a million takes half a minute
            columns = texts[start : start + 1000]
            for i, cells in enumerate(zip(*columns.values(), strict=True), start):
                row = dict(zip(columns, cells, strict=True))
                if captions_of(row, spec.text_columns, spec.descriptive_only):
                    kept.append(i)
        if len(kept) < len(texts):
            logger.info("%s: %d of %d rows have no caption.", spec.name, len(texts) - len(kept), len(texts))
        self._rows = [places[i] for i in kept]
        return texts if len(kept) == len(texts) else texts.select(kept)

    def _places_of_keys(self, rows: Rows) -> list[int]:
        name, column = self.spec.name, self.spec.key_column
        if column not in rows.column_names:
            raise ValueError(f"{name} has no key_column {column!r}; it has {', '.join(rows.column_names)}.")
        keys = rows[column]
        places = [self.vectors.row_of_key(key) for key in keys]
        missing = [key for key, place in zip(keys, places, strict=True) if place is None]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(places)} rows of {name} have no vector in {self.spec.vectors}, the first is "
                f"{missing[0]!r}; embed all of the data, or take these rows out."
            )
        return places

    def item(
        self, row: int, cells: Mapping[str, Any], generator: np.random.Generator | None, texts_per_image: int = 1
    ) -> dict[str, Any]:
        """Vector and caption of a row: {"vector", "text"}.

        Args:
            row: Number of the row of `open`.
            cells: Cells by column.
            generator: Source of randomness; None takes the first caption.
            texts_per_image: Captions to draw.

        Raises:
            UnusableRow: The row has no caption, or its image could not be embedded.
        """
        vector = self.vectors.get(self._rows[row])
        if vector is None:
            raise UnusableRow("no vector, because its image could not be embedded")
        text = draw_captions(cells, self.spec, generator, texts_per_image)
        if generator is not None and (self.spec.typos or self.spec.other_case):
            several = [vary(one, self.spec.typos, self.spec.other_case, generator) for one in cell_texts(text)]
            text = several if isinstance(text, list) else several[0]
        return {"vector": vector, "text": text}


def _tops(rows: Rows, columns: list[str]) -> list[str]:
    """Columns, "json.title" as "json"."""
    return list(dict.fromkeys(c if c in rows.column_names else c.partition(".")[0] for c in columns))
