"""Which patches a word stands on: from the renderer's character boxes to weights that pool patch features by word.

For tagging words (parts of speech, names) with a model that has no tokens. Ours; the paper tags nothing.
"""

import re
from collections.abc import Sequence

import numpy as np


def word_spans(text: str | Sequence[str]) -> list[tuple[int, int]]:
    """First and one-past-last character of every word.

    Args:
        text: A string, whose words are what stands between white space; or the words themselves, as drawn with
            `is_split_into_words=True`, that is with a space between.
    """
    if isinstance(text, str):
        return [match.span() for match in re.finditer(r"\S+", text)]
    ends = np.cumsum([len(word) + 1 for word in text]).tolist()
    return [(end - 1 - len(word), end - 1) for word, end in zip(text, ends, strict=True)]


def patch_weights(
    boxes: np.ndarray, spans: Sequence[tuple[int, int]], canvas_size: int | Sequence[int], patch_size: int = 16
) -> np.ndarray:
    """How much of each word lies on each patch.

    Args:
        boxes: int64 (characters, 4), of one text, as in `RenderedText.boxes`: x0, y0, x1, y1 in pixels.
        spans: Character ranges of W words, see `word_spans`.
        canvas_size: Side, or height and width, in pixels.
        patch_size: Side of a patch in pixels.

    Returns:
        float32 (W, N), N patches in reading order: the share of the word's area on the patch, so that a row sums to 1.
        All zeros for a word that is not on the canvas, having been cut, or that nothing is drawn of.

    Raises:
        ValueError: The canvas does not consist of whole patches.
    """
    height, width = (canvas_size, canvas_size) if isinstance(canvas_size, int) else canvas_size
    if height % patch_size or width % patch_size:
        raise ValueError(f"A canvas of {height} x {width} pixels does not consist of whole {patch_size}-pixel patches.")
    boxes = np.asarray(boxes, np.int64).reshape(-1, 4)
    down = _overlap(boxes[:, 1], boxes[:, 3], height // patch_size, patch_size)  # (characters, h)
    across = _overlap(boxes[:, 0], boxes[:, 2], width // patch_size, patch_size)  # (characters, w)
    area = down[:, :, None] * across[:, None, :]  # (characters, h, w), in pixels
    area = area.reshape(len(boxes), down.shape[1] * across.shape[1])  # (characters, N)
    weights = np.zeros((len(spans), area.shape[1]), np.float32)
    for word, (start, end) in enumerate(spans):
        on_patches = area[start:end].sum(0)
        if on_patches.any():
            weights[word] = on_patches / on_patches.sum()
    return weights


def _overlap(low: np.ndarray, high: np.ndarray, count: int, side: int) -> np.ndarray:
    """Pixels that each interval [low, high) shares with each of `count` cells of `side` pixels: int64 (n, count)."""
    edges = np.arange(count) * side
    return np.clip(np.minimum(high[:, None], edges + side) - np.maximum(low[:, None], edges), 0, None)
