"""Folders of vectors that `clippo embed` writes: one vector for each row of a data set, and what it was made of.

vectors.json          model, data, preprocessing, numbers of rows and columns
vectors.safetensors   vectors (M, E) of unit length, rows (M,) in the data set, cells (N, 8) hashes of all its rows
keys.json             a name for each row of the data set, such as its file name

M is below N where images cannot be read.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from clippo.data.fingerprints import cell_fingerprint, digest

ABOUT, TENSORS, KEYS = "vectors.json", "vectors.safetensors", "keys.json"
HASH_BYTES = 8  # of a row; a wrong row passes with a probability of 2**-64
CHECKED_ROWS = 64  # rows whose content is compared when a source is opened


@dataclass(frozen=True)
class About:
    """Origin of the vectors of a folder.

    Args:
        model: Name of the model, as `clippo embed --model` took it.
        data: Path or name of the data set.
        column: Column that was embedded.
        kind: "images" or "texts".
        fingerprint: Hash of model, preprocessing and data.
        rows: N, rows of the data set.
        width: E.
        dtype: Type of the numbers, such as "float16".
        made_by: Hash of model and preprocessing. Vectors of equal rows with the same hash need not be made again.

    Example:
        >>> About("timm:resnet18", "photos", "image", "images", "ab12", 3, 512, "float16").width
        512
    """

    model: str
    data: str
    column: str
    kind: str
    fingerprint: str
    rows: int
    width: int
    dtype: str
    made_by: str = ""


def row_hash(cell: Any, kind: str) -> bytes:
    """Hash of one cell: `HASH_BYTES` bytes.

    Args:
        cell: Undecoded image, or a string.
        kind: "images" or "texts".
    """
    full = cell_fingerprint(cell) if kind == "images" else digest("" if cell is None else cell)
    return bytes.fromhex(full)[:HASH_BYTES]


class Vectors:
    """Vectors of a data set, by row.

    Args:
        folder: Folder that `clippo embed` wrote.

    Attributes:
        about: `About`.
        keys: N names of the rows, or None.

    Raises:
        FileNotFoundError: The folder has no vectors, or not all of them yet.
        ValueError: The files do not fit together, or a vector is not finite.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> about = About("some/model", "photos", "image", "images", "ab12", 2, 3, "float32")
        >>> Vectors.write(folder, about, torch.eye(2, 3), rows=[0, 1], hashes=[b"12345678", b"abcdefgh"])
        >>> vectors = Vectors(folder)
        >>> len(vectors), vectors.get(1).tolist()
        (2, [0.0, 1.0, 0.0])
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not (self.folder / ABOUT).is_file() or not (self.folder / TENSORS).is_file():
            started = "; it was stopped before its end, so run it again" if (self.folder / "parts").is_dir() else ""
            raise FileNotFoundError(f"There are no vectors in {folder}: `clippo embed` writes them{started}.")
        try:
            self.about = About(**json.loads((self.folder / ABOUT).read_text(encoding="utf-8")))
            tensors = load_file(self.folder / TENSORS)
            self.vectors, rows = tensors["vectors"], tensors["rows"]  # (M, E), (M,)
            self.hashes = tensors["cells"].numpy()  # uint8 (N, HASH_BYTES)
        except (SafetensorError, TypeError, KeyError, json.JSONDecodeError) as error:
            raise ValueError(f"The vectors in {folder} cannot be read ({error}); make them again.") from error
        about = self.about
        if self.vectors.shape != (len(rows), about.width) or len(self.hashes) != about.rows:
            raise ValueError(
                f"{folder} has {len(self.vectors)} vectors of {self.vectors.shape[-1]} numbers for {len(self.hashes)} "
                f"rows, and {ABOUT} says {about.rows} rows of {about.width}; make them again."
            )
        for start in range(0, len(rows), 2**16):  # part by part: the file may be larger than memory
            bad = (~self.vectors[start : start + 2**16].isfinite()).any(1).nonzero()
            if len(bad):
                raise ValueError(
                    f"The vector of row {int(rows[start + int(bad[0])])} in {folder} is not finite; make the vectors "
                    "again, in float32."
                )
        self.rows = rows.numpy()  # int64 (M,), row of each vector
        self.places = np.full(about.rows, -1, np.int64)  # row -> place in `vectors`
        self.places[self.rows] = np.arange(len(rows))
        keys = self.folder / KEYS
        self.keys: list[str] | None = json.loads(keys.read_text(encoding="utf-8")) if keys.is_file() else None
        self._by_key: dict[str, int] | None = None
        self._by_hash: dict[bytes, int] | None = None

    def __len__(self) -> int:
        """N, rows of the data set."""
        return self.about.rows

    def get(self, row: int) -> torch.Tensor | None:
        """Vector (E,) of a row, or None where the image could not be read."""
        place = self.places[row]
        return None if place < 0 else self.vectors[place]

    def row_of_key(self, key: Any) -> int | None:
        """Row of a key, or None."""
        if self._by_key is None:
            if self.keys is None:
                raise ValueError(f"The vectors in {self.folder} have no keys; embed with --key COLUMN.")
            self._by_key = {key: row for row, key in enumerate(self.keys)}
        return self._by_key.get(str(key))

    def of_cell(self, cell: Any) -> torch.Tensor | None:
        """Vector of a cell with the same content as one of the data set, or None."""
        return self.of_hash(row_hash(cell, self.about.kind))

    def of_hash(self, content: bytes) -> torch.Tensor | None:
        """Vector of the row with this `row_hash`, or None."""
        if self._by_hash is None:
            self._by_hash = {content.tobytes(): row for row, content in enumerate(self.hashes)}
        row = self._by_hash.get(content)
        return None if row is None else self.get(row)

    def search(self, query: torch.Tensor, k: int = 10) -> list[tuple[str, float]]:
        """Names and cosines of the rows nearest to a query, nearest first.

        Args:
            query: (E,), unit length.
            k: Number of rows.

        Returns:
            Pairs of a key, or of the number of the row where there are no keys, and a cosine.
        """
        scores = torch.cat([part.float() @ query for part in self.vectors.split(2**16)])  # (M,)
        best = scores.topk(min(k, len(scores)))
        rows = self.rows[best.indices.numpy()]
        names = [str(row) if self.keys is None else self.keys[row] for row in rows]
        return list(zip(names, best.values.tolist(), strict=True))

    def check_rows(self, rows: Any, name: str) -> None:
        """Check that a data set is the one that was embedded.

        The number of rows is compared, and the content of up to `CHECKED_ROWS` rows.

        Args:
            rows: Opened data set.
            name: Name of the data set in messages.

        Raises:
            ValueError: It has another number of rows, lacks the embedded column, or a row has another content.
        """
        about = self.about
        if len(rows) != about.rows:
            raise ValueError(
                f"{name} has {len(rows)} rows, and {self.folder} has vectors for {about.rows} rows of {about.data}; "
                "embed the data again, or name a key_column."
            )
        if about.column not in rows.column_names:
            raise ValueError(
                f"{name} has no column {about.column!r}, which the vectors in {self.folder} were made of; name a "
                "key_column, whose cells are the keys of the vectors."
            )
        cells = rows.select_columns([about.column])
        for row in np.unique(np.linspace(0, len(rows) - 1, min(CHECKED_ROWS, len(rows)), dtype=int)).tolist():
            if row_hash(cells[row][about.column], about.kind) != self.hashes[row].tobytes():
                raise ValueError(
                    f"Row {row} of {name} is not the one that was embedded: the vectors in {self.folder} are stale, or "
                    f"were made of other data ({about.data}). Embed the data again."
                )

    @staticmethod
    def write(
        folder: str | Path,
        about: About,
        vectors: torch.Tensor,
        rows: Iterable[int],
        hashes: Sequence[bytes],
        keys: Sequence[str] | None = None,
    ) -> None:
        """Write a folder. `vectors.json` comes last, so a stopped process leaves no folder that opens.

        Args:
            folder: Folder to write.
            about: Origin of the vectors.
            vectors: (M, E), unit length.
            rows: M row numbers in the data set.
            hashes: N of `row_hash`.
            keys: N names of the rows.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ABOUT).unlink(missing_ok=True)
        tensors = {
            "vectors": vectors.contiguous(),
            "rows": torch.tensor(list(rows), dtype=torch.int64),
            "cells": torch.from_numpy(np.frombuffer(b"".join(hashes), np.uint8).copy()).view(-1, HASH_BYTES),
        }
        save_file(tensors, folder / f"{TENSORS}.tmp")
        os.replace(folder / f"{TENSORS}.tmp", folder / TENSORS)
        (folder / KEYS).unlink(missing_ok=True)
        if keys is not None:
            (folder / KEYS).write_text(json.dumps(list(keys), ensure_ascii=False), encoding="utf-8")
        text = json.dumps(asdict(about), ensure_ascii=False, indent=1) + "\n"
        (folder / f"{ABOUT}.tmp").write_text(text, encoding="utf-8")
        os.replace(folder / f"{ABOUT}.tmp", folder / ABOUT)
