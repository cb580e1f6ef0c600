"""Cells of data sets as pictures, or a reason why not."""

import io
from typing import Any

from PIL import Image


class UnusableRow(Exception):
    """A row that training passes over and counts. The message is a kind of defect, then what it was."""


def read_picture(cell: Any) -> Any:
    """A decoded picture: PIL images of bytes and files, as data sets store them; anything else as it is.

    Decoding happens here rather than in `datasets`, so that one broken file is one broken row.

    Raises:
        UnusableRow: There is nothing, or it cannot be decoded.
    """
    if isinstance(cell, dict) and set(cell) >= {"bytes", "path"}:
        cell = cell["bytes"] if cell["bytes"] is not None else cell["path"]
    if cell is None:
        raise UnusableRow("no picture")
    if not isinstance(cell, bytes | str):
        return cell
    try:
        with Image.open(io.BytesIO(cell) if isinstance(cell, bytes) else cell) as image:
            image.load()  # PIL reads lazily: a truncated file would fail only where nobody expects it
            return image
    except FileNotFoundError as error:
        raise UnusableRow(f"no picture: {error}") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UnusableRow(f"broken picture: {error}") from error
