"""Layouts of a pair of texts on canvas. The official code has no pairs; these layouts are this project's own.

"rows": One canvas holds the first text at the top, a row with a short rule, and the second text below it. The model
sees the border between the texts without reading punctuation. If the texts do not both fit, they share the rows: a text
that needs less than half of them keeps all it needs, so the longer text is cut first.

"two_canvas": Each text has a canvas of its own, the second below the first, for a model that encodes them one by one
(`ClippoConfig.num_text_canvases` is 2).

The tokenizer itself draws the third layout, "concatenate": one string with a separator between the texts.
"""

from collections.abc import Sequence

import numpy as np

from .canvas_clippo import ROW_HEIGHT, CanvasFormat, RenderedText, RenderOptions, columns_to_packed, one_of
from .rendering_clippo import TextRenderer

PAIR_LAYOUTS = ("concatenate", "rows", "two_canvas")
RULE_ROWS = (7, 8)  # pixel rows of the separator's text row that are inked


def render_pairs(
    renderer: TextRenderer,
    firsts: Sequence[str],
    seconds: Sequence[str],
    layout: str,
    format: CanvasFormat = "uint8",
    boxes: bool = False,
) -> RenderedText:
    """Renders pairs of texts.

    Args:
        renderer: Draws the single texts. Its `max_chars` applies to each text of a pair.
        firsts: B strings.
        seconds: B strings.
        layout: "rows" or "two_canvas".
        format: "uint8", "float" or "packed".
        boxes: Whether the pixel box of every drawn character is returned.

    Returns:
        `RenderedText` of B pairs. The counts are those of both texts together, and "rows" counts the separator as a
        text row. Canvases have twice the height under "two_canvas". The boxes of a pair are those of the first text,
        then those of the second.

    Raises:
        ValueError: The layout is unknown, or the canvas has fewer than three text rows under "rows".
    """
    rows = renderer.options.height // ROW_HEIGHT
    if one_of("pair_layout", layout, PAIR_LAYOUTS[1:]) == "rows" and rows < 3:
        raise ValueError(
            f"A canvas {renderer.options.height} pixels high has no room for two texts and a separator, which take 48; "
            'use pair_layout "two_canvas" or "concatenate".'
        )
    # "rows" needs the boxes: they tell the characters on the rows that are kept.
    single = renderer([*firsts, *seconds], format=format, boxes=boxes or layout == "rows")
    if layout == "rows":
        return _one_below_the_other(renderer.options, single, rows, format, boxes)
    return _two_canvases(renderer.options, single, format, boxes)


def _two_canvases(options: RenderOptions, single: RenderedText, format: str, boxes: bool) -> RenderedText:
    count = len(single.canvases) // 2
    axis = 1 if format == "packed" else 2
    canvases = np.concatenate([single.canvases[:count], single.canvases[count:]], axis=axis)
    rows_used = _by_pair(single.rows_used).sum(1)
    joined = _join_boxes(single.boxes, np.full(count, options.height)) if boxes else None
    return _of_pairs(canvases, rows_used, single, _by_pair(single.chars_drawn), joined)


def _one_below_the_other(
    options: RenderOptions, single: RenderedText, rows: int, format: str, boxes: bool
) -> RenderedText:
    share = share_rows(_by_pair(single.rows_used), rows - 1)  # (B, 2)
    kept = [
        box[: _chars_above(box, limit * ROW_HEIGHT)] for box, limit in zip(single.boxes, share.T.ravel(), strict=True)
    ]
    drawn = _by_pair(np.array([len(box) for box in kept], np.int64))
    joined = _join_boxes(kept, (share[:, 0] + 1) * ROW_HEIGHT) if boxes else None
    canvases = _stack_rows(options, single.canvases, share, format)
    return _of_pairs(canvases, share.sum(1) + 1, single, drawn, joined)


def _of_pairs(canvases, rows_used, single: RenderedText, drawn: np.ndarray, boxes) -> RenderedText:
    total = _by_pair(single.chars_total)
    return RenderedText(canvases, rows_used, total.sum(1), drawn.sum(1), boxes, total, drawn)


def _join_boxes(boxes: list[np.ndarray], shift: np.ndarray) -> list[np.ndarray]:
    """Boxes of 2B texts -> of B pairs; those of the second texts move down by `shift` pixels, int64 (B,)."""
    joined = []
    for first, second, down in zip(boxes[: len(shift)], boxes[len(shift) :], shift.tolist(), strict=True):
        second = second.copy()
        # With shaping a character without a glyph has the box 0, 0, 0, 0, which must stay as it is.
        second[second[:, 2] > 0] += np.array([0, down, 0, down])
        joined.append(np.concatenate([first, second]))
    return joined


def share_rows(needed: np.ndarray, available: int) -> np.ndarray:
    """Shares text rows among two texts: all that each needs if there is room, else a fair share.

    Args:
        needed: int64 (B, 2), rows that each text needs.
        available: Rows for both.

    Returns:
        int64 (B, 2). In a pair that does not fit, the shorter text loses nothing unless it needs more than half. If
        both need more than half, each gets a half, and the first gets an odd row.
    """
    first, second = needed[:, 0], needed[:, 1]
    half = available // 2
    share_of_first = np.minimum(first, np.maximum(available - second, available - half))
    return np.stack([share_of_first, np.minimum(second, available - share_of_first)], axis=1)


def _by_pair(values: np.ndarray) -> np.ndarray:
    """(2B,), first texts before second texts -> (B, 2)"""
    return np.stack(np.split(values, 2), axis=1)


def _chars_above(boxes: np.ndarray, bottom: int) -> int:
    """Number of characters before the first whose box starts at `bottom` or below."""
    below = (boxes[:, 1] >= bottom) & (boxes[:, 2] > 0)
    return int(below.argmax()) if below.any() else len(boxes)


def _stack_rows(options: RenderOptions, canvases: np.ndarray, share: np.ndarray, format: str) -> np.ndarray:
    """Canvases of 2B texts, first texts before second texts -> of B pairs, separator between, blank rows below."""
    count, (height, width) = len(share), options.canvas_size
    rows = height // ROW_HEIGHT
    lines = canvases if format == "packed" else canvases[:, 0, : rows * ROW_HEIGHT]
    lines = lines.reshape(2 * count, rows, -1)  # one text row on the last axis, in every format
    rule, blank = _rule_and_blank(options, format)
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
    whole = np.empty_like(canvases[:count])
    whole[:] = blank[0]
    whole[:, 0, : rows * ROW_HEIGHT] = stacked.reshape(count, rows * ROW_HEIGHT, width)
    return whole


def _rule_and_blank(options: RenderOptions, format: str) -> tuple[np.ndarray, np.ndarray]:
    """The separator's text row and a blank one, each flattened to one line of numbers."""
    # A quarter of the canvas is enough. A longer rule would cost more patches where blank ones are skipped.
    length = max(ROW_HEIGHT, options.width // 4)
    if format == "packed":
        columns = np.zeros(options.width, np.uint16)
        columns[:length] = sum(1 << row for row in RULE_ROWS)
        rule = columns_to_packed(columns)
        return rule, np.zeros_like(rule)
    background, ink = options.levels(format)[[0, 255]]
    blank = np.full((ROW_HEIGHT, options.width), background)
    rule = blank.copy()
    rule[list(RULE_ROWS), :length] = ink
    return rule.ravel(), blank.ravel()
