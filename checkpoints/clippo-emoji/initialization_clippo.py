"""The official initialisation: big_vision `models/vit.py`, and Flax's defaults where that file is silent."""

import math

import torch
from torch import nn
from transformers import initialization as init

from .embeddings_clippo import ClippoEmbeddings
from .encoder_clippo import ClippoAttention, ClippoAttentionPoolingHead, ClippoMLP


def lecun_normal(weight: torch.Tensor) -> None:
    """Flax's `lecun_normal`: cut at two standard deviations, widened so that 1/sqrt(fan_in) remains after the cut.

    transformers' function of that name cuts at +-2 in absolute terms, that is not at all.
    """
    std = weight[0].numel() ** -0.5 / 0.87962566103423978
    init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def sincos_positions(rows: int, columns: int, hidden_size: int) -> torch.Tensor:
    """Sines and cosines of row and column, float32 (1, rows*columns, D), as positions to begin with (ours).

    Where to look for the neighbouring patch is then one linear map for the whole canvas instead of a fact to be learned
    place by place, which small data cannot afford. MoCo v3's scheme (big_vision `models/vit.py`, `posemb_sincos_2d`)
    with waves for a canvas of tens of patches, at a strength that does not drown the pixels.
    """
    frequency = 100 ** -(torch.arange(hidden_size // 4) / (hidden_size // 4))
    waves = [
        wave(axis.flatten()[:, None] * frequency)
        for axis in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        for wave in (torch.sin, torch.cos)
    ]
    return 0.3 * torch.cat(waves, 1).unsqueeze(0)


def initialize_tower_module(module: nn.Module, hidden_size: int) -> None:
    """Fill the parameters that belong to one module of the tower, D = `hidden_size`; other modules are left alone.

    Everything is written through `transformers.initialization`, whose functions spare what was loaded.
    """
    if isinstance(module, ClippoEmbeddings):
        if module.config.position_embedding_init == "sincos2d":
            init.copy_(module.position_embedding, sincos_positions(*module.config.patch_grid, hidden_size))
        else:
            init.normal_(module.position_embedding, std=hidden_size**-0.5)
    elif isinstance(module, ClippoAttention):
        for projection in (module.q_proj, module.k_proj, module.v_proj, module.out_proj):
            init.xavier_uniform_(projection.weight)
            init.zeros_(projection.bias)
    elif isinstance(module, ClippoMLP):
        for layer in (module.fc1, module.fc2):
            init.xavier_uniform_(layer.weight)
            init.normal_(layer.bias, std=1e-6)
    elif isinstance(module, ClippoAttentionPoolingHead):
        # Flax counts the fans of (1, 1, D) as 1 and D; torch would count D and D.
        limit = math.sqrt(6 / (1 + hidden_size))
        init.uniform_(module.probe, -limit, limit)
    elif isinstance(module, nn.Conv2d):
        lecun_normal(module.weight)
        init.zeros_(module.bias)
