"""Figure of nearest neighbours: each query as the model reads it, with its nearest images or texts beside it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from clippo.visualization.sheet import GAP, GREY, INK, MARGIN, PAPER, RIGHT, font

SIDE = 160  # side of a tile in pixels
LINE = 34  # height of the line below a tile, with its cosine


def draw_neighbours(
    queries: Sequence[np.ndarray],
    items: Sequence[np.ndarray],
    cosines: np.ndarray,
    k: int = 8,
    right: Sequence[set[int]] | None = None,
    title: str = "Nearest neighbours",
) -> Image.Image:
    """Draws the sheet.

    Args:
        queries: Q canvases, uint8 (H, W, 1 or 3).
        items: N canvases, uint8 (H, W, 1 or 3), images or rendered texts.
        cosines: (Q, N).
        k: Number of items to show.
        right: Indices of the right items of each query. They are framed.
        title: First line of the sheet.

    Raises:
        ValueError: The shapes do not match.
    """
    cosines = np.asarray(cosines, dtype=np.float64)
    if cosines.shape != (len(queries), len(items)) or not cosines.size:
        raise ValueError(
            f"{len(queries)} queries and {len(items)} items need cosines of that shape, got {cosines.shape}."
        )
    if right is not None and len(right) != len(queries):
        raise ValueError(f"{len(queries)} queries need as many sets of right items, got {len(right)}.")
    k = min(k, len(items))
    top = 2 * MARGIN + 20
    size = (2 * MARGIN + (k + 1) * (SIDE + GAP) + 2 * GAP, top + len(queries) * (SIDE + LINE + GAP) + MARGIN)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN // 2), title, fill=INK, font=font(34))
    for row, query in enumerate(queries):
        y = top + row * (SIDE + LINE + GAP)
        sheet.paste(_tile(query), (MARGIN, y))
        for place, item in enumerate(np.argsort(-cosines[row], kind="stable")[:k]):
            x = MARGIN + (place + 1) * (SIDE + GAP) + 2 * GAP
            sheet.paste(_tile(items[item]), (x, y))
            if right is not None and int(item) in right[row]:
                pen.rectangle((x - 4, y - 4, x + SIDE + 3, y + SIDE + 3), outline=RIGHT, width=5)
            pen.text((x + SIDE / 2, y + SIDE + 6), f"{cosines[row, item]:.2f}", fill=GREY, font=font(20), anchor="ma")
    return sheet


def _tile(pixels: np.ndarray) -> Image.Image:
    height, width = pixels.shape[:2]
    image = Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3))))
    zoom = SIDE / max(height, width)
    image = image.resize((round(width * zoom), round(height * zoom)), Image.Resampling.LANCZOS)
    tile = Image.new("RGB", (SIDE, SIDE), PAPER)
    tile.paste(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    return tile
