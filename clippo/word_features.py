"""One vector a word, pooled from the patches that the word is drawn on.

It serves the tagging of words (parts of speech, names) with a model that has no tokens. The paper tags no words.

    word_spans: text -> character ranges of its words
    patch_weights: character boxes of the renderer and these ranges -> share of each word on each patch
    pool_words: patch features and these shares -> word features
    word_features: all of it in one call
"""

import re
from collections.abc import Sequence

import numpy as np
import torch


def word_spans(text: str | Sequence[str]) -> list[tuple[int, int]]:
    """Returns the first and one-past-last character of every word.

    Args:
        text: A string, whose words lie between white space; or the list of its words, as drawn with
            `is_split_into_words=True`, that is with a space between.
    """
    if isinstance(text, str):
        return [match.span() for match in re.finditer(r"\S+", text)]
    ends = np.cumsum([len(word) + 1 for word in text]).tolist()
    return [(end - 1 - len(word), end - 1) for word, end in zip(text, ends, strict=True)]


def patch_weights(
    boxes: np.ndarray, spans: Sequence[tuple[int, int]], canvas_size: int | Sequence[int], patch_size: int = 16
) -> np.ndarray:
    """Returns the share of each word's area on each patch.

    Args:
        boxes: int64 (characters, 4), boxes of one text as in `RenderedText.boxes`: x0, y0, x1, y1 in pixels.
        spans: Character ranges of W words, as `word_spans` returns them.
        canvas_size: Side, or height and width, in pixels.
        patch_size: Side of a patch in pixels.

    Returns:
        float32 (W, N) for N patches in reading order. A row sums to 1. It is all zeros if the word was cut from the
        canvas or has no drawn character.

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


def pool_words(hidden_states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Computes weighted means of patch features.

    Args:
        hidden_states: (B, N, D), `last_hidden_state` of the tower. Patches that were skipped as blank are all zero
            there and get no weight.
        weights: (B, W, N), `patch_weights` padded with zero rows to the same number of words; (W, N) for one text.

    Returns:
        (B, W, D), or (W, D). A word without weight (cut, or padding) is zero.

    Raises:
        ValueError: The numbers of patches differ, because the weights belong to another canvas or patch size.
    """
    single = weights.ndim == 2
    if single:
        weights, hidden_states = weights[None], hidden_states.reshape(1, *hidden_states.shape[-2:])
    if weights.shape[-1] != hidden_states.shape[-2]:
        raise ValueError(
            f"The weights are for {weights.shape[-1]} patches, the features of {hidden_states.shape[-2]}; use the "
            "model's own canvas and patch size for both."
        )
    weights = weights.to(hidden_states.device, hidden_states.dtype)
    weights = weights * (hidden_states != 0).any(-1)[:, None, :]
    total = weights.sum(-1, keepdim=True)  # (B, W, 1)
    words = weights @ hidden_states / total.masked_fill(total == 0, 1)  # (B, W, D)
    return words[0] if single else words


def word_features(
    model, tokenizer, texts: Sequence[str | Sequence[str]], canvas_format: str = "uint8"
) -> list[torch.Tensor]:
    """Computes one vector for every word of several texts.

    Args:
        model: A `ClippoModel` or a tower. It skips blank patches if its config says so.
        tokenizer: A `ClippoTokenizer` of the model's canvas size.
        texts: Strings, split at white space, or lists of words; not both in one call.
        canvas_format: Format of the canvases that the model gets.

    Returns:
        One tensor (words, D) for each text, in the order of the words. Words that do not fit on the canvas are zero.

    Raises:
        ValueError: `texts` is one string instead of several.

    Example:
        >>> from clippo import ClippoConfig, ClippoModel, ClippoTokenizer
        >>> config = ClippoConfig(image_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        >>> (words,) = word_features(ClippoModel(config), ClippoTokenizer(canvas_size=32), ["a cat"])
        >>> words.shape
        torch.Size([2, 16])
    """
    if isinstance(texts, str):
        raise ValueError(f"texts is one string, {texts[:40]!r}; give a list of texts.")
    if not texts:
        return []
    split = not isinstance(texts[0], str)
    rendered = tokenizer.render(list(texts), boxes=True, is_split_into_words=split, canvas_format=canvas_format)
    canvases = torch.from_numpy(rendered.canvases).to(next(model.parameters()).device)
    hidden = getattr(model, "vision_model", model)(canvases, modality="text", return_dict=True).last_hidden_state
    size = {"canvas_size": model.config.canvas_size, "patch_size": model.config.patch_size}
    weights = [
        torch.from_numpy(patch_weights(boxes, word_spans(text), **size))
        for text, boxes in zip(texts, rendered.boxes, strict=True)
    ]
    return [pool_words(features, shares) for features, shares in zip(hidden, weights, strict=True)]


def _overlap(low: np.ndarray, high: np.ndarray, count: int, side: int) -> np.ndarray:
    """Pixels that each interval [low, high) shares with each of `count` cells of `side` pixels: int64 (n, count)."""
    edges = np.arange(count) * side
    return np.clip(np.minimum(high[:, None], edges + side) - np.maximum(low[:, None], edges), 0, None)
