"""Readers of one font file: `.hex` directly; PCF, BDF, OTF and TTF (also gzipped) through FreeType.

A reader returns the inked columns of the glyph of a code point. A text row is 16 pixels high with the baseline under
row 13, as in GNU Unifont, so that glyphs of different fonts share a baseline.
"""

import ctypes
import gzip
import hashlib
import io
import os
import threading
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple, NoReturn

import freetype
import numpy as np

from .canvas_clippo import MAX_GLYPH_WIDTH, ROW_HEIGHT, pack_columns

BASELINE = 14  # rows above the baseline: Unifont's ascent

# Value of a hexadecimal digit by its ASCII code; 255 for everything else
_NIBBLE = np.full(256, 255, np.uint8)
for _i, _digit in enumerate(b"0123456789ABCDEF"):
    _NIBBLE[_digit] = _NIBBLE[ord(chr(_digit).lower())] = _i

MAX_FONT_BYTES = 1 << 27  # of one file, of an archive unpacked, and of all fonts of a chain unpacked
_MAX_HEX_LINES = 1 << 21  # more than there are code points
_MAX_BITMAP_BYTES = 1 << 20  # of one glyph; at 16 pixels a sound font needs a few hundred

# FreeType faces are shared by everything in the process and must not be opened, used or freed by two threads at once.
# In a list, so that a forked child can get a new lock.
_LOCKS = [threading.RLock()]


def font_lock() -> threading.RLock:
    """Lock for opening, reading and freeing fonts, for shaping, and for filling glyph tables."""
    return _LOCKS[0]


if hasattr(os, "register_at_fork"):
    # The fork waits for the lock, so that no other thread is in the middle of a font or a table, whose memory the child
    # would inherit half written.
    os.register_at_fork(
        before=lambda: font_lock().acquire(),
        after_in_parent=lambda: font_lock().release(),
        after_in_child=lambda: _LOCKS.__setitem__(0, threading.RLock()),
    )


class _Face(freetype.Face):
    """A face that takes the lock when it is freed, whichever thread drops the last reference."""

    def __del__(self, locks=_LOCKS):  # bound here, since module names are gone when the interpreter ends
        with locks[0]:
            super().__del__()


class Glyph(NamedTuple):
    """One glyph in a cell of 16 (or, if wider, up to 32) columns.

    Args:
        columns: mono: uint16 (cell,), bit r (least significant first) is ink at pixel row r.
            Antialiased: uint8 (cell, 16), coverage 0..255.
        advance: Step to the next glyph as the font defines it, in pixels; 0 for combining marks.
    """

    columns: np.ndarray
    advance: int


@dataclass(frozen=True, eq=False)
class FontFile:
    """The bytes of one font file. Two files are equal if their bytes are equal, whatever their names."""

    name: str
    data: bytes = field(repr=False)
    sha256: str

    @classmethod
    def from_bytes(cls, name: str, data: bytes) -> "FontFile":
        return cls(name, data, hashlib.sha256(data).hexdigest())

    def __eq__(self, other):
        return isinstance(other, FontFile) and self.sha256 == other.sha256

    def __hash__(self):
        return hash(self.sha256)


