"""Loss against one fixed vector a concept, which the starting model makes of the concept's texts.

A model that reads the names of concepts can learn new pictures of them without drawing many texts. Its mean vector of a
concept's names is the anchor. Pictures and texts of the concept are classified among the anchors of all concepts:

    anchor = normalize(mean of the unit vectors of the texts)                       # (C, E), before training
    loss   = (CE(scale * images @ anchors.T) + CE(scale * texts @ anchors.T)) / 2   # concept numbers as labels

A picture is compared with all C concepts, not with those of its batch, so small batches do. The texts of a batch keep
the reading where it was. `scale` is the temperature of the starting model.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from clippo.modeling_clippo import ClippoModel
from clippo.modeling_clippo.modeling_clippo import normalize

logger = logging.getLogger(__name__)

TEXTS_AT_ONCE = 128


class Anchors:
    """Fixed vectors of concepts, and the loss against them.

    Args:
        vectors: float32 (C, E), unit length.
        scale: Multiplier of the cosines.

    Example:
        >>> import torch
        >>> from clippo.training.anchors import Anchors
        >>> anchors = Anchors(torch.eye(3), scale=50.0)
        >>> round(anchors.loss(torch.eye(3)[:2], torch.eye(3)[:2], torch.tensor([0, 1])).item(), 6)
        0.0
    """

    def __init__(self, vectors: Tensor, scale: float):
        self.vectors, self.scale = vectors, scale

    def loss(self, images: Tensor, texts: Tensor, numbers: Tensor) -> Tensor:
        """Mean cross-entropy of the images and that of the texts, averaged.

        Args:
            images: (B, E), unit length: images, or first texts.
            texts: (K * B, E), unit length, in K sets.
            numbers: int64 (B,), the concept of each row.

        Returns:
            Scalar.
        """
        self.vectors = self.vectors.to(images.device)
        with torch.autocast(images.device.type, enabled=False):
            of_images = F.cross_entropy(self.scale * images.float() @ self.vectors.T, numbers)
            labels = numbers.repeat(len(texts) // len(numbers))  # (K * B,)
            of_texts = F.cross_entropy(self.scale * texts.float() @ self.vectors.T, labels)
        return (of_images + of_texts) / 2


@torch.no_grad()
def make_anchors(
    model: ClippoModel, tokenizer: Any, texts: Sequence[Sequence[str]], device: torch.device | str = "cpu"
) -> Anchors:
    """Anchors of concepts from their texts. A resumed run makes the same ones, as it starts with the same model.

    Args:
        model: Starting model.
        tokenizer: Draws the texts.
        texts: Texts of each of C concepts, at least one each.
        device: Device to compute on.

    Raises:
        ValueError: A concept has no text.
    """
    empty = next((number for number, own in enumerate(texts) if not own), None)
    if empty is not None:
        raise ValueError(f"Concept {empty} of {len(texts)} has no text; an anchor is the mean of one or more.")
    flat = [(len(text), text, number) for number, own in enumerate(texts) for text in own]
    flat.sort(key=lambda one: one[0])  # texts of similar length share a batch
    training = model.training
    model.to(device).eval()
    sums = torch.zeros(len(texts), model.config.projection_dim, device=device)  # (C, E)
    for start in range(0, len(flat), TEXTS_AT_ONCE):
        part = flat[start : start + TEXTS_AT_ONCE]
        pixels = tokenizer([text for _, text, _ in part], return_tensors="pt")["text_pixel_values"]
        vectors = normalize(model.get_text_features(text_pixel_values=pixels.to(device)).pooler_output)  # (b, E)
        sums.index_add_(0, torch.tensor([number for *_, number in part], device=device), vectors.float())
    model.train(training)
    logger.info("%d anchors of %d texts", len(texts), len(flat))
    return Anchors(normalize(sums), model.logit_scale.detach().float().exp().item())
