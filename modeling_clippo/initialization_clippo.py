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


def initialize_tower_module(module: nn.Module, hidden_size: int) -> None:
    """Fill the parameters that belong to one module of the tower, D = `hidden_size`; other modules are left alone.

    Everything is written through `transformers.initialization`, whose functions spare what was loaded.
    """
    if isinstance(module, ClippoEmbeddings):
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