class HexFont:
    """A Unifont `.hex` file: lines `CODE:ROWS`, 16 rows from top to bottom, most significant bit left.

    Opening only indexes the lines with NumPy (milliseconds for 57,000 glyphs). A glyph is decoded when it is read.

    Raises:
        ValueError: A line does not have that form.
    """

    def __init__(self, file: FontFile, data: bytes):
        self._data, self._name, self.size = data, file.name, len(data)
        if data.count(b"\n") > _MAX_HEX_LINES:
            raise ValueError(f"{file.name} has more than {_MAX_HEX_LINES} lines, so it is not a Unifont .hex font.")
        text = np.frombuffer(data, np.uint8)
        ends = np.flatnonzero(text == ord("\n"))
        if len(text) and text[-1] != ord("\n"):
            ends = np.append(ends, len(text))
        starts = np.append(0, ends + 1)[: len(ends)]
        ends = ends - (text[np.maximum(ends - 1, 0)] == ord("\r"))
        used = (ends > starts) & (text[np.minimum(starts, len(text) - 1)] != ord("#"))
        line_numbers, starts, ends = np.flatnonzero(used) + 1, starts[used], ends[used]
        # The first colon of each line; past the last one, the end of the file
        colons = np.append(np.flatnonzero(text == ord(":")), len(text))
        colons = colons[np.searchsorted(colons, starts)]
        code_digits, row_digits = colons - starts, ends - colons - 1
        good = (code_digits >= 4) & (code_digits <= 6) & np.isin(row_digits, (32, 64, 96, 128))
        codes = np.zeros(len(starts), np.int64)
        for i in range(6):  # digit by digit, all lines at once
            has = good & (code_digits > i)
            digits = _NIBBLE[text[starts[has] + i]]
            codes[has] = codes[has] * 16 + digits
            good[has] &= digits < 16
        if not good.all() or not len(good):
            where = f"line {line_numbers[np.argmin(good)]}" if len(good) else "an empty file"
            raise ValueError(
                f"{file.name} is not a Unifont .hex font: {where} is not `CODE:ROWS` with 4-6 and 32, 64, 96 or 128 "
                "hexadecimal digits; check that the download is complete."
            )
        order = np.argsort(codes, kind="stable")
        self._codes, self._begin, self._end = codes[order], colons[order] + 1, ends[order]

    def glyph(self, code_point: int, antialias: bool = False) -> Glyph | None:
        i = int(np.searchsorted(self._codes, code_point))
        if i == len(self._codes) or self._codes[i] != code_point:
            return None
        try:
            rows = bytes.fromhex(self._data[self._begin[i] : self._end[i]].decode("ascii"))
        except ValueError:
            raise ValueError(
                f"{self._name}: the glyph of U+{code_point:04X} is not hexadecimal; check that the file is whole."
            ) from None
        bits = np.unpackbits(np.frombuffer(rows, np.uint8).reshape(ROW_HEIGHT, -1), axis=1)  # (16, width)
        return _cell(bits * np.uint8(255) if antialias else bits, 0, 0, bits.shape[1], antialias)


class FreeTypeFont:
    """Any font that FreeType opens.

    A bitmap font is drawn from its tallest strike of at most 16 rows. A scalable font is drawn at the largest size, up
    to 16 pixels per em, at which ascent and descent together fit 16 rows. A glyph taller than its font's line is moved
    into the row, then cut.

    Raises:
        ValueError: FreeType cannot read the file, or the font has only bitmaps taller than a text row.
    """

    def __init__(self, file: FontFile, data: bytes):
        self._name, self.size = file.name, len(data)
        with font_lock():
            try:
                self._face = _Face(io.BytesIO(data))  # it keeps the bytes alive
                ascent, descent = self._choose_size()
            except (freetype.FT_Exception, ArithmeticError) as error:
                self._damaged(error)
            if self._face.charmap is None:
                raise ValueError(f"{file.name} has no Unicode character map; use another font.")
        self._baseline = BASELINE if ascent <= BASELINE and descent <= ROW_HEIGHT - BASELINE else ROW_HEIGHT - descent

    def _damaged(self, error: object) -> NoReturn:
        raise ValueError(
            f"{self._name} is not a font that FreeType can read ({error}); pass an undamaged PCF, BDF, OTF, TTF or "
            "Unifont .hex file."
        ) from None

    def _choose_size(self) -> tuple[int, int]:
        """Selects the size to draw at and returns ascent and descent in pixels."""
        face = self._face
        if face.is_scalable:
            size = 16
            while size > 4 and sum(self._line(size)) > ROW_HEIGHT:
                size -= 1
            face.set_pixel_sizes(0, size)
            return self._line(size)
        heights = [size.height for size in face.available_sizes]
        fitting = [(height, -i) for i, height in enumerate(heights) if height <= ROW_HEIGHT]
        if not fitting:
            raise ValueError(
                f"{self._name} has only bitmaps of {', '.join(map(str, heights))} pixels, but a text row has "
                f"{ROW_HEIGHT}; use a scalable font or one with a strike of at most 16 pixels."
            )
        face.select_size(-max(fitting)[1])
        return face.size.ascender // 64, -(face.size.descender // 64)

    def _line(self, size: int) -> tuple[int, int]:
        face = self._face
        return round(face.ascender * size / face.units_per_EM), round(-face.descender * size / face.units_per_EM)

    def glyph(self, code_point: int, antialias: bool = False) -> Glyph | None:
        with font_lock():
            try:
                index = self._face.get_char_index(code_point)
                return self._load(index, antialias) if index else None
            except freetype.FT_Exception as error:
                self._damaged(f"the glyph of U+{code_point:04X}: {error}")

    def _load(self, index: int, antialias: bool) -> Glyph:
        target = freetype.FT_LOAD_TARGET_NORMAL if antialias else freetype.FT_LOAD_TARGET_MONO
        self._face.load_glyph(index, freetype.FT_LOAD_RENDER | target)
        slot = self._face.glyph
        bitmap = slot.bitmap._FT_Bitmap  # freetype-py's own `buffer` copies byte by byte in Python: 60 times slower
        height, width, pitch = bitmap.rows, bitmap.width, abs(bitmap.pitch)
        advance = max(round(slot.advance.x / 64), 0)
        if height * pitch > _MAX_BITMAP_BYTES:
            self._damaged(f"a glyph of {height} x {width} pixels")
        if not height or not width or not bitmap.buffer:
            return _cell(np.zeros((ROW_HEIGHT, 0), np.uint8), 0, 0, advance, antialias)
        rows = np.frombuffer(ctypes.string_at(bitmap.buffer, height * pitch), np.uint8).reshape(height, pitch)
        if bitmap.pixel_mode == freetype.FT_PIXEL_MODE_MONO:
            rows = np.unpackbits(rows, axis=1)[:, :width]
            if antialias:
                rows = rows * np.uint8(255)
        elif not antialias:
            rows = rows >= 128  # a font that only has grey bitmaps
        left = slot.bitmap_left
        if left < 0:
            # Unifont's OTF stores a combining mark shifted left by its cell (8 or 16 columns) with no advance; the cell
            # is not in the file, so the ink decides: a wide mark that starts at -8 fills an 8-column cell.
            cell = 8 if left > -8 or (left == -8 and width > 5) else 16
            left = max(left + cell, 0) if advance == 0 else 0
        return _cell(rows[:, :width], self._baseline - slot.bitmap_top, left, advance, antialias)


