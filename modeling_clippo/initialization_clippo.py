"""The official initialisation: big_vision `models/vit.py`, with Flax's defaults for what that file leaves open."""

import math

import torch
from torch import nn
from transformers import initialization as init

from .embeddings_clippo import ClippoEmbeddings
from .encoder_clippo import ClippoAttention, ClippoAttentionPoolingHead, ClippoMLP
from .experts_clippo import ClippoExperts, ClippoRouter
from .fusion_clippo import ClippoFusion, ClippoGridProjection


def lecun_normal(weight: torch.Tensor) -> None:
    """Initialise like Flax's `lecun_normal`: cut at two standard deviations, widened so that 1/sqrt(fan_in) remains.

    The function of that name in transformers cuts at +-2 in absolute terms, which has no effect here.
    """
    std = weight[0].numel() ** -0.5 / 0.87962566103423978
    init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


def sincos_positions(rows: int, columns: int, hidden_size: int) -> torch.Tensor:
    """Make initial positions from sines and cosines of row and column, float32 (1, rows*columns, D).

    The step to a neighbouring patch is then one linear map for the whole canvas, which a model does not have to learn
    for each position from little data. The scheme is MoCo v3's (big_vision `models/vit.py`, `posemb_sincos_2d`), with
    wavelengths for a canvas of tens of patches and an amplitude below that of the pixels. It is not in the paper.
    """
    frequency = 100 ** -(torch.arange(hidden_size // 4) / (hidden_size // 4))
    waves = [
        wave(axis.flatten()[:, None] * frequency)
        for axis in torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        for wave in (torch.sin, torch.cos)
    ]
    return 0.3 * torch.cat(waves, 1).unsqueeze(0)


def initialize_tower_module(module: nn.Module, hidden_size: int) -> None:
    """Initialise the parameters that belong to one module of the tower. Other modules are not changed.

    Args:
        module: The module.
        hidden_size: D, width of the tower.
    """
    # The functions of `transformers.initialization` do not overwrite loaded parameters.
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
    elif isinstance(module, ClippoRouter):
        lecun_normal(module.weight)
    elif isinstance(module, ClippoExperts):
        # Xavier for each expert alone; the function of torch would count the experts as fans.
        limit = math.sqrt(6 / sum(module.up_proj.shape[1:]))
        for kernel, bias in ((module.up_proj, module.up_proj_bias), (module.down_proj, module.down_proj_bias)):
            init.uniform_(kernel, -limit, limit)
            init.normal_(bias, std=1e-6)
    elif isinstance(module, ClippoAttentionPoolingHead):
        # Flax counts the fans of (1, 1, D) as 1 and D; torch would count D and D.
        limit = math.sqrt(6 / (1 + hidden_size))
        init.uniform_(module.probe, -limit, limit)
    elif isinstance(module, ClippoFusion):
        init.normal_(module.source_embedding, std=0.02)
    elif isinstance(module, ClippoGridProjection):
        lecun_normal(module.linear.weight)
        init.zeros_(module.linear.bias)
        init.normal_(module.position_embedding, std=0.02)
    elif isinstance(module, nn.Conv2d):
        lecun_normal(module.weight)
        if module.bias is not None:  # convolutions of the image side have none
            init.zeros_(module.bias)
