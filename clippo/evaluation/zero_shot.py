"""Zero-shot classification: the class of a picture is the label whose text lies nearest."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from clippo.evaluation.embeddings import embed_images, embed_texts


def zero_shot(
    model: Any,
    processor: Any,
    images: Sequence,
    labels: Sequence[str],
    template: str = "{}",
    batch_size: int = 64,
    progress: bool = False,
) -> torch.Tensor:
    """Probability of every label for every picture, as the pipeline `zero-shot-image-classification` gives them.

    Args:
        model: a `ClippoModel`.
        processor: the `ClippoProcessor` that belongs to it.
        images: B pictures in any form that the processor takes.
        labels: C different strings.
        template: the text a label is put into, at "{}". The default is the bare label; the pipeline's own default is
            "This is a photo of {}.".
        batch_size: pictures, and texts, embedded at once.
        progress: show progress bars.

    Returns:
        float32 (B, C), softmax over the labels of `exp(logit_scale)` times the cosine; rows sum to 1.

    Raises:
        TypeError: `images` or `labels` is a single one instead of a sequence.
        ValueError: there are no pictures or no labels, a label comes twice, or the template has no place for it.
    """
    if "{}" not in template:
        raise ValueError(f"The template {template!r} has no place for the label; write one with {{}} in it.")
    if isinstance(labels, str):
        raise TypeError(f"labels is one string, {labels!r}; pass a list of strings.")
    twice = sorted({label for label in labels if list(labels).count(label) > 1})
    if twice:
        raise ValueError(f"Labels must differ, since they share one probability; given twice: {', '.join(twice)}.")
    texts = embed_texts(model, processor, [template.replace("{}", label) for label in labels], batch_size, progress)
    pictures = embed_images(model, processor, images, batch_size, progress)
    scale = min(model.logit_scale.detach().float().exp().item(), model.config.logit_scale_max or math.inf)
    return (scale * pictures @ texts.T).softmax(dim=-1)  # (B, C)
