"""Glyph table: trimmed columns of every character met so far, in arrays that a whole batch can index."""

from functools import lru_cache

import numpy as np

from .canvas_clippo import ROW_HEIGHT, GlyphOptions, pack_columns, unpack_columns
from .font_files_clippo import font_lock
from .fonts_clippo import FontChain
from .shaping_clippo import compose

CODE_POINTS = 0x110000
_MANY_SEQUENCES = 1 << 16  # a table with more composed glyphs than this is dropped between two batches


def trim(ink: np.ndarray, advance: int, options: GlyphOptions) -> tuple[int, int]:
    """Returns the first column of a glyph that is drawn, and one past the last.

    Rule of the official renderer (big_vision/pp/proj/clippo): `spacing` blank columns left of the ink, at least
    `min_width` columns, never past the cell.

    Args:
        ink: bool (cell,), whether each column has ink.
        advance: The font's own advance, used with `advances="font"`.
        options: Glyph options.
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
    """Widths and columns by glyph number. A glyph is read from the font chain when its character is first met.

    The number of a glyph is its code point. Numbers from 0x110000 on belong to sequences: a base with marks on it.
    Only the shaping option makes sequences.

    Attributes:
        width: uint8 (numbers,), 0 for a glyph not met yet.
        offset: int32 (numbers,), index of the glyph's first column in `columns`.
        columns: uint16 (n,), or uint8 (n, 16) of coverage if antialiased. A larger array replaces it when it is full.
    """

    def __init__(self, fonts: FontChain, options: GlyphOptions):
        self._fonts, self._options = fonts, options
        # Pages of zeros that are never touched cost no memory: 5.5 MB of address space, not of RAM.
        self.width = np.zeros(CODE_POINTS, np.uint8)
        self.offset = np.zeros(CODE_POINTS, np.int32)
        self.columns = np.zeros((4096, ROW_HEIGHT), np.uint8) if options.antialias_font else np.zeros(4096, np.uint16)
        self._used = 0
        self._sequences: dict[tuple[int, ...], int] = {}

    def widths(self, numbers: np.ndarray) -> np.ndarray:
        """Drawn widths uint8 (n,) of glyph numbers (n,). New glyphs are added to the table first."""
        widths = self.width[numbers]
        if not widths.all():
            with font_lock():
                for number in np.unique(numbers[widths == 0]).tolist():
                    if not self.width[number]:
                        self._add(number, *self._alone(number))
            widths = self.width[numbers]
        return widths

    def numbers(self, units: list[tuple[int, ...]]) -> np.ndarray:
        """Glyph numbers int64 (n,) of units. A unit is a code point, or a base with marks (see ShapedText)."""
        with font_lock():
            for unit in units:
                if len(unit) != 1 and unit not in self._sequences:
                    number = CODE_POINTS + len(self._sequences)
                    if number >= len(self.width):
                        self.offset = np.concatenate([self.offset, np.zeros(_MANY_SEQUENCES, np.int32)])
                        self.width = np.concatenate([self.width, np.zeros(_MANY_SEQUENCES, np.uint8)])
                    self._add(number, *self._sequence(unit))
                    self._sequences[unit] = number  # last: a glyph is published when it is complete
        return np.array([unit[0] if len(unit) == 1 else self._sequences[unit] for unit in units], np.int64)

    @property
    def has_many_sequences(self) -> bool:
        return len(self._sequences) > _MANY_SEQUENCES

    def _alone(self, code_point: int) -> tuple[np.ndarray, int, int]:
        """Columns of a character, with the first drawn column and one past the last."""
        # Only A-Z, as the official renderer lowers bytes: other scripts keep their capitals.
        lower = self._options.lowercase and 65 <= code_point <= 90
        glyph = self._fonts.bitmap(code_point + 32 if lower else code_point, self._options.antialias_font)
        if glyph is None:  # as an all-blank entry of the official table
            columns, advance = np.zeros_like(self.columns[:ROW_HEIGHT]), self._options.min_width
        else:
            columns, advance = glyph
        return columns, *trim(columns.reshape(len(columns), -1).any(axis=1), advance, self._options)

    def _sequence(self, unit: tuple[int, ...]) -> tuple[np.ndarray, int, int]:
        """Columns of a base with its marks; of a blank for the empty sequence."""
        columns, start, end = self._alone(unit[0] if unit else 0x20)
        columns = columns[start:end]
        marks = [(mark, self._alone(mark)[0]) for mark in unit[1:]]
        if self._options.antialias_font:
            columns = compose(columns, marks)
        else:
            columns = pack_columns(
                compose(unpack_columns(columns), [(mark, unpack_columns(bits)) for mark, bits in marks])
            )
        return columns, 0, len(columns)

    def _add(self, number: int, columns: np.ndarray, start: int, end: int) -> None:
        used = self._used
        if used + end - start > len(self.columns):
            self.columns = np.concatenate([self.columns, np.zeros_like(self.columns)])
        self.columns[used : used + end - start] = columns[start:end]
        self.offset[number] = used
        self._used = used + end - start
        self.width[number] = end - start  # last: for a reader without the lock a width means that the glyph is complete


@lru_cache(maxsize=32)
def _cached_table(fonts: FontChain, options: GlyphOptions) -> GlyphTable:
    return GlyphTable(fonts, options)


def glyph_table(fonts: FontChain, options: GlyphOptions) -> GlyphTable:
    """The table of a font chain (compared by sha256) and options. The process keeps it, so renderers hold no state."""
    table = _cached_table(fonts, options)
    if table.has_many_sequences:
        _cached_table.cache_clear()
        table = _cached_table(fonts, options)
    return table
