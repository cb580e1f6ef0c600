"""Sheet of canvases and scores: images across, rendered texts down, a probability in each field.

The size suits screens with two pixels a point: eight images of 80 pixels make a sheet 1836 pixels wide, shown at half
of that. Pillow and its own font are enough, because the texts are already rendered.
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
CANVAS_POINTS = 160  # a canvas is enlarged to the whole multiple of its size that is nearest to this


@dataclass(frozen=True)
class _Sheet:
    """Image and its pen."""

    image: Image.Image
    pen: ImageDraw.ImageDraw

    def write(self, at: tuple[float, float], text: str, size: int, color: str = INK, anchor: str = "la") -> None:
        self.pen.text(at, text, fill=color, font=font(size), anchor=anchor)


def font(size: int) -> ImageFont.FreeTypeFont:
    """Returns the font that comes with Pillow (Latin only), `size` pixels high."""
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
        images: uint8 (M, H, W, 3), images as the model reads them.
        texts: uint8 (N, H, W, 1 or 3), rendered texts as the model reads them.
        cosines: (N, M), text by image.
        scale: Factor of the cosines before the softmax.
        title: First line of the sheet.
        notes: Two short lines beside each text, in Latin letters.
        right: (text, image) fields to frame as right.
        patch_size: Side of a patch in pixels. Patches are drawn a little apart.
        blank: Grey level of patches without ink, which the model skips and the sheet dims. None dims no patch.

    Returns:
        An RGB image.

    Raises:
        ValueError: The shapes do not match.
    """
    cosines = np.asarray(cosines, dtype=np.float64)
    if not len(images) or not len(texts) or cosines.shape != (len(texts), len(images)):
        raise ValueError(
            f"{len(images)} images and {len(texts)} texts need as many columns and rows of cosines, and at least "
            f"one each; got an array of shape {cosines.shape}."
        )
    if images.shape[1:3] != texts.shape[1:3]:
        raise ValueError(f"Images {images.shape[1:3]} and texts {texts.shape[1:3]} are not of one canvas size.")
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
    sheet.write((MARGIN, MARGIN + 54), f"Images and texts exactly as the model reads them: {patches}", 26, GREY)
    for column, canvas in enumerate(columns):
        image.paste(canvas, (left + column * (width + GAP), top - 3 * GAP - height))
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
    """Computes the softmax over the rows. Each column sums to 1."""
    exponentials = np.exp(logits - logits.max(axis=0))
    return exponentials / exponentials.sum(axis=0)


def tile(pixels: np.ndarray, patch_size: int, zoom: int, blank: int | None = None) -> Image.Image:
    """Draws a canvas cut into its patches.

    Args:
        pixels: uint8 (H, W, 1 or 3).
        patch_size: Side of a patch in pixels.
        zoom: Enlargement of every pixel.
        blank: Grey level of the patches to dim. None dims no patch.
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
    text = "probability of the text for the image above it, and the cosine"
    sheet.write((left + steps + 20, y + 11), text + ("; framed: the right text" if right else ""), 24, GREY, "lm")
    if dimmed:
        sheet.write((MARGIN, y + 11), "pale: no ink, not read", 24, GREY, "lm")


def color_of(probability: float) -> tuple[int, int, int]:
    """Returns the colour of a probability."""
    place = 2 * min(max(float(probability), 0.0), 1.0)
    low = min(int(place), 1)
    mixed = RAMP[low] + (place - low) * (RAMP[low + 1] - RAMP[low])
    return tuple(round(channel) for channel in mixed)


def percent(probability: float) -> str:
    """Formats whole percents. 0% and 100% are exact; values near them become <1% and >99%."""
    if 0 < probability < 0.005:
        return "<1%"
    if 0.995 <= probability < 1:
        return ">99%"
    return f"{probability * 100:.0f}%"
