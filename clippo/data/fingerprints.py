"""Hashes of the content of data: what embeddings and caches were made of."""

import hashlib
import json
from typing import Any

import numpy as np
from PIL import ExifTags, Image

from clippo.data.samples import image_bytes


def digest(*things: Any) -> str:
    """Computes sha256 over bytes, strings, and all values that JSON can write."""
    state = hashlib.sha256()
    for thing in things:
        if not isinstance(thing, bytes):
            thing = json.dumps(thing, sort_keys=True, ensure_ascii=True, default=str).encode()
        state.update(len(thing).to_bytes(8, "little"))  # so that ("ab", "c") is not ("a", "bc")
        state.update(thing)
    return state.hexdigest()


def cell_fingerprint(cell: Any) -> str:
    """Hashes one image cell: its file bytes if there are any, else its pixels.

    Args:
        cell: `{"bytes", "path"}`, bytes, a file name or address, a PIL image or an array.
    """
    content = image_bytes(cell)
    if content is not None:
        return digest(content)
    array, look = np.asarray(cell), []
    if isinstance(cell, Image.Image):
        # Equal stored pixels look different with another orientation, palette or transparent colour.
        look = [cell.mode, cell.getexif().get(ExifTags.Base.Orientation), cell.getpalette(None)]
        look.append(repr(cell.info.get("transparency")))
    return digest(look, str(array.dtype), list(array.shape), array.tobytes())
