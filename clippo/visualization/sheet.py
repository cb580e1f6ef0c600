"""One picture of what the model reads and how it scores: pictures across, rendered texts down, a number in each field.

Drawn for screens with two pixels to a point: eight pictures of 80 pixels make a sheet 1836 pixels wide, to be shown at
half of that. Only Pillow and the font inside it are needed, since the texts are drawn by our own renderer already.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

PAPER, INK, GREY = "#ffffff", "#1c2333", "#626b80"
RIGHT = "#f59f00"
# Colours of the probabilities 0, 1/2 and 1.
RAMP = np.array([(240, 243, 250), (129, 158, 226), (38, 62, 150)], dtype=np.float64)
MARGIN, GAP, PATCH_GAP = 48, 10, 2
NOTE_WIDTH, HEADER, FOOTER = 132, 124, 104
CANVAS_POINTS = 160  # a canvas is shown at the whole multiple of its size that comes nearest to this


@dataclass(frozen=True)
class _Sheet:
    """The picture being drawn, and its pen."""

    image: Image.Image
    pen: ImageDraw.ImageDraw

    def write(self, at: tuple[float, float], text: str, size: int, color: str = INK, anchor: str = "la") -> None:
        self.pen.text(at, text, fill=color, font=font(size), anchor=anchor)


def font(size: int) -> ImageFont.FreeTypeFont:
    """The font that Pillow brings along (Latin only), `size` pixels high."""
    return ImageFont.load_default(size)


def draw_sheet(
    images: np.ndarray,
    texts: np.ndarray,
    cosines: np.ndarray,
    scale: float,
    title: str,
    notes: Sequence[tuple[str, str]] = (),
    right: Collection[tuple[int, int]] = (),
    patch_size: int = 16,
    blank: int | None = None,
) -> Image.Image:
    """Draws the sheet.

    Args:
        images: uint8 (M, H, W, 3), pictures as the model reads them.
        texts: uint8 (N, H, W, 1 or 3), rendered texts as the model reads them.
        cosines: (N, M), text by picture.
        scale: what the model multiplies cosines by before a softmax.
        title: the line on top.
        notes: for each text two short lines beside it; Latin letters only.
        right: (text, picture) fields to mark as the right ones.
        patch_size: side of a patch in pixels; patches are drawn a little apart.
        blank: grey level of patches without ink, which the model skips and which are dimmed here; None dims nothing.

    Returns:
        An RGB image.

    Raises:
        ValueError: shapes that do not go together.
    """
    cosines = np.asarray(cosines, dtype=np.float64)
    if not len(images) or not len(texts) or cosines.shape != (len(texts), len(images)):
        raise ValueError(
            f"{len(images)} pictures and {len(texts)} texts need as many columns and rows of cosines, and at least "
            f"one each; got an array of shape {cosines.shape}."
        )
    if images.shape[1:3] != texts.shape[1:3]:
        raise ValueError(f"Pictures {images.shape[1:3]} and texts {texts.shape[1:3]} are not of one canvas size.")
    if notes and len(notes) != len(texts):
        raise ValueError(f"{len(texts)} texts need as many notes, got {len(notes)}.")

    zoom = max(1, round(CANVAS_POINTS / max(images.shape[1:3])))
    columns = [tile(image, patch_size, zoom) for image in images]
    rows = [tile(text, patch_size, zoom, blank) for text in texts]
    width, height = columns[0].size
    left = MARGIN + (NOTE_WIDTH if notes else 0) + width + 3 * GAP
    top = MARGIN + HEADER + height + 3 * GAP
    size = (left + len(columns) * (width + GAP) - GAP + MARGIN, top + len(rows) * (height + GAP) - GAP + FOOTER)
    image = Image.new("RGB", size, PAPER)
    sheet = _Sheet(image, ImageDraw.Draw(image))

    sheet.write((MARGIN, MARGIN - 8), title, 44)
    patches = f"{images.shape[2]} x {images.shape[1]} pixels in patches of {patch_size}"
    sheet.write((MARGIN, MARGIN + 54), f"Pictures and texts exactly as the model reads them: {patches}", 26, GREY)
    for column, picture in enumerate(columns):
        image.paste(picture, (left + column * (width + GAP), top - 3 * GAP - height))
    for row, text in enumerate(rows):
        y = top + row * (height + GAP)
        image.paste(text, (left - 3 * GAP - width, y))
        if notes:
            sheet.write((MARGIN, y + height / 2 - 4), notes[row][0], 26, anchor="ls")
            sheet.write((MARGIN, y + height / 2 + 8), notes[row][1], 22, GREY, anchor="la")
    probabilities = softmax(scale * cosines)
    for row, column in np.ndindex(cosines.shape):
        corner = (left + column * (width + GAP), top + row * (height + GAP))
        marked = (row, column) in right
        _draw_field(sheet, corner, (width, height), probabilities[row, column], cosines[row, column], marked)
    _draw_legend(sheet, left, size[1] - 68, blank is not None, bool(right))
    return image


def softmax(logits: np.ndarray) -> np.ndarray:
    """Over the rows: each column sums to 1."""
    exponentials = np.exp(logits - logits.max(axis=0))
    return exponentials / exponentials.sum(axis=0)


def tile(pixels: np.ndarray, patch_size: int, zoom: int, blank: int | None = None) -> Image.Image:
    """A canvas cut into its patches, each pixel `zoom` wide, patches of nothing but the level `blank` dimmed.

    Args:
        pixels: uint8 (H, W, 1 or 3).
    """
    height, width = pixels.shape[:2]
    pixels = np.broadcast_to(pixels, (height, width, 3))
    places = [(y, x) for y in range(0, height, patch_size) for x in range(0, width, patch_size)]
    step = patch_size * zoom + PATCH_GAP
    size = (-(-width // patch_size) * step - PATCH_GAP, -(-height // patch_size) * step - PATCH_GAP)
    image = Image.new("RGB", size, PAPER)
    for y, x in places:
        patch = pixels[y : y + patch_size, x : x + patch_size]
        if blank is not None and (patch == blank).all():
            patch = np.full_like(patch, 255 - (255 - blank) // 6)
        enlarged = patch.repeat(zoom, axis=0).repeat(zoom, axis=1)
        image.paste(Image.fromarray(enlarged), (x // patch_size * step, y // patch_size * step))
    return image


def _draw_field(
    sheet: _Sheet, corner: tuple[int, int], size: tuple[int, int], probability: float, cosine: float, marked: bool
) -> None:
    (x, y), (width, height) = corner, size
    sheet.pen.rounded_rectangle((x, y, x + width - 1, y + height - 1), 12, fill=color_of(probability))
    if marked:
        sheet.pen.rounded_rectangle((x - 5, y - 5, x + width + 4, y + height + 4), 17, outline=RIGHT, width=5)
    large, small = (PAPER, "#dfe6f8") if probability > 0.6 else (INK, "#2f3a56" if probability > 0.2 else GREY)
    middle = (x + width / 2, y + height / 2)
    sheet.write((middle[0], middle[1] + 6), percent(probability), 38, large, "ms")
    sheet.write((middle[0], middle[1] + 24), f"{round(cosine, 2) + 0.0:.2f}", 22, small, "mt")


def _draw_legend(sheet: _Sheet, left: int, y: int, dimmed: bool, right: bool) -> None:
    steps = 200
    for i in range(steps):
        sheet.pen.line((left + i, y, left + i, y + 22), fill=color_of(i / (steps - 1)))
    text = "probability of the text for the picture above it, and the cosine"
    sheet.write((left + steps + 20, y + 11), text + ("; framed: the right text" if right else ""), 24, GREY, "lm")
    if dimmed:
        sheet.write((MARGIN, y + 11), "pale: no ink, not read", 24, GREY, "lm")


def color_of(probability: float) -> tuple[int, int, int]:
    """The ramp's colour for 0..1."""
    place = 2 * min(max(float(probability), 0.0), 1.0)
    low = min(int(place), 1)
    mixed = RAMP[low] + (place - low) * (RAMP[low + 1] - RAMP[low])
    return tuple(round(channel) for channel in mixed)


def percent(probability: float) -> str:
    """Whole percent, but never a 0 or 100 that is not exact."""
    if 0 < probability < 0.005:
        return "<1%"
    if 0.995 <= probability < 1:
        return ">99%"
    return f"{probability * 100:.0f}%"
