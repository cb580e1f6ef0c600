"""Strings to canvases, a whole batch at once: layout, then 16-pixel columns, then pixels.

The rules are those of the official renderer (big_vision/pp/proj/clippo, op `render_unifont`): characters one after
another, rows broken by width alone, ink 0 on background 127.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .font_files_clippo import MAX_GLYPH_WIDTH, ROW_HEIGHT
from .fonts_clippo import FontChain
from .glyphs_clippo import GlyphOptions, GlyphTable, glyph_table
from .shaping_clippo import ShapedText, require_shaping, shape_text, visual_order

CanvasFormat = Literal["uint8", "float", "packed"]
_CHUNK = 64  # texts turned into pixels at a time, so that their lines stay in the cache


@dataclass
class RenderedText:
    """A batch of rendered texts.

    Args:
        canvases: "uint8": uint8 (B, 1, H, W). "float": float32 (B, 1, H, W), x / 255 * 2 - 1.
            "packed": int64 (B, H / 16, W / 4); bit r (least significant first) of one of its four uint16 is ink at
            pixel row r of a column.
        rows_used: int64 (B,), text rows with at least one character on the canvas.
        chars_total: int64 (B,), code points of the text as given.
        chars_drawn: int64 (B,), of these, how many are on the canvas, at least in part (a canvas whose height is no
            multiple of 16 has a partial last row). The others were cut by `max_chars` or by the canvas's height.
        boxes: per text int64 (chars_drawn, 4): x0, y0, x1, y1 in pixels, x1 and y1 exclusive, in the order of the text.
            With shaping, characters drawn as one glyph share its box, and a character that is not drawn at all, though
            nothing was cut, has the box 0, 0, 0, 0.
    """

    canvases: np.ndarray
    rows_used: np.ndarray
    chars_total: np.ndarray
    chars_drawn: np.ndarray
    boxes: list[np.ndarray] | None = None


@dataclass
class _Layout:
    """Where every glyph goes; all arrays are int64 (glyphs,) over the whole batch, texts one after another."""

    text: np.ndarray  # index of the text
    row: np.ndarray
    x: np.ndarray
    width: np.ndarray
    source: np.ndarray  # first column in the glyph table

    def select(self, which: np.ndarray | slice) -> "_Layout":
        return _Layout(self.text[which], self.row[which], self.x[which], self.width[which], self.source[which])

    def of_texts(self, first: int, last: int) -> "_Layout":
        """The glyphs of texts first..last - 1."""
        return self.select(slice(*np.searchsorted(self.text, (first, last))))


class TextRenderer:
    """Draws texts in rows of 16 pixels on a canvas.

    Args:
        fonts: a FontChain, or anything `FontChain.from_source` takes; None is the packaged Unifont.
        canvas_size: an int, or (height, width) in pixels.
        max_chars: code points read of a text; None reads all.
        lowercase: draw ASCII A-Z as a-z. Other scripts keep their capitals, as in the official renderer.
        monospace: draw whole 16-pixel cells, without trimming.
        spacing: blank columns kept left of a glyph's ink.
        min_width: least columns of a character; a blank has exactly these.
        background, ink: grey values 0..255.
        antialias: draw grey glyphs from scalable fonts. The default draws black and white everywhere.
        advances: "ink" spaces characters by their ink, the official rule; "font" by the font's own advances.
        shaping: right-to-left order, joined Arabic forms, composed letters and marks on their base, as
            shaping_clippo.py says. Rows still break by width and start at the left edge.

    Raises:
        ValueError: an option out of range; the sentence names it.
        ImportError: `shaping` without the libraries of the extra `clippo[shaping]`.
    """

    def __init__(
        self,
        fonts: "FontChain | str | os.PathLike | list | None" = None,
        canvas_size: "int | tuple[int, int]" = (224, 224),
        max_chars: int | None = 768,
        lowercase: bool = True,
        monospace: bool = False,
        spacing: int = 1,
        min_width: int = 4,
        background: int = 127,
        ink: int = 0,
        antialias: bool = False,
        advances: Literal["ink", "font"] = "ink",
        shaping: bool = False,
    ):
        height, width = (canvas_size, canvas_size) if isinstance(canvas_size, int) else map(int, canvas_size)
        if height < ROW_HEIGHT or width < MAX_GLYPH_WIDTH:
            raise ValueError(
                f"canvas_size {height} x {width} is too small: it needs at least {ROW_HEIGHT} x {MAX_GLYPH_WIDTH} "
                "pixels (one text row, one wide character)"
            )
        if max_chars is not None and max_chars < 1:
            raise ValueError(f"max_chars is {max_chars}; give a positive number, or None for no limit")
        if not 0 <= spacing <= ROW_HEIGHT or not 1 <= min_width <= ROW_HEIGHT:
            raise ValueError(f"spacing {spacing} must be in 0..16 and min_width {min_width} in 1..16 (pixels)")
        if not 0 <= background <= 255 or not 0 <= ink <= 255:
            raise ValueError(f"background {background} and ink {ink} must be grey values in 0..255")
        if advances not in ("ink", "font"):
            raise ValueError(f"advances is {advances!r}; choose 'ink' or 'font'")
        if shaping:
            require_shaping()
        self.fonts = FontChain.from_source(fonts)
        self.shaping = shaping
        self.canvas_size = (height, width)
        self.max_chars = max_chars
        self.background, self.ink = background, ink
        self.options = GlyphOptions(lowercase, monospace, spacing, min_width, antialias, advances)

    def __call__(self, texts: Iterable[str], format: CanvasFormat = "uint8", boxes: bool = False) -> RenderedText:
        """Renders a batch.

        Args:
            texts: strings, or UTF-8 bytes (malformed bytes become U+FFFD). One bare string is a batch of one.
            format: "uint8", "float" or "packed"; see RenderedText.
            boxes: also return the pixel box of every drawn character.

        Raises:
            TypeError: `texts` is no collection, or an element is neither str nor bytes; the sentence names its index.
            ValueError: an unknown format, or "packed" with colours or sizes that it cannot carry.
        """
        self._check_format(format)
        texts, totals = self._read(texts)
        table = glyph_table(self.fonts, self.options)
        if not self.shaping:
            lengths = totals if self.max_chars is None else np.minimum(totals, self.max_chars)
            glyphs = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
            layout = self._layout(table, glyphs, lengths)
            visible = self._visible(layout)
            drawn = lengths.copy() if visible.all() else np.bincount(layout.text[visible], minlength=len(lengths))
            per_char = layout
        else:
            if table.has_many_sequences:
                glyph_table.cache_clear()
                table = glyph_table(self.fonts, self.options)
            shaped = [shape_text(text, self.fonts, self.options.lowercase) for text in texts]
            glyphs = table.numbers([unit for text in shaped for unit in text.units])
            lengths = np.array([len(text.units) for text in shaped], np.int64)
            layout = self._layout(table, glyphs, lengths)
            _reorder(layout, np.concatenate([np.zeros(0, np.uint8), *(text.levels for text in shaped)]))
            visible = self._visible(layout)
            per_char = _by_character(layout, shaped, lengths)
            drawn = np.bincount(per_char.text[self._visible(per_char)], minlength=len(lengths))
        layout = layout if visible.all() else layout.select(visible)
        rows_used = np.zeros(len(lengths), np.int64)
        np.maximum.at(rows_used, layout.text, layout.row + 1)
        canvases = self._draw(table, layout, rows_used, format)
        return RenderedText(canvases, rows_used, totals, drawn, self._boxes(per_char, drawn) if boxes else None)

    def _check_format(self, format: str) -> None:
        if format not in ("uint8", "float", "packed"):
            raise ValueError(f"format is {format!r}; choose 'uint8', 'float' or 'packed'")
        if format != "packed":
            return
        height, width = self.canvas_size
        if self.options.antialias:
            raise ValueError(
                "antialiased glyphs have grey values, which packed bits cannot carry; use format 'uint8' or 'float'"
            )
        if (self.background, self.ink) != (127, 0):
            raise ValueError(
                f"packed bits always mean ink 0 on background 127, not {self.ink} on {self.background}; use format "
                "'uint8' or 'float'"
            )
        if height % ROW_HEIGHT or width % 4:
            raise ValueError(
                f"packed bits need a height divisible by 16 and a width divisible by 4, not {height} x {width}; use "
                "format 'uint8' or 'float'"
            )

    def _read(self, texts: Iterable[str]) -> tuple[list[str], np.ndarray]:
        """Strings cut to `max_chars`, and the number of code points each had before."""
        if isinstance(texts, (str, bytes)):
            texts = [texts]
        elif not isinstance(texts, Iterable):
            raise TypeError(f"texts is a {type(texts).__name__} ({texts!r}), not a list of strings")
        texts = list(texts)
        for i, text in enumerate(texts):
            if isinstance(text, bytes):
                texts[i] = text.decode("utf-8", errors="replace")
            elif not isinstance(text, str):
                raise TypeError(
                    f"texts[{i}] is a {type(text).__name__} ({repr(text)[:60]}), not a string; convert it with str() "
                    "or drop it"
                )
        totals = np.fromiter(map(len, texts), np.int64, len(texts))
        if self.max_chars is not None and totals.max(initial=0) > self.max_chars:
            texts = [text[: self.max_chars] for text in texts]
        return texts, totals

    def _layout(self, table: GlyphTable, glyphs: np.ndarray, lengths: np.ndarray) -> _Layout:
        """Places glyphs one after another.

        Args:
            table: the glyph table.
            glyphs: glyph numbers (n,), texts one after another.
            lengths: int64 (B,), number of glyphs per text.
        """
        width = table.widths(glyphs).astype(np.int64)  # (n,)
        text = np.repeat(np.arange(len(lengths)), lengths)  # (n,)
        full = np.flatnonzero(lengths)
        starts = (np.cumsum(lengths) - lengths)[full]
        widest = np.zeros(len(lengths), np.int64)
        if len(full):
            widest[full] = np.maximum.reduceat(width, starts)
        end = np.cumsum(width)  # (n,) over the batch
        before = np.zeros(len(lengths), np.int64)
        before[full] = end[starts] - width[starts]
        # float32, as the official graph divides: its rounding decides a few row breaks
        room = np.maximum(self.canvas_size[1] - widest, 1).astype(np.float32)
        row = ((end - before[text]).astype(np.float32) / room[text]).astype(np.int64)
        # x restarts at the first glyph of every row
        first, row_lengths = _runs(text, row)
        begin = end - width
        x = begin - np.repeat(begin[first], row_lengths)
        return _Layout(text, row, x, width, table.offset[glyphs].astype(np.int64))

    def _visible(self, layout: _Layout) -> np.ndarray:
        """Bool (glyphs,): those whose row is on the canvas, at least in part."""
        return layout.row < -(-self.canvas_size[0] // ROW_HEIGHT)

    def _draw(self, table: GlyphTable, layout: _Layout, rows_used: np.ndarray, format: str) -> np.ndarray:
        height, width = self.canvas_size
        batch, rows = len(rows_used), -(-height // ROW_HEIGHT)
        if format == "packed":
            canvases = np.empty((batch, rows, width), "<u2")
        else:
            levels = self._levels(format)
            canvases = np.full((batch, rows, ROW_HEIGHT * width), levels[0], levels.dtype)
        for first in range(0, batch, _CHUNK):
            last = min(first + _CHUNK, batch)
            part = layout.of_texts(first, last)
            used = np.full(last - first, rows) if format == "packed" else rows_used[first:last]
            line_begin = np.cumsum(used) - used
            lines = self._lines(table.columns, part, line_begin[part.text - first] + part.row, int(used.sum()))
            if format == "packed":
                canvases[first:last] = lines.reshape(last - first, rows, width)
            else:
                # Only lines that hold characters become pixels: most texts leave most of the canvas blank.
                text = np.repeat(np.arange(first, last), used)  # (lines,)
                row = np.arange(len(text)) - np.repeat(line_begin, used)
                canvases[text, row] = _pixels(lines, levels).reshape(len(text), ROW_HEIGHT * width)
        if format == "packed":
            return canvases.view("<i8").astype(np.int64, copy=False)
        canvases = canvases.reshape(batch, 1, rows * ROW_HEIGHT, width)
        return canvases if height % ROW_HEIGHT == 0 else np.ascontiguousarray(canvases[:, :, :height])

    def _lines(self, columns: np.ndarray, layout: _Layout, line: np.ndarray, count: int) -> np.ndarray:
        """Glyph columns set side by side: uint16 (count, width), or uint8 (count, width, 16) of coverage.

        Args:
            columns: those of the glyph table.
            layout: the glyphs.
            line: int64 (glyphs,), the line each of them stands on.
            count: number of lines.
        """
        canvas_width = self.canvas_size[1]
        lines = np.zeros((count * canvas_width, *columns.shape[1:]), columns.dtype)
        # One entry per drawn column: where it comes from in the glyph table, and where it goes.
        shift = np.cumsum(layout.width) - layout.width
        steps = np.arange(int(layout.width.sum()))
        source = np.repeat(layout.source - shift, layout.width) + steps
        target = np.repeat(line * canvas_width + layout.x - shift, layout.width) + steps
        lines[target] = columns[source]
        return lines.reshape(count, canvas_width, *columns.shape[1:])

    def _levels(self, format: str) -> np.ndarray:
        """Pixel value (256,) by coverage 0..255: background at 0, ink at 255."""
        coverage = np.arange(256, dtype=np.float64) / 255
        grey = np.rint(self.background + (self.ink - self.background) * coverage).astype(np.uint8)
        return grey if format == "uint8" else grey.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)

    def _boxes(self, layout: _Layout, drawn: np.ndarray) -> list[np.ndarray]:
        layout = layout.select(self._visible(layout))
        top = layout.row * ROW_HEIGHT
        bottom = np.minimum(top + ROW_HEIGHT, self.canvas_size[0])
        boxes = np.stack([layout.x, top, layout.x + layout.width, bottom], axis=1)  # (n, 4)
        boxes[layout.width == 0] = 0
        return np.split(boxes, np.cumsum(drawn)[:-1]) if len(drawn) else []


def _runs(text: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First glyph and number of glyphs of every row of every text."""
    starts = np.ones(len(row), bool)
    starts[1:] = (row[1:] != row[:-1]) | (text[1:] != text[:-1])
    first = np.flatnonzero(starts)
    return first, np.diff(first, append=len(row))