def _cell(rows: np.ndarray, top: int, left: int, advance: int, antialias: bool) -> Glyph:
    """Places a bitmap (h, w) into its cell of 16 rows and turns it into columns."""
    height, width = rows.shape
    if left + width > ROW_HEIGHT and width <= ROW_HEIGHT:
        left = min(left, ROW_HEIGHT - width)
    wide = max(left + width, advance) > ROW_HEIGHT
    cell = np.zeros((ROW_HEIGHT, MAX_GLYPH_WIDTH if wide else ROW_HEIGHT), np.uint8)
    top = min(max(top, 0), max(ROW_HEIGHT - height, 0))  # moved into the row where it can be
    visible = rows[: ROW_HEIGHT - top, : max(cell.shape[1] - left, 0)]
    cell[top : top + visible.shape[0], left : left + visible.shape[1]] = visible
    columns = np.ascontiguousarray(cell.T)  # (cell, 16)
    if antialias:
        return Glyph(columns, advance)
    return Glyph(pack_columns(columns), advance)


@lru_cache(maxsize=32)
def _cached_font(file: FontFile) -> HexFont | FreeTypeFont:
    data = file.data
    if data[:2] == b"\x1f\x8b":
        data = _gunzip(file.name, data)
    return HexFont(file, data) if file.name.lower().endswith((".hex", ".hex.gz")) else FreeTypeFont(file, data)


def open_font(file: FontFile) -> HexFont | FreeTypeFont:
    """Opens a font file. The process keeps the reader; it never enters an object that is pickled.

    Raises:
        ValueError: The file is damaged, has no known format, or unpacks to more than MAX_FONT_BYTES.
    """
    with font_lock():
        return _cached_font(file)


def _gunzip(name: str, data: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            unpacked = stream.read(MAX_FONT_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{name} is a damaged gzip file ({error}); fetch it again.") from None
    check_size(name, len(unpacked))
    return unpacked


def check_size(name: object, size: int) -> None:
    """Raises ValueError if a font file or archive of `size` bytes is larger than any sound one."""
    if size > MAX_FONT_BYTES:
        raise ValueError(
            f"{name} takes more than {MAX_FONT_BYTES >> 20} MiB ({size} bytes or more); give a smaller font file."
        )
