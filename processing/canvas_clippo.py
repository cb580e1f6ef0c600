"""The canvas of rendered text: its options, its grey levels, its packed bits and the report of text that was cut.

A text row is 16 pixels high. Ink is 0 on background 127. A canvas has one of three formats:

    "uint8":  uint8 (B, 1, H, W), grey levels 0..255
    "float":  float32 (B, 1, H, W), x / 255 * 2 - 1
    "packed": int64 (B, H / 16, W / 4), one bit a pixel
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
from transformers.utils import logging

logger = logging.get_logger(__name__)

ROW_HEIGHT = 16
MAX_GLYPH_WIDTH = 32  # columns; wider glyphs of arbitrary fonts are cut here (no Unifont glyph is wider than 16)
MAX_PIXELS = 1 << 26  # of a canvas or an image; 8192 x 8192 pixels of three channels take 805 MB as float32
CANVAS_FORMATS = ("uint8", "float", "packed")
OVERFLOWS = ("warn", "raise", "ignore")

CanvasFormat = Literal["uint8", "float", "packed"]
Overflow = Literal["warn", "raise", "ignore"]

# Canvases that a warning was given for. Not in the tokenizer: its attributes are what datasets fingerprints.
_WARNED: set = set()


def one_of(name: str, value, choices: Sequence[str]):
    """Returns `value` if it is one of `choices`, else raises ValueError."""
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not known; choose one of {', '.join(map(repr, choices))}.")
    return value


@dataclass(frozen=True, kw_only=True)
class GlyphOptions:
    """The options that decide the columns of a glyph. `RenderOptions` describes each of them."""

    lowercase: bool = True
    monospace: bool = False
    spacing: int = 1
    min_width: int = 4
    antialias_font: bool = False
    advances: Literal["ink", "font"] = "ink"


@dataclass(frozen=True, kw_only=True)
class RenderOptions(GlyphOptions):
    """The drawing options of a text renderer. The defaults are those of the official CLIPPO renderer.

    Args:
        canvas_size: Side of the square canvas in pixels, or (height, width).
        max_chars: Code points read of a text. None reads all.
        lowercase: Draw ASCII A-Z as a-z. Other scripts keep their capitals, as in the official renderer.
        monospace: Draw whole 16-pixel cells, without trimming.
        spacing: Blank columns kept left of a glyph's ink, 0..16.
        min_width: Least columns of a character, 1..16. A blank has exactly these.
        background: Grey level of the background, 0..255.
        ink: Grey level of the ink, 0..255.
        antialias_font: Draw grey edges from outline fonts. (`antialias` is an option of the image processor, and a
            processor would pass one value to both.)
        advances: "ink" spaces characters by their ink, the official rule; "font" by the font's own advances.
        shaping: Apply right-to-left order, joined Arabic forms, composed letters and marks on their base. Rows still
            break by width and start at the left edge. Needs the extra `clippo[shaping]`.

    Raises:
        ValueError: An option is out of range; the message names it.

    Example:
        >>> from dataclasses import replace
        >>> from clippo.processing import RenderOptions
        >>> options = RenderOptions(canvas_size=64, spacing=2)
        >>> options.height, options.width
        (64, 64)
        >>> replace(options, canvas_size=(32, 64)).canvas_size
        (32, 64)
    """

    canvas_size: "int | Sequence[int]" = 224
    max_chars: int | None = 768
    background: int = 127
    ink: int = 0
    shaping: bool = False

    def __post_init__(self):
        self._check_types()
        object.__setattr__(self, "canvas_size", _height_and_width(self.canvas_size))
        if self.height < ROW_HEIGHT or self.width < MAX_GLYPH_WIDTH:
            raise ValueError(
                f"canvas_size {self.height} x {self.width} is too small; give at least {ROW_HEIGHT} x "
                f"{MAX_GLYPH_WIDTH} pixels (one text row, one wide character)."
            )
        if self.height * self.width > MAX_PIXELS:
            raise ValueError(
                f"canvas_size {self.height} x {self.width} has {self.height * self.width} pixels; give at most "
                f"{MAX_PIXELS}."
            )
        if self.max_chars is not None and self.max_chars < 1:
            raise ValueError(f"max_chars is {self.max_chars}; give a positive number, or None for no limit.")
        if not 0 <= self.spacing <= ROW_HEIGHT or not 1 <= self.min_width <= ROW_HEIGHT:
            raise ValueError(f"spacing {self.spacing} must be in 0..16 and min_width {self.min_width} in 1..16 pixels.")
        if not 0 <= self.background <= 255 or not 0 <= self.ink <= 255:
            raise ValueError(f"background {self.background} and ink {self.ink} must be grey values in 0..255.")
        one_of("advances", self.advances, ("ink", "font"))

    def _check_types(self) -> None:
        """Raises ValueError for options that a tokenizer_config.json can hold and a renderer cannot use."""
        for name in ("lowercase", "monospace", "antialias_font", "shaping"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise ValueError(f"{name}={getattr(self, name)!r} is not usable; give True or False.")
        for name in ("max_chars", "spacing", "min_width", "background", "ink"):
            value = getattr(self, name)
            is_number = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if not is_number and not (name == "max_chars" and value is None):
                raise ValueError(f"{name}={value!r} is not usable; give a whole number.")

    @property
    def height(self) -> int:
        """Height of the canvas in pixels."""
        return self.canvas_size[0]

    @property
    def width(self) -> int:
        """Width of the canvas in pixels."""
        return self.canvas_size[1]

    @property
    def glyphs(self) -> GlyphOptions:
        """The part of the options that decides the columns of a glyph."""
        return GlyphOptions(**{field.name: getattr(self, field.name) for field in fields(GlyphOptions)})

    def levels(self, format: CanvasFormat) -> np.ndarray:
        """Pixel values (256,) by coverage 0..255: background at 0, ink at 255; uint8 or float32."""
        coverage = np.arange(256, dtype=np.float64) / 255
        levels = np.rint(self.background + (self.ink - self.background) * coverage).astype(np.uint8)
        # float32 at every step, as the official graph computes x / 255 * 2 - 1
        return (
            levels.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1) if format == "float" else levels
        )

    def check_format(self, format: str) -> None:
        """Raises ValueError if a canvas with these options cannot have the format."""
        if one_of("canvas_format", format, CANVAS_FORMATS) != "packed":
            return
        use_another = 'use canvas_format "uint8" or "float".'
        if self.antialias_font:
            raise ValueError(f"antialiased glyphs have grey values, which packed bits cannot carry; {use_another}")
        if (self.background, self.ink) != (127, 0):
            raise ValueError(
                f"packed bits always mean ink 0 on background 127, not {self.ink} on {self.background}; {use_another}"
            )
        if self.height % ROW_HEIGHT or self.width % 4:
            raise ValueError(
                f"packed bits need a height divisible by 16 and a width divisible by 4, not {self.height} x "
                f"{self.width}; {use_another}"
            )


@dataclass
class RenderedText:
    """A batch of B rendered texts, or of B rendered pairs of texts.

    Args:
        canvases: Canvases in one of the three formats of this module.
        rows_used: int64 (B,), text rows with at least one character on the canvas.
        chars_total: int64 (B,), code points of the text as given.
        chars_drawn: int64 (B,), the code points of these that are on the canvas, at least in part. The others were cut
            by `max_chars` or by the height of the canvas. (A height that is no multiple of 16 has a partial last row.)
        boxes: int64 (chars_drawn, 4) for each text: x0, y0, x1, y1 in pixels, x1 and y1 exclusive, in text order. With
            shaping, characters drawn as one glyph share its box. A character that is not drawn at all, although
            nothing was cut, has the box 0, 0, 0, 0.
        parts_total: int64 (B, 2) for pairs, code points of the first and the second text as given.
        parts_drawn: int64 (B, 2) for pairs, the code points of these that are on the canvas.

    Example:
        >>> from clippo.processing import TextRenderer
        >>> rendered = TextRenderer(canvas_size=64)(["a cat", ""])
        >>> rendered.canvases.shape, rendered.rows_used.tolist(), rendered.chars_cut.tolist()
        ((2, 1, 64, 64), [1, 0], [0, 0])
    """

    canvases: np.ndarray
    rows_used: np.ndarray
    chars_total: np.ndarray
    chars_drawn: np.ndarray
    boxes: list[np.ndarray] | None = None
    parts_total: np.ndarray | None = None
    parts_drawn: np.ndarray | None = None

    @property
    def chars_cut(self) -> np.ndarray:
        """int64 (B,), code points that are not on the canvas."""
        return self.chars_total - self.chars_drawn

    @property
    def parts_cut(self) -> np.ndarray | None:
        """int64 (B, 2), code points of the first and the second text that are not on the canvas; None for texts."""
        return None if self.parts_total is None else self.parts_total - self.parts_drawn


def report_overflow(
    rendered: RenderedText,
    overflow: Overflow,
    max_chars: int | None,
    limit: str,
    unit: str = "text",
    remedy: str = "Shorten or split the text",
) -> None:
    """Warns or raises if characters were cut.

    Args:
        rendered: Texts as drawn.
        overflow: "warn" (once a process and limit), "raise" or "ignore".
        max_chars: The renderer's limit of characters.
        limit: The other limit, for the message: the area of the canvas.
        unit: The word for one text.
        remedy: The change of the text that makes it fit.

    Raises:
        ValueError: Characters were cut and `overflow` is "raise".
    """
    cut = rendered.chars_cut  # (B,)
    key = (unit, limit, max_chars)
    if overflow == "ignore" or not cut.any() or (overflow == "warn" and key in _WARNED):
        return
    worst, of_parts, drawn = int(cut.argmax()), "", rendered.chars_drawn
    if rendered.parts_cut is not None:
        first, second = rendered.parts_cut[worst].tolist()
        unit, of_parts, drawn = "pair", f" ({first} of the first text, {second} of the second)", rendered.parts_drawn
    if max_chars is not None and (drawn[worst] == max_chars).any():
        limit = f"max_chars={max_chars}"
    message = (
        f"{int((cut > 0).sum())} of {len(cut)} {unit}s do not fit: {limit} cuts {int(cut[worst])} of the "
        f"{int(rendered.chars_total[worst])} characters of {unit} {worst}{of_parts}. {remedy}, or use a model with a "
        "larger canvas"
    )
    if overflow == "raise":
        raise ValueError(message + '; overflow="ignore" cuts without a message.')
    _WARNED.add(key)
    logger.warning(message + '. This warning is given once; overflow="raise" stops instead, "ignore" is silent.')


def pack_columns(bits: np.ndarray) -> np.ndarray:
    """uint8 (n, 16) of 0 and 1 -> uint16 (n,); bit r (least significant first) is pixel row r."""
    return np.packbits(bits, axis=1, bitorder="little").view("<u2")[:, 0].astype(np.uint16)


def unpack_columns(columns: np.ndarray) -> np.ndarray:
    """uint16 (n,) -> uint8 (n, 16) of 0 and 1, the inverse of `pack_columns`."""
    return np.unpackbits(columns.astype("<u2").view(np.uint8).reshape(-1, 2), axis=1, bitorder="little")


def columns_to_packed(lines: np.ndarray) -> np.ndarray:
    """Columns uint16 (..., W) of text rows -> packed canvas int64 (..., W / 4), four columns to a number."""
    return lines.astype("<u2", copy=False).view("<i8").astype(np.int64, copy=False)


def columns_to_pixels(lines: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Columns of text rows as pixels.

    Args:
        lines: uint16 (n, W) of bits, or uint8 (n, W, 16) of coverage.
        levels: (256,), pixel value by coverage.

    Returns:
        `levels.dtype` (n, 16, W).
    """
    if lines.ndim == 3:
        return levels[lines.transpose(0, 2, 1)]
    halves = lines.astype("<u2", copy=False).view(np.uint8).reshape(*lines.shape, 2)
    halves = np.ascontiguousarray(halves.transpose(2, 0, 1))  # (2, n, W): rows 0-7 and 8-15
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