def _reorder(layout: _Layout, levels: np.ndarray) -> None:
    """Moves the glyphs of rows that run right to left, in part or whole, to their place in visual order."""
    for first, count in zip(*_runs(layout.text, layout.row), strict=True):
        row = slice(first, first + count)
        if levels[row].any():
            order = visual_order(levels[row])
            width = layout.width[row][order]
            layout.x[first + order] = np.cumsum(width) - width


def _by_character(layout: _Layout, shaped: list[ShapedText], lengths: np.ndarray) -> _Layout:
    """A layout with one entry per character, that of the glyph which draws it; width 0 and row 0 where none does."""
    starts = np.cumsum(lengths) - lengths
    text = np.repeat(np.arange(len(shaped)), [len(s.unit_of_char) for s in shaped])
    unit = np.concatenate([np.zeros(0, np.int64), *(s.unit_of_char for s in shaped)])
    # one entry more than glyphs: the place of characters without a glyph
    empty = _Layout(*(np.append(a, 0) for a in (layout.text, layout.row, layout.x, layout.width, layout.source)))
    per_char = empty.select(np.where(unit < 0, len(layout.text), starts[text] + unit))
    per_char.text = text
    return per_char


def _pixels(lines: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Columns of text lines as pixels.

    Args:
        lines: uint16 (n, width) of bits, or uint8 (n, width, 16) of coverage.
        levels: (256,), pixel value by coverage.

    Returns:
        `levels.dtype` (n, 16, width).
    """
    if lines.ndim == 3:
        return levels[lines.transpose(0, 2, 1)]
    halves = lines.astype("<u2", copy=False).view(np.uint8).reshape(*lines.shape, 2)
    halves = np.ascontiguousarray(halves.transpose(2, 0, 1))  # (2, n, width): rows 0-7 and 8-15
    pixels = np.empty((len(lines), 2, 8, lines.shape[1]), np.uint8)
    bit = np.array([[1 << r] for r in range(8)], np.uint8)
    for half in range(2):
        np.bitwise_and(halves[half][:, None, :], bit, out=pixels[:, half])
    np.equal(pixels, 0, out=pixels.view(bool))
    # ink ^ (blank * (background ^ ink)) on the bit patterns: exact for floats, and several times faster than a masked
    # copy or a look-up.
    pattern = np.dtype(f"u{levels.itemsize}")
    background, ink = levels[[0, 255]].view(pattern)
    pixels = pixels.astype(pattern, copy=False)
    pixels *= background ^ ink
    if ink:
        pixels ^= ink
    return pixels.view(levels.dtype).reshape(len(lines), ROW_HEIGHT, lines.shape[1])
