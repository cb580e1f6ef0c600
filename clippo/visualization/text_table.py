"""Aligned columns for a terminal, with strings of many scripts."""

import unicodedata
from collections.abc import Sequence

LEFT_TO_RIGHT_MARK = "\u200e"


def display_width(text: str) -> int:
    """Counts the columns of `text` in a terminal: two for East Asian wide characters, none for marks and controls."""
    width = 0
    for char in text:
        if unicodedata.category(char) in ("Mn", "Me", "Cf", "Cc"):
            continue
        width += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return width


def pad(text: str, width: int) -> str:
    """Appends spaces up to `width` columns. A longer text does not change."""
    # A terminal with bidirectional text would move the next column to the left of Arabic or Hebrew text.
    mark = LEFT_TO_RIGHT_MARK if any(unicodedata.bidirectional(char) in ("R", "AL") for char in text) else ""
    return text + mark + " " * (width - display_width(text))


def align(rows: Sequence[Sequence[str]], indent: int = 2, gap: int = 2) -> list[str]:
    """Formats rows of one length as lines. Every column is as wide as its widest cell."""
    widths = [max(map(display_width, column)) for column in zip(*rows, strict=True)]
    lines = ((" " * gap).join(pad(cell, width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [(" " * indent + line).rstrip() for line in lines]


def bar(share: float, width: int = 20) -> str:
    """Draws a bar of blocks for a share in 0..1, to an eighth of a block."""
    eighths = round(min(max(share, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