def stack_canvases(values, width: int) -> np.ndarray:
    """Arrays, tensors or nested lists of canvases -> one array of the dtype they were rendered in.

    One example without a batch axis, as the tokenizer returns for one text, stays without it.
    """
    if not len(values):
        raise ValueError("pad got a batch without examples; give at least one.")
    batch = np.stack([np.asarray(value) for value in values])
    # Data sets return rows as lists of Python numbers, which have no dtype. Then the width tells packed canvases.
    is_packed = np.issubdtype(batch.dtype, np.signedinteger) and batch.shape[-1] != width
    if is_packed and (batch.ndim == 3 or (batch.ndim == 2 and 4 * batch.shape[1] == width)):
        return batch.astype(np.int64, copy=False)  # (B, H/16, W/4), or (H/16, W/4) of one text
    if batch.ndim == 4 or (batch.ndim == 3 and len(batch) == 1):  # (B, 1, H, W), or (1, H, W) of one text
        return batch.astype(np.float32 if np.issubdtype(batch.dtype, np.floating) else np.uint8, copy=False)
    raise ValueError(
        f"text_pixel_values of shape {batch.shape[1:]} are not a canvas; give (1, H, W), or packed (H/16, W/4), each."
    )


def _height_and_width(canvas_size) -> tuple[int, int]:
    sides = (canvas_size, canvas_size) if isinstance(canvas_size, int | np.integer) else canvas_size
    if (
        not isinstance(sides, list | tuple)
        or len(sides) != 2
        or not all(isinstance(side, int | np.integer) for side in sides)
    ):
        raise ValueError(f"canvas_size={canvas_size!r} is not usable; give a number of pixels or [height, width].")
    return int(sides[0]), int(sides[1])
