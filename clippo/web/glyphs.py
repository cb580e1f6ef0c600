"""The glyph table of a tokenizer as two files for the browser: Latin, Greek and Cyrillic first, the rest on demand."""

import struct
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from clippo.processing import ClippoTokenizer
from clippo.processing.fonts_clippo import FontChain
from clippo.processing.glyphs_clippo import CODE_POINTS, glyph_table

FIRST_END = 0x530  # code points below are in the first file


class GlyphFiles(NamedTuple):
    """Two files of glyphs, and the numbers that the browser's renderer needs beside them.

    Args:
        first: Latin, Greek and Cyrillic.
        rest: All other characters.
        settings: Options of the renderer.

    Example:
        >>> GlyphFiles(b"", b"", {"width": 80}).settings
        {'width': 80}
    """

    first: bytes
    rest: bytes
    settings: dict


def glyph_files(tokenizer: ClippoTokenizer) -> GlyphFiles:
    """Write the widths and columns of every character that the tokenizer's fonts have.

    Args:
        tokenizer: Tokenizer of the model.

    Returns:
        The files in the format of `web/render.js`, and its options.

    Raises:
        ValueError: The tokenizer draws in a way that a table of single characters cannot hold.

    Example:
        >>> files = glyph_files(ClippoTokenizer(canvas_size=80))
        >>> files.settings["width"], files.settings["max_chars"], len(files.first) < 40_000
        (80, 768, True)
    """
    options = tokenizer.renderer.options
    for name in ("shaping", "antialias_font"):
        if getattr(options, name):
            raise ValueError(
                f"{name}=True cannot be drawn in the browser, whose table has one bitmap a character; build the page "
                f"from a model with {name}=False."
            )
    covered = _covered(tokenizer.renderer.fonts)
    settings = {
        "height": options.height,
        "width": options.width,
        "max_chars": options.max_chars,
        "min_width": 16 if options.monospace else options.min_width,
        "background": options.background,
        "ink": options.ink,
    }
    early = covered < FIRST_END
    return GlyphFiles(_pack(tokenizer, covered[early]), _pack(tokenizer, covered[~early]), settings)


@lru_cache(maxsize=4)
def _covered(fonts: FontChain) -> np.ndarray:
    """int64, the code points that a font of the chain has."""
    return np.array([code for code in range(CODE_POINTS) if fonts.bitmap(code) is not None], np.int64)


def _pack(tokenizer: ClippoTokenizer, codes: np.ndarray) -> bytes:
    """One file: header, runs of neighbouring code points, columns, widths."""
    table = glyph_table(tokenizer.renderer.fonts, tokenizer.renderer.options.glyphs)
    widths, offsets = table.widths(codes), table.offset[codes].astype(np.int64)
    shift = np.cumsum(widths, dtype=np.int64) - widths
    total = int(widths.sum())
    columns = table.columns[np.repeat(offsets - shift, widths) + np.arange(total)]
    starts = np.flatnonzero(np.diff(codes, prepend=-2) != 1)
    runs = np.stack([codes[starts], np.diff(starts, append=len(codes))], axis=1)
    header = struct.pack("<II", len(runs), total)
    return header + runs.astype("<u4").tobytes() + columns.astype("<u2").tobytes() + widths.astype("u1").tobytes()


__all__ = ["FIRST_END", "GlyphFiles", "glyph_files"]
