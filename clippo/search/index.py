"""FAISS index over a folder of vectors, kept on disk beside them.

Few vectors are compared one by one. From `EXACT_ROWS` on the index has cells (IVF), and a query is compared with the
vectors of the nearest cells only. Needs the extra `clippo[search]`.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clippo.data.vectors import Vectors

FILE, ABOUT = "index.faiss", "index.json"
EXACT_ROWS = 100_000
# Times the root of the number of vectors. With half as many, learning takes a third of the time, and less is found.
CELLS = 4
TRAINED_ROWS = 64  # vectors a cell from which the cells are learned
PROBES = 0.03  # share of the cells that a query reads
CHUNK = 2**16  # vectors in float32 at a time, so that memory stays bounded


@dataclass(frozen=True)
class Hit:
    """One row that a query found.

    Args:
        row: Row in the data set.
        score: Cosine.
        key: Name of the row, if the vectors have names.

    Example:
        >>> Hit(row=3, score=0.8, key="cat.png").key
        'cat.png'
    """

    row: int
    score: float
    key: str | None = None


class SearchIndex:
    """Nearest vectors of a folder.

    The index is written beside the vectors and read again as long as they are the same. It is made anew after
    `clippo embed` has added or removed rows; their other parts are not embedded again.

    Args:
        folder: Folder that `clippo embed` wrote.

    Raises:
        ImportError: faiss is not installed.
        FileNotFoundError: There are no vectors.

    Example:
        >>> import tempfile, torch
        >>> from clippo.data.vectors import About, Vectors
        >>> folder = tempfile.mkdtemp()
        >>> about = About("some/model", "photos", "image", "images", "ab12", 2, 3, "float32")
        >>> Vectors.write(folder, about, torch.eye(2, 3), rows=[0, 1], hashes=[b"12345678", b"abcdefgh"])
        >>> [[hit.row for hit in hits] for hits in SearchIndex(folder).search(np.eye(2, 3), count=1)]
        [[0], [1]]
    """

    def __init__(self, folder: str | Path):
        self.folder, self.vectors = Path(folder), Vectors(folder)
        self._faiss = _library()
        self._index = self._read() or self._make()

    def search(self, queries: np.ndarray, count: int = 10) -> list[list[Hit]]:
        """Find the nearest rows.

        Args:
            queries: (Q, E) of unit length.
            count: Hits a query, fewer if there are fewer rows.

        Returns:
            Q lists, the nearest first.

        Raises:
            ValueError: The queries have another width than the vectors.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        width = self.vectors.about.width
        if queries.ndim != 2 or queries.shape[1] != width:
            raise ValueError(
                f"The queries have the shape {queries.shape}, and the vectors in {self.folder} have {width} numbers, "
                f"by {self.vectors.about.model}; embed the queries with that model."
            )
        if count < 1:
            raise ValueError(f"count={count} finds nothing; give 1 or more.")
        scores, places = self._index.search(queries, min(count, len(self.vectors.vectors)))
        keys, rows = self.vectors.keys, self.vectors.rows
        return [
            [
                Hit(int(rows[place]), float(score), keys[rows[place]] if keys else None)
                for score, place in zip(own, found, strict=True)
                if place >= 0  # cells with too few vectors leave places empty
            ]
            for own, found in zip(scores, places, strict=True)
        ]

    def _read(self) -> Any:
        """The index on disk, or None if it is missing or belongs to other vectors."""
        about = self.folder / ABOUT
        if not about.is_file() or not (self.folder / FILE).is_file():
            return None
        if json.loads(about.read_text(encoding="utf-8")).get("fingerprint") != self.vectors.about.fingerprint:
            return None
        return self._faiss.read_index(str(self.folder / FILE))

    def _make(self) -> Any:
        """Make the index and write it, complete or not at all."""
        vectors, width = self.vectors.vectors, self.vectors.about.width
        index = self._faiss.IndexFlatIP(width)
        if len(vectors) > EXACT_ROWS:
            cells = int(CELLS * math.sqrt(len(vectors)))
            half = self._faiss.ScalarQuantizer.QT_fp16
            index = self._faiss.IndexIVFScalarQuantizer(index, width, cells, half, self._faiss.METRIC_INNER_PRODUCT)
            index.nprobe = max(8, int(PROBES * cells))
            chosen = np.random.default_rng(0).permutation(len(vectors))[: cells * TRAINED_ROWS]
            index.train(vectors[np.sort(chosen)].float().numpy())
        for start in range(0, len(vectors), CHUNK):
            index.add(vectors[start : start + CHUNK].float().numpy())
        part = self.folder / f"{FILE}.part"
        self._faiss.write_index(index, str(part))
        os.replace(part, self.folder / FILE)
        text = json.dumps({"fingerprint": self.vectors.about.fingerprint, "rows": len(vectors)})
        (self.folder / ABOUT).write_text(text, encoding="utf-8")
        return index


def _library() -> Any:
    """Import faiss, or say how to get it."""
    try:
        import faiss
    except ImportError:
        raise ImportError("The search needs faiss: pip install 'clippo[search]'.") from None
    return faiss
