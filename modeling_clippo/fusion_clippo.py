"""Fusion: joint blocks over the token grids of two canvases.

    tokens = [first grid + s0; second grid + s1]        # (B, N1 + N2, D), s a learned vector for each source
    pooled = MAP(LayerNorm(blocks(tokens)))             # (B, D)

CLIP-ViL (arXiv 2107.06383) feeds the grid of CLIP's image tower before pooling and the words of a question into one
stack of joint layers. Here both grids come from the one tower, the blocks are the tower's kind (pre-LN; CLIP-ViL's are
BERT's, post-LN), and patches that the tower skipped are masked on either side.

Axes: B examples, N1 and N2 patches of the canvases, D width.
"""

from collections.abc import Sequence

import torch
from torch import nn

from .encoder_clippo import ClippoAttentionPoolingHead, ClippoEncoder
from .packing_clippo import pack

JOINT = "text"  # whose LayerNorms read tokens of both canvases, where each modality has its own


def joint_mask(grids: Sequence[torch.Tensor], kept: Sequence[torch.Tensor | None]) -> torch.Tensor | None:
    """Join the kept patches of two grids: bool (B, N1 + N2), or None if no patch of either was skipped."""
    if all(mask is None for mask in kept):
        return None
    pairs = zip(grids, kept, strict=True)
    masks = [grid.new_ones(grid.shape[:2], dtype=torch.bool) if mask is None else mask for grid, mask in pairs]
    return torch.cat([mask.to(grids[0].device) for mask in masks], 1)


class ClippoFusion(nn.Module):
    """Joint blocks over two grids, with a pooling head of their own.

    Args:
        config: Model config. `num_fusion_layers` is the number of blocks. `image_grid_shape` adds a LayerNorm, a linear
            map and positions for grids of another tower.

    Example:
        >>> import clippo, torch
        >>> from clippo.modeling_clippo.fusion_clippo import ClippoFusion
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", image_size=32, num_fusion_layers=1)
        >>> _ = torch.manual_seed(0)
        >>> fusion = clippo.ClippoForVisualQuestionAnswering(config).fusion
        >>> fusion([torch.zeros(2, 4, 192), torch.zeros(2, 6, 192)], [None, None]).shape
        torch.Size([2, 192])
    """

    def __init__(self, config):
        super().__init__()
        self.source_embedding = nn.Parameter(torch.empty(2, config.hidden_size))
        self.grid_projection = None
        if config.image_grid_shape is not None:
            self.grid_projection = ClippoGridProjection(config)
        self.encoder = ClippoEncoder(config, config.num_fusion_layers)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = ClippoAttentionPoolingHead(config)

    def forward(
        self,
        grids: Sequence[torch.Tensor],
        kept: Sequence[torch.Tensor | None],
        backend: str | None = None,
    ) -> torch.Tensor:
        """Read both grids of each example together.

        Args:
            grids: (B, N1, D) and (B, N2, D), outputs of the tower after its last LayerNorm.
            kept: bool (B, N1) and (B, N2), False for patches that were skipped. None: all were computed.
            backend: Backend of attention over a packed sequence, see `packed_backend`. None: the examples are padded to
                N1 + N2 tokens.

        Returns:
            Pooled vectors (B, D).
        """
        states = torch.cat([grid + source for grid, source in zip(grids, self.source_embedding, strict=True)], 1)
        mask = joint_mask(grids, kept)  # bool (B, N1 + N2)
        if mask is None or backend is None:
            states = self.post_layernorm(self.encoder(states, mask, JOINT))
            return self.head(states, mask, modality=JOINT)
        packed = pack([(JOINT, *mask.shape, mask)], backend, states.device)
        part = packed.parts[0]
        states = states.flatten(0, 1)[part.place].unsqueeze(0)  # (1, T, D)
        pooled = self.head(self.post_layernorm(self.encoder(states, None, None, packed)), packed=packed)
        return pooled if part.restore is None else pooled[part.restore]


class ClippoGridProjection(nn.Module):
    """Grids of another tower, `config.image_grid_shape` = rows, columns, channels, -> tokens of the width D.

    Convolutional features have no learned positions, so the projection adds its own.
    """

    def __init__(self, config):
        super().__init__()
        self.shape = tuple(config.image_grid_shape)
        rows, columns, channels = self.shape
        self.layernorm = nn.LayerNorm(channels, eps=config.layer_norm_eps)
        self.linear = nn.Linear(channels, config.hidden_size)
        self.position_embedding = nn.Parameter(torch.empty(1, rows * columns, config.hidden_size))

    def forward(self, grid: torch.Tensor) -> torch.Tensor:
        """(B, rows, columns, channels) -> (B, N, D)"""
        return self.linear(self.layernorm(grid.flatten(1, 2))) + self.position_embedding


__all__ = ["ClippoFusion"]
