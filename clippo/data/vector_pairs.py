"""Texts joined with the vectors of their images: sources of kind "vectors"."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from clippo.data.misspellings import vary
from clippo.data.samples import UnusableRow, cell_texts, draw_captions
from clippo.data.sources import Rows, open_source
from clippo.data.specs import SourceSpec
from clippo.data.vectors import Vectors


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
        >>> datasets.Dataset.from_dict({"de": texts, "en": ["a dog", "a house"]}).to_parquet(f"{folder}/t.parquet")
        214...
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

    def open(self) -> Rows:
        """Open the texts, and check that the vectors are theirs.

        Raises:
            ValueError: The vectors are stale, of other data, or fewer than the texts; no key has a vector.
        """
        spec, vectors = self.spec, self.vectors
        every = open_source(spec, all_columns=True)
        if spec.key_column is None:
            vectors.check_rows(every, spec.name)
            return every.select_columns(_tops(every, spec.text_columns))
        if spec.key_column not in every.column_names:
            raise ValueError(
                f"{spec.name} has no key_column {spec.key_column!r}; it has {', '.join(every.column_names)}."
            )
        keys = every[spec.key_column]
        missing = [key for key in keys if vectors.row_of_key(key) is None]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(keys)} rows of {spec.name} have no vector in {spec.vectors}, the first is "
                f"{missing[0]!r}; embed all of the data, or take these rows out."
            )
        return every.select_columns([*_tops(every, spec.text_columns), spec.key_column])

    def item(
        self, row: int, cells: Mapping[str, Any], generator: np.random.Generator | None, texts_per_image: int = 1
    ) -> dict[str, Any]:
        """Vector and caption of a row: {"vector", "text"}.

        Args:
            row: Number of the row.
            cells: Cells by column.
            generator: Source of randomness; None takes the first caption.
            texts_per_image: Captions to draw.

        Raises:
            UnusableRow: The row has no caption, or its image could not be embedded.
        """
        if self.spec.key_column is not None:
            row = self.vectors.row_of_key(cells[self.spec.key_column])
        vector = self.vectors.get(row)
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
