"""FLOPs of a CLIPPO model, by formula.

Only matrix products are counted, two FLOPs a multiply-add, as in the convention of model FLOPs utilisation (MFU).
LayerNorm, softmax, activations and the loss add little, and the matrix units do not compute them.

Letters: D width, M MLP width, L blocks, T patches read, P patch side, C channels, E projection width. Experts count as
often as a token visits one.
"""

import torch

from clippo.modeling_clippo import ClippoConfig
from clippo.modeling_clippo.patches_clippo import inked_patches

BACKWARD = 2  # a matrix product has two gradients, and each costs as much as the product


def flops_per_image(config: ClippoConfig, patches: float | torch.Tensor | None = None) -> float | torch.Tensor:
    """Forward FLOPs of one image or one rendered text, from pixels to the projected embedding.

    Training costs three times as much: the forward pass, and `BACKWARD` times as much for the gradients. Recomputation
    under gradient checkpointing is not part of an MFU.

    Args:
        config: Model config.
        patches: Number of inked patches of a text that skips its blank ones; None for an image. Text has one channel.
            A mean over texts is accepted, though it underestimates attention, which is quadratic in it.
    """
    width, mlp_width = config.hidden_size, config.intermediate_size
    rows, columns = config.patch_grid
    tokens = rows * columns if patches is None else patches
    channels = config.num_channels if patches is None else 1
    embedding = 2 * tokens * channels * config.patch_size**2 * width
    projections = 4 * 2 * tokens * width * width  # query, key, value, out
    attention = 2 * 2 * tokens * tokens * width  # scores, weighted sum
    mlp = 2 * 2 * tokens * width * mlp_width
    sparse = len(config.expert_blocks)
    router = 2 * tokens * width * config.num_experts
    mlps = (config.num_hidden_layers - sparse) * mlp + sparse * (config.num_experts_per_tok * mlp + router)
    blocks = config.num_hidden_layers * (projections + attention) + mlps
    # The pooling head has one query, but a key and a value for every token.
    head = 2 * 2 * (tokens + 1) * width * width + 2 * 2 * tokens * width + 2 * 2 * width * mlp_width
    return embedding + blocks + head + 2 * width * config.projection_dim


def training_flops_per_pair(config: ClippoConfig, text_patches: float | None = None) -> float:
    """Forward and backward FLOPs of one image with one text of `text_patches` patches (None: the whole canvas)."""
    return (1 + BACKWARD) * (flops_per_image(config) + flops_per_image(config, text_patches))


def mean_inked_patches(texts: torch.Tensor, config: ClippoConfig) -> torch.Tensor:
    """Mean number of inked patches over a batch of canvases in any format that the model accepts.

    The result is a float64 scalar on the device of the texts, so that a training step does not wait for it.
    """
    return inked_patches(texts, config.patch_size, config.num_channels).sum().double() / len(texts)
