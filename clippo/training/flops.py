"""How many floating-point operations one picture costs, counted from the config.

A multiply-add counts as two. Only matrix products are counted, which is the convention behind model FLOPs utilisation
(MFU); LayerNorm, softmax, activations and the loss add little and are no work of the matrix units.

Letters: D width, M MLP width, L blocks, T patches read, P patch side, C channels, E projection width.
"""

import torch

from clippo.modeling_clippo import ClippoConfig
from clippo.modeling_clippo.embeddings_clippo import as_pixels, find_inked_patches

BACKWARD = 2  # a matrix product has two gradients, each as dear as itself


def flops_per_image(config: ClippoConfig, patches: float | None = None) -> float:
    """Forward FLOPs of one picture, a photograph or a rendered text, from pixels to the projected embedding.

    Training is three times that (forward, and `BACKWARD` times as much for the gradients); recomputation under
    gradient checkpointing is work of the machine but not of the model, and does not belong into an MFU.

    Args:
        config: Of the model.
        patches: How many patches are read; None for the whole canvas. A text that skips its blank patches reads its
            inked ones; a mean over texts may be given, though attention, quadratic in it, is then a little too cheap.
    """
    width, mlp_width = config.hidden_size, config.intermediate_size
    rows, columns = config.patch_grid
    tokens = rows * columns if patches is None else patches
    embedding = 2 * tokens * config.num_channels * config.patch_size**2 * width
    projections = 4 * 2 * tokens * width * width  # query, key, value, out
    attention = 2 * 2 * tokens * tokens * width  # scores, weighted sum
    mlp = 2 * 2 * tokens * width * mlp_width
    blocks = config.num_hidden_layers * (projections + attention + mlp)
    # The pooling head has one query, but a key and a value for every token.
    head = 2 * 2 * (tokens + 1) * width * width + 2 * 2 * tokens * width + 2 * 2 * width * mlp_width
    return embedding + blocks + head + 2 * width * config.projection_dim


def training_flops_per_pair(config: ClippoConfig, text_patches: float | None = None) -> float:
    """Forward and backward FLOPs of one image with one text of `text_patches` patches (None: the whole canvas)."""
    return (1 + BACKWARD) * (flops_per_image(config) + flops_per_image(config, text_patches))


def mean_inked_patches(texts: torch.Tensor, config: ClippoConfig) -> float:
    """Patches that a text has ink in, on average over a batch of canvases in any form that the model takes."""
    return find_inked_patches(as_pixels(texts, config.num_channels), config.patch_size).mask.sum().item() / len(texts)
