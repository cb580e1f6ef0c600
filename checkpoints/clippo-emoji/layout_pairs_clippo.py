"""Two texts on canvas: the layouts of sentence pairs. The official code has no pairs; all of this is ours.

"rows": the first text from the top, a row with a short rule, the second text below it, on one canvas. The model sees
where one ends and the other begins without reading punctuation. When they do not both fit, rows are shared out fairly:
a text that needs less than its half keeps all of it, so the longer one is cut first.

"two_canvas": each text on a canvas of its own, the second below the first, for a model that reads them one by one
(`ClippoConfig.num_text_canvases` is 2).

The third layout, "concatenate", draws one string with a separator between; the tokenizer does that itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .font_files_clippo import ROW_HEIGHT
from .rendering_clippo import RenderedText, TextRenderer

PAIR_LAYOUTS = ("concatenate", "rows", "two_canvas")
RULE_ROWS = (7, 8)  # pixel rows of the separator's text row that are inked


@dataclass
class RenderedPairs(RenderedText):
    """A batch of B rendered pairs. `chars_total`, `chars_drawn` and `rows_used` are those of both texts together.

    Args:
        canvases: as of single texts under "rows"; of twice the height under "two_canvas".
        rows_used: int64 (B,), text rows of both texts; under "rows" with the separator's.
        boxes: per pair the boxes of the first text's drawn characters, then those of the second's.
        parts_total: int64 (B, 2), code points of the first and second text as given.
        parts_drawn: int64 (B, 2), of these, how many are on the canvas.
    """

    parts_total: np.ndarray | None = None
    parts_drawn: np.ndarray | None = None


def render_pairs(
    renderer: TextRenderer,
    firsts: Sequence[str],
    seconds: Sequence[str],
    layout: str,
    format: str = "uint8",
    boxes: bool = False,
) -> RenderedPairs:
    """Renders pairs.

    Args:
        renderer: draws the single texts; its `max_chars` counts for each text of a pair.
        firsts, seconds: B strings each.
        layout: "rows" or "two_canvas", see the module.
        format: "uint8", "float" or "packed", see `RenderedText`.
        boxes: also return the pixel box of every drawn character.

    Raises:
        ValueError: An unknown layout, or "rows" on a canvas of fewer than three text rows.
    """
    if layout not in ("rows", "two_canvas"):
        raise ValueError(f"pair layout {layout!r} is not known; choose 'rows' or 'two_canvas'")
    count, rows = len(firsts), renderer.canvas_size[0] // ROW_HEIGHT
    if layout == "rows" and rows < 3:
        raise ValueError(
            f"a canvas {renderer.canvas_size[0]} pixels high has no room for two texts and a separator, which take 48; "
            "use pair_layout 'two_canvas' or 'concatenate'"
        )
    # Boxes are wanted here too: they tell which characters stand on the rows that are left.
    drawn = renderer([*firsts, *seconds], format=format, boxes=boxes or layout == "rows")
    totals = _by_pair(drawn.chars_total)
    if layout == "two_canvas":
        axis = 1 if format == "packed" else 2
        canvases = np.concatenate([drawn.canvases[:count], drawn.canvases[count:]], axis=axis)
        parts, used = _by_pair(drawn.chars_drawn), drawn.rows_used[:count] + drawn.rows_used[count:]
        all_boxes = drawn.boxes
        shift = np.full(count, renderer.canvas_size[0])
    else:
        share = share_rows(_by_pair(drawn.rows_used), rows - 1)  # (B, 2)
        canvases = _stack_rows(renderer, drawn.canvases, share, format)
        all_boxes = [
            box[: _chars_above(box, limit * ROW_HEIGHT)]
            for box, limit in zip(drawn.boxes, share.T.ravel(), strict=True)
        ]
        parts = _by_pair(np.array([len(box) for box in all_boxes], np.int64))
        used = share.sum(1) + 1
        shift = (share[:, 0] + 1) * ROW_HEIGHT
    joined = None
    if boxes:
        joined = []
        for i in range(count):
            below = all_boxes[count + i].copy()
            # Shaping gives characters without a glyph of their own the box 0, 0, 0, 0: that must not wander.
            below[below[:, 2] > 0] += np.array([0, shift[i], 0, shift[i]])
            joined.append(np.concatenate([all_boxes[i], below]))
    return RenderedPairs(canvases, used, totals.sum(1), parts.sum(1), joined, totals, parts)


def share_rows(needed: np.ndarray, available: int) -> np.ndarray:
    """Text rows that each of two texts gets: all it needs if there is room, else its fair share.

    Args:
        needed: int64 (B, 2).
        available: rows for both.

    Returns:
        int64 (B, 2): of a pair that does not fit, the shorter text loses nothing unless it needs more than half, and
        of two that do, each gets a half, the first an odd row.
    """
    first, second = needed[:, 0], needed[:, 1]
    half = available // 2
    share_of_first = np.minimum(first, np.maximum(available - second, available - half))
    return np.stack([share_of_first, np.minimum(second, available - share_of_first)], axis=1)


def _by_pair(values: np.ndarray) -> np.ndarray:
    """(2B,), first texts before second texts -> (B, 2)"""
    return np.stack(np.split(values, 2), axis=1)


def _chars_above(boxes: np.ndarray, bottom: int) -> int:
    """How many characters come before the first that stands at `bottom` or below."""
    below = (boxes[:, 1] >= bottom) & (boxes[:, 2] > 0)
    return int(below.argmax()) if below.any() else len(boxes)


def _stack_rows(renderer: TextRenderer, canvases: np.ndarray, share: np.ndarray, format: str) -> np.ndarray:
    """Canvases of 2B texts, first texts before second texts -> of B pairs, separator between, blank rows below."""
    count, (height, width) = len(share), renderer.canvas_size
    rows = height // ROW_HEIGHT
    lines = canvases if format == "packed" else canvases[:, 0, : rows * ROW_HEIGHT]
    lines = lines.reshape(2 * count, rows, -1)  # a text row in one piece, whatever the format
    rule, blank = _rule_and_blank(renderer, width, format)
    place = np.arange(rows)[None]  # (1, rows)
    below = place - share[:, :1] - 1  # (B, rows), row of the second text
    pair, row = np.nonzero(place < share[:, :1])
    stacked = np.empty((count, rows, lines.shape[2]), lines.dtype)
    stacked[:] = blank
    stacked[pair, row] = lines[pair, row]
    stacked[np.arange(count), share[:, 0]] = rule
    pair, row = np.nonzero((below >= 0) & (below < share[:, 1:]))
    stacked[pair, row] = lines[count + pair, below[pair, row]]
    if format == "packed":
        return stacked
    picture = np.empty_like(canvases[:count])
    picture[:] = blank[0]
    picture[:, 0, : rows * ROW_HEIGHT] = stacked.reshape(count, rows * ROW_HEIGHT, width)
    return picture


def _rule_and_blank(renderer: TextRenderer, width: int, format: str) -> tuple[np.ndarray, np.ndarray]:
    """The separator's text row and an empty one, each as one line of numbers.

    The rule is a quarter of the canvas long. Where blank patches are skipped a longer one would only cost more.
    """
    length = max(ROW_HEIGHT, width // 4)
    if format == "packed":
        columns = np.zeros(width, "<u2")
        columns[:length] = sum(1 << row for row in RULE_ROWS)
        rule = columns.view("<i8").astype(np.int64)
        return rule, np.zeros_like(rule)
    levels = np.array([renderer.background, renderer.ink], np.uint8)
    if format == "float":
        levels = levels.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)
    blank = np.full((ROW_HEIGHT, width), levels[0])
    rule = blank.copy()
    rule[list(RULE_ROWS), :length] = levels[1]
    return rule.ravel(), blank.ravel()
