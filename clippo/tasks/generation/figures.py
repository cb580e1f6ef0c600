"""Figure of lines that were read aloud: each drawn line, and below it the written one with its errors marked."""

from collections.abc import Sequence
from difflib import SequenceMatcher

import numpy as np
from PIL import Image

from clippo.processing import TextRenderer

PAPER, INK, RIGHT, WRONG = (255, 255, 255), (20, 20, 20), (0, 130, 60), (200, 0, 0)
ROW, GAP = 16, 4  # pixels


def draw_lines(lines: Sequence[tuple[str, str]], width: int = 512, zoom: int = 2) -> Image.Image:
    """Draw lines as the model saw them, in black, and below each one what it wrote.

    Args:
        lines: (right line, written line) of each pair. Characters of the written line that differ are red.
        width: Width of a line in pixels. Longer lines are cut.
        zoom: Size of a pixel of the font.

    Example:
        >>> draw_lines([("a cat", "a cat"), ("a dog", "a dig")], width=64, zoom=1).size
        (64, 80)
    """
    renderer = TextRenderer(canvas_size=[ROW, width])
    right, written = (renderer([pair[side] for pair in lines], boxes=True) for side in (0, 1))
    height = 2 * ROW + 2 * GAP
    sheet = np.full((height * len(lines), width, 3), PAPER, np.uint8)
    for number, (wanted, found) in enumerate(lines):
        top = number * height
        _paint(sheet[top : top + ROW], right.canvases[number, 0], INK)
        _paint(sheet[top + ROW : top + 2 * ROW], written.canvases[number, 0], RIGHT)
        for index in wrong_characters(wanted, found):
            if index < len(written.boxes[number]):
                x0, _, x1, _ = written.boxes[number][index]
                _paint(sheet[top + ROW : top + 2 * ROW, x0:x1], written.canvases[number, 0, :, x0:x1], WRONG)
    return Image.fromarray(sheet.repeat(zoom, 0).repeat(zoom, 1))


def wrong_characters(wanted: str, found: str) -> list[int]:
    """Places of the characters of `found` that are not in `wanted`; at a gap, the character after it.

    Example:
        >>> wrong_characters("a dog", "a dig"), wrong_characters("abc", "ac")
        ([3], [1])
    """
    wrong = []
    for kind, _, _, start, end in SequenceMatcher(None, wanted, found, autojunk=False).get_opcodes():
        if kind != "equal":
            wrong += range(start, max(end, min(start + 1, len(found))))
    return wrong


def _paint(area: np.ndarray, canvas: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Paint the ink of a canvas, uint8 (ROW, w) with ink 0, into (ROW, w, 3)."""
    area[canvas == 0] = colour
