"""One vector a word from the vectors of the patches it is drawn on."""

from collections.abc import Sequence

import torch

from clippo.processing.word_boxes_clippo import patch_weights, word_spans


def pool_words(hidden_states: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted means of patch features.

    Args:
        hidden_states: (B, N, D), `last_hidden_state` of the tower. Patches that were skipped as blank, which are all
            zero there, take no part.
        weights: (B, W, N) or, for one text, (W, N): `patch_weights`, padded with zero rows to the same number of words.

    Returns:
        (B, W, D), or (W, D); zero for a word of no weight, one that was cut or only pads.

    Raises:
        ValueError: The numbers of patches differ, as when the weights were made for another canvas or patch size.
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
    """The words of texts as vectors, in one call.

    Args:
        model: A `ClippoModel` or a tower; blank patches are skipped if its config says so.
        tokenizer: A `ClippoTokenizer` of the model's canvas size.
        texts: Strings, split at white space, or lists of words; not both in one call.
        canvas_format: How the canvases go to the model.

    Returns:
        A tensor (words, D) a text, in the order of the words. Words that do not fit on the canvas are zero.

    Raises:
        ValueError: One string instead of several texts.
    """
    if isinstance(texts, str):
        raise ValueError(f"texts is one string, {texts[:40]!r}; give a list of texts.")
    if not texts:
        return []
    split = not isinstance(texts[0], str)
    rendered = tokenizer.render(list(texts), boxes=True, is_split_into_words=split, canvas_format=canvas_format)
    canvases = torch.from_numpy(rendered.canvases).to(next(model.parameters()).device)
    skip = {"skip_blank_patches": model.config.skip_blank_patches}
    hidden = getattr(model, "vision_model", model)(canvases, return_dict=True, **skip).last_hidden_state
    size = {"canvas_size": model.config.canvas_size, "patch_size": model.config.patch_size}
    weights = [
        torch.from_numpy(patch_weights(boxes, word_spans(text), **size))
        for text, boxes in zip(texts, rendered.boxes, strict=True)
    ]
    return [pool_words(features, of_words) for features, of_words in zip(hidden, weights, strict=True)]
