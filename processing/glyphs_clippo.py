"""The glyph table: trimmed columns of every character met so far, in arrays that a whole batch can index."""

import os
import threading
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .font_files_clippo import ROW_HEIGHT
from .fonts_clippo import FontChain

CODE_POINTS = 0x110000


class GlyphOptions(NamedTuple):
    """What decides the columns of a glyph, beside the fonts. See TextRenderer for the meaning of each."""

    lowercase: bool = True
    monospace: bool = False
    spacing: int = 1
    min_width: int = 4
    antialias: bool = False
    advances: str = "ink"


def trim(ink: np.ndarray, advance: int, options: GlyphOptions) -> tuple[int, int]:
    """First and one past the last column that is drawn of a glyph.

    Rule of the official renderer (big_vision/pp/proj/clippo): `spacing` blank columns left of the ink, at least
    `min_width` columns, never past the cell.

    Args:
        ink: bool (cell,), which columns have ink.
        advance: the font's own advance, used with `advances="font"`.
    """
    cell = len(ink)
    if options.monospace:
        return 0, cell
    inked = np.flatnonzero(ink)
    first, last = (int(inked[0]), int(inked[-1])) if len(inked) else (0, 0)
    if options.advances == "font":
        return 0, min(max(advance, last + 1 if len(inked) else 1), cell)
    start = max(first - options.spacing, 0)
    return start, min(max(last + options.spacing, start + options.min_width), cell)


class GlyphTable:
    """Widths and columns by code point; asks the font chain only for characters that were never met.

    Attributes:
        width: uint8 (0x110000,), 0 for a code point not met yet.
        offset: int32 (0x110000,), index of the first column in `columns`.
        columns: uint16 (n,), or uint8 (n, 16) of coverage for antialiased glyphs. Replaced, not changed, when it grows.
    """

    def __init__(self, fonts: FontChain, options: GlyphOptions):
        self._fonts, self._options = fonts, options
        # Zero pages that are never touched cost no memory: 5.5 MB of address space, not of RAM.
        self.width = np.zeros(CODE_POINTS, np.uint8)
        self.offset = np.zeros(CODE_POINTS, np.int32)
        self._store = np.zeros((4096, ROW_HEIGHT) if options.antialias else 4096, np.uint8 if options.antialias else np.uint16)
        self._used = 0

    @property
    def columns(self) -> np.ndarray:
        return self._store

    def widths(self, code_points: np.ndarray) -> np.ndarray:
        """Drawn widths uint8 (n,) of code points uint32 (n,), after filling in those that are new."""
        widths = self.width[code_points]
        if not widths.all():
            with _LOCKS[0]:
                for code_point in np.unique(code_points[widths == 0]).tolist():
                    if not self.width[code_point]:
                        self._fill(code_point)
            widths = self.width[code_points]
        return widths

    def _fill(self, code_point: int) -> None:
        # Only A-Z, as the official renderer lowers bytes: other scripts keep their capitals.
        lower = self._options.lowercase and 65 <= code_point <= 90
        glyph = self._fonts.bitmap(code_point + 32 if lower else code_point, self._options.antialias)
        if glyph is None:  # as an all-blank entry of the official table
            columns, advance = np.zeros_like(self._store[:ROW_HEIGHT]), self._options.min_width
        else:
            columns, advance = glyph
        start, end = trim(columns.reshape(len(columns), -1).any(axis=1), advance, self._options)
        if self._used + end - start > len(self._store):
            self._store = np.concatenate([self._store, np.zeros_like(self._store)])
        self._store[self._used : self._used + end - start] = columns[start:end]
        self.offset[code_point] = self._used
        self._used += end - start
        self.width[code_point] = end - start  # last, since a reader without the lock takes a width as "ready"


# One lock for all tables: FreeType faces are shared by them and must not be used by two threads at once.
_LOCKS = [threading.Lock()]


def _new_lock_after_fork() -> None:
    _LOCKS[0] = threading.Lock()  # a thread of the parent may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock_after_fork)


@lru_cache(maxsize=32)
def glyph_table(fonts: FontChain, options: GlyphOptions) -> GlyphTable:
    """The process's table of a chain (compared by sha256) and options. Kept here so that renderers hold no state."""
    return GlyphTable(fonts, options)
