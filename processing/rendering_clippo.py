"""Renders a batch of strings: layout, then 16-pixel columns, then pixels.

The rules are those of the official renderer (big_vision/pp/proj/clippo, op `render_unifont`): characters one after
another, rows broken by width alone, ink 0 on background 127.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from .canvas_clippo import (
    ROW_HEIGHT,
    CanvasFormat,
    RenderedText,
    RenderOptions,
    columns_to_packed,
    columns_to_pixels,
)
from .fonts_clippo import FontChain
from .glyphs_clippo import GlyphTable, glyph_table
from .shaping_clippo import ShapedText, require_shaping, shape_text, visual_order

_SURROGATE = re.compile("[\ud800-\udfff]")
_CHUNK = 64  # texts turned into pixels at a time, so that their lines stay in the cache


@dataclass
class _Layout:
    """The place of every glyph; all arrays are int64 (glyphs,) over the whole batch, texts one after another."""

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
        fonts: A FontChain, or anything `FontChain.from_source` takes. None is the packaged Unifont.
        options: Drawing options. None is the official ones.
        **changes: Single fields of `RenderOptions`, as keywords.

    Raises:
        ValueError: An option is out of range; the message names it.
        ImportError: `shaping=True` without the libraries of the extra `clippo[shaping]`.

    Example:
        >>> from clippo.processing import TextRenderer
        >>> renderer = TextRenderer(canvas_size=(32, 64))
        >>> renderer(["hello", "שלום"]).canvases.shape
        (2, 1, 32, 64)
        >>> renderer(["hello"], "packed").canvases.shape
        (1, 2, 16)
    """

    def __init__(
        self,
        fonts: "FontChain | str | os.PathLike | list | None" = None,
        options: RenderOptions | None = None,
        **changes,
    ):
        self.options = replace(options or RenderOptions(), **changes)
        if self.options.shaping:
            require_shaping()
        self.fonts = FontChain.from_source(fonts)

    def __call__(self, texts: Iterable[str], format: CanvasFormat = "uint8", boxes: bool = False) -> RenderedText:
        """Renders a batch.

        Args:
            texts: Strings, or UTF-8 bytes. Malformed bytes and lone surrogates are drawn as U+FFFD. One bare string is
                a batch of one.
            format: "uint8", "float" or "packed".
            boxes: Whether the pixel box of every drawn character is returned.

        Raises:
            TypeError: `texts` is not a collection, or an element is neither str nor bytes; the message names its index.
            ValueError: An unknown format, or "packed" with colours or sizes that it cannot carry.
        """
        self.options.check_format(format)
        texts, totals = self._read(texts)
        table = glyph_table(self.fonts, self.options.glyphs)
        layout, per_char = self._lay_out(table, texts)
        visible = self._visible(layout)
        drawn = np.bincount(per_char.text[self._visible(per_char)], minlength=len(texts))
        layout = layout if visible.all() else layout.select(visible)
        rows_used = np.zeros(len(texts), np.int64)
        np.maximum.at(rows_used, layout.text, layout.row + 1)
        canvases = self._draw(table, layout, rows_used, format)
        return RenderedText(canvases, rows_used, totals, drawn, self._boxes(per_char, drawn) if boxes else None)

    def _read(self, texts: Iterable[str]) -> tuple[list[str], np.ndarray]:
        """Strings cut to `max_chars`, and the number of code points each had before."""
        if isinstance(texts, (str, bytes)):
            texts = [texts]
        elif not isinstance(texts, Iterable):
            raise TypeError(f"texts is of type {type(texts).__name__} ({texts!r}); give a list of strings.")
        texts = list(texts)
        for i, text in enumerate(texts):
            if isinstance(text, bytes):
                texts[i] = text.decode("utf-8", errors="replace")
            elif not isinstance(text, str):
                raise TypeError(
                    f"Text {i} is of type {type(text).__name__} ({repr(text)[:60]}); convert it with str() or drop it."
                )
        totals = np.fromiter(map(len, texts), np.int64, len(texts))
        if self.options.max_chars is not None and totals.max(initial=0) > self.options.max_chars:
            texts = [text[: self.options.max_chars] for text in texts]
        return texts, totals

    def _lay_out(self, table: GlyphTable, texts: list[str]) -> tuple[_Layout, _Layout]:
        """A layout with one entry a glyph, and one with one entry a character: the same object without shaping."""
        try:
            code_points = "".join(texts).encode("utf-32-le")
        except UnicodeEncodeError:
            # A lone surrogate is drawn as malformed bytes are: as U+FFFD, the sign for what is not a character.
            texts = [_SURROGATE.sub("\ufffd", text) for text in texts]
            code_points = "".join(texts).encode("utf-32-le")
        if not self.options.shaping:
            lengths = np.fromiter(map(len, texts), np.int64, len(texts))
            glyphs = np.frombuffer(code_points, "<u4")
            layout = self._place(table, glyphs, lengths)
            return layout, layout
        shaped = [shape_text(text, self.fonts, self.options.lowercase) for text in texts]
        glyphs = table.numbers([unit for text in shaped for unit in text.units])
        lengths = np.array([len(text.units) for text in shaped], np.int64)
        layout = self._place(table, glyphs, lengths)
        _reorder(layout, np.concatenate([np.zeros(0, np.uint8), *(text.levels for text in shaped)]))
        return layout, _by_character(layout, shaped, lengths)

    def _place(self, table: GlyphTable, glyphs: np.ndarray, lengths: np.ndarray) -> _Layout:
        """Places glyphs one after another.

        Args:
            table: The glyph table.
            glyphs: Glyph numbers (n,), texts one after another.
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
        room = np.maximum(self.options.width - widest, 1).astype(np.float32)
        row = ((end - before[text]).astype(np.float32) / room[text]).astype(np.int64)
        # x restarts at the first glyph of every row
        first, row_lengths = _runs(text, row)
        begin = end - width
        x = begin - np.repeat(begin[first], row_lengths)
        return _Layout(text, row, x, width, table.offset[glyphs].astype(np.int64))

    def _visible(self, layout: _Layout) -> np.ndarray:
        """bool (glyphs,), whether the row of each glyph is on the canvas, at least in part."""
        return layout.row < -(-self.options.height // ROW_HEIGHT)

    def _draw(self, table: GlyphTable, layout: _Layout, rows_used: np.ndarray, format: str) -> np.ndarray:
        height, width = self.options.canvas_size
        batch, rows = len(rows_used), -(-height // ROW_HEIGHT)
        if format == "packed":
            canvases = np.empty((batch, rows, width), "<u2")
        else:
            levels = self.options.levels(format)
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
                canvases[text, row] = columns_to_pixels(lines, levels).reshape(len(text), ROW_HEIGHT * width)
        if format == "packed":
            return columns_to_packed(canvases)
        canvases = canvases.reshape(batch, 1, rows * ROW_HEIGHT, width)
        return canvases if height % ROW_HEIGHT == 0 else np.ascontiguousarray(canvases[:, :, :height])

    def _lines(self, columns: np.ndarray, layout: _Layout, line: np.ndarray, count: int) -> np.ndarray:
        """Glyph columns set side by side: uint16 (count, width), or uint8 (count, width, 16) of coverage.

        Args:
            columns: Columns of the glyph table.
            layout: The glyphs.
            line: int64 (glyphs,), index of the line of each glyph.
            count: Number of lines.
        """
        canvas_width = self.options.width
        lines = np.zeros((count * canvas_width, *columns.shape[1:]), columns.dtype)
        # One entry per drawn column: where it comes from in the glyph table, and where it goes.
        shift = np.cumsum(layout.width) - layout.width
        steps = np.arange(int(layout.width.sum()))
        source = np.repeat(layout.source - shift, layout.width) + steps
        target = np.repeat(line * canvas_width + layout.x - shift, layout.width) + steps
        lines[target] = columns[source]
        return lines.reshape(count, canvas_width, *columns.shape[1:])

    def _boxes(self, layout: _Layout, drawn: np.ndarray) -> list[np.ndarray]:
        layout = layout.select(self._visible(layout))
        top = layout.row * ROW_HEIGHT
        bottom = np.minimum(top + ROW_HEIGHT, self.options.height)
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
    """Layout with one entry per character: that of the glyph that draws it, or width 0 and row 0."""
    starts = np.cumsum(lengths) - lengths
    text = np.repeat(np.arange(len(shaped)), [len(s.unit_of_char) for s in shaped])
    unit = np.concatenate([np.zeros(0, np.int64), *(s.unit_of_char for s in shaped)])
    # One entry more than glyphs: the place of characters without a glyph
    empty = _Layout(*(np.append(a, 0) for a in (layout.text, layout.row, layout.x, layout.width, layout.source)))
    per_char = empty.select(np.where(unit < 0, len(layout.text), starts[text] + unit))
    per_char.text = text
    return per_char
