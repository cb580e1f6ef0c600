"""Patch projection and positions: pixel values to tokens.

Axes: B batch, C channels of the model, c channels of a tensor, N = h*w patches of a canvas, T tokens of all canvases, P
patch side, D token width.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from .image_branch_clippo import ClippoConvStem, channel_norm
from .modality_clippo import add_nothing
from .packing_clippo import PackedSequence, Part, pack, packed_backend
from .patches_clippo import cut_patches, inked_patches
from .pixels_clippo import as_pixels, check_format, size_in_pixels
from .tiles_clippo import take_positions


def resample_positions(positions: torch.Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]) -> torch.Tensor:
    """Resample position embeddings (1, h*w, D) from one grid of patches (h, w) to another.

    The official loader uses scipy's `zoom(order=1)`, which is bilinear with aligned corners (big_vision
    `models/vit.py`, `resample_posemb`).
    """
    if old_grid == new_grid:
        return positions
    grid = positions.unflatten(1, old_grid).permute(0, 3, 1, 2)  # (1, D, h, w)
    grid = F.interpolate(grid.float(), size=new_grid, mode="bilinear", align_corners=True)
    return grid.flatten(2).transpose(1, 2).to(positions.dtype)


class ClippoPatchEmbedding(nn.Conv2d):
    """Linear projection of patches. The weight has the shape of a convolution, as in other vision transformers."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Patches (n, c*P*P) -> (n, D) in one matrix product, or canvases (B, C, H, W) -> (B, D, h, w).

        A single channel counts for all, since the official renderer repeats it.
        """
        if pixels.ndim == 4:
            return super().forward(pixels)
        weight = self.weight
        if pixels.shape[1] < weight[0].numel():
            if weight.dtype in (torch.float16, torch.bfloat16):  # their sum would be rounded
                pixels = pixels.repeat(1, weight.shape[1])
            else:
                weight = weight.sum(1)
        return F.linear(pixels, weight.flatten(1), self.bias)


class ClippoEmbeddings(nn.Module):
    """Patch projection plus learned positions. There is no class token; the pooling head has its own query."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        rows, columns = config.patch_grid
        self.patch_embedding = ClippoPatchEmbedding(
            config.num_channels, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size
        )
        self.image_stem = None
        if config.image_stem == "conv":
            sizes = (config.num_channels, config.hidden_size, config.patch_size)
            self.image_stem = ClippoConvStem(*sizes, channel_norm(config))
        self.position_embedding = nn.Parameter(torch.empty(1, rows * columns, config.hidden_size))

    def positions_for(self, rows: int, columns: int) -> torch.Tensor:
        """Position embeddings (1, rows*columns, D), resampled if the canvas is not the trained one."""
        return resample_positions(self.position_embedding, self.config.patch_grid, (rows, columns))

    def forward(
        self,
        batches: Sequence[tuple[torch.Tensor, str]],
        interpolate_pos_encoding: bool = False,
        backend: str = "whole",
    ) -> tuple[torch.Tensor, PackedSequence]:
        """Compute the tokens of all batches as one packed sequence.

        Args:
            batches: Pixel values in any format of `as_pixels`, and their modality, "image" or "text".
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            backend: How attention will be computed, see `pack`.

        Returns:
            Tokens (1, T, D) and their layout.

        Raises:
            ValueError: The canvas does not consist of whole patches, or has another size than the model's and
                `interpolate_pos_encoding` is off.
        """
        grids = [self._grid_of(values, interpolate_pos_encoding) for values, _ in batches]
        canvases = [
            (modality, values.shape[0], rows * columns, self._kept_patches(values, modality))
            for (values, modality), (rows, columns) in zip(batches, grids, strict=True)
        ]
        packed = pack(canvases, backend, batches[0][0].device, self.compute_dtype())
        tokens = [
            self._embed(values, part, self.positions_for(*grid))
            for (values, _), part, grid in zip(batches, packed.parts, grids, strict=True)
        ]
        # Not a view, so that a compiled first block has the same graph as the others.
        tokens = self._reach_all(torch.cat([part.unsqueeze(0) for part in tokens], 1), packed)
        return tokens.to(self._stream_dtype(tokens)), packed

    def count_patches(self, values: torch.Tensor, modality: str) -> torch.Tensor:
        """int64 (B,), the patches of each canvas that `forward` computes."""
        rows, columns = self._grid_of(values, interpolate=True)
        kept = self._kept_patches(values, modality)
        return torch.full((len(values),), rows * columns, device=values.device) if kept is None else kept.sum(1)

    def _kept_patches(self, values: torch.Tensor, modality: str) -> torch.Tensor | None:
        """bool (B, N), the patches with ink where blank ones are skipped; None where every patch is computed."""
        if modality == "text" and self.config.skip_blank_patches:
            return inked_patches(values, self.config.patch_size, self.config.num_channels)
        return None

    def packed_backend(self) -> str | None:
        """Backend of attention for this config, device and dtype. None: only whole batches can be encoded."""
        config = self.config
        dropout = config.attention_dropout if self.training else 0.0
        head_size, device = config.hidden_size // config.num_attention_heads, self.position_embedding.device
        return packed_backend(config._attn_implementation, device, self.compute_dtype(), dropout, head_size)

    def compute_dtype(self) -> torch.dtype:
        """Dtype of matrix products: autocast's, or the dtype of the weights."""
        kind = self.position_embedding.device.type
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.position_embedding.dtype

    def _stream_dtype(self, tokens: torch.Tensor) -> torch.dtype:
        """Dtype of the residual stream. On a GPU under autocast to bfloat16 it is bfloat16; LayerNorms stay float32."""
        return torch.bfloat16 if tokens.is_cuda and self.compute_dtype() == torch.bfloat16 else tokens.dtype

    def _grid_of(self, values: torch.Tensor, interpolate: bool) -> tuple[int, int]:
        """Rows and columns of patches of the canvases of `values`, whose size is checked."""
        check_format(values, self.config.num_channels)
        size, (height, width) = self.config.patch_size, size_in_pixels(values)
        if height % size or width % size:
            raise ValueError(f"A canvas of {height}x{width} pixels does not consist of whole {size}-pixel patches.")
        if (height, width) != self.config.canvas_size and not interpolate:
            raise ValueError(
                f"A canvas of {height}x{width} pixels was given to a model of {self.config.canvas_size} (height, "
                "width); resize it with the processor, or pass interpolate_pos_encoding=True."
            )
        return height // size, width // size

    def _embed(self, values: torch.Tensor, part: Part, positions: torch.Tensor) -> torch.Tensor:
        """Tokens (tokens of the part, D) of the kept patches; positions (1, N, D)."""
        size, channels = self.config.patch_size, self.config.num_channels
        if self.image_stem is not None and part.modality == "image":
            maps = self.image_stem(as_pixels(values, channels).to(self.image_stem.out.weight.dtype))  # (B, D, h, w)
            return (maps.flatten(2).transpose(1, 2) + positions).flatten(0, 1)
        tokens = self._project(cut_patches(values, size, channels, self.compute_dtype(), part.place))
        if part.place is None:
            return (tokens.unflatten(0, (-1, part.patches)) + positions).flatten(0, 1)
        return tokens + take_positions(positions[0], part.place % part.patches)

    def _reach_all(self, tokens: torch.Tensor, packed: PackedSequence) -> torch.Tensor:
        """Give the stem or the projection a gradient of zero in a training step without its modality."""
        if self.image_stem is None or not (self.training and torch.is_grad_enabled()):
            return tokens
        size, channels = self.config.patch_size, self.config.num_channels
        present = {part.modality for part in packed.parts}
        if "image" not in present:
            tokens = add_nothing(tokens, self.image_stem(self.position_embedding.new_zeros(1, channels, size, size)))
        if "text" not in present:
            patch = self.position_embedding.new_zeros(1, channels * size**2, dtype=self.compute_dtype())
            tokens = add_nothing(tokens, self._project(patch))
        return tokens

    def _project(self, patches: torch.Tensor) -> torch.Tensor:
        """(n, c*P*P) -> (n, D)"""
        if isinstance(self.patch_embedding, ClippoPatchEmbedding):
            return self.patch_embedding(patches)
        # An adapter that replaced the layer takes the patches as one image, which is P pixels high.
        size = self.config.patch_size
        strip = patches.view(len(patches), -1, size, size).permute(1, 2, 0, 3).flatten(2).unsqueeze(0)
        return self.patch_embedding(strip.expand(-1, self.config.num_channels, -1, -1))[0, :, 0].T
