"""Patch projection and positions: pixel values to tokens.

Axes: B batch, C channels, H W canvas in pixels, h w canvas in patches, N = h*w patches, M <= N patches kept, P patch
side, D token width.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .patches_clippo import KeptPatches, cut_out_inked_patches, find_inked_patches
from .pixels_clippo import ROW_HEIGHT, as_pixels, is_exporting, is_packed, size_in_pixels


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


class ClippoEmbeddings(nn.Module):
    """Patch projection plus learned positions. There is no class token; the pooling head has its own query."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        rows, columns = config.patch_grid
        self.patch_embedding = nn.Conv2d(
            config.num_channels, config.hidden_size, kernel_size=config.patch_size, stride=config.patch_size
        )
        self.position_embedding = nn.Parameter(torch.empty(1, rows * columns, config.hidden_size))

    def positions_for(self, rows: int, columns: int) -> torch.Tensor:
        """Position embeddings (1, rows*columns, D), resampled if the canvas is not the trained one."""
        return resample_positions(self.position_embedding, self.config.patch_grid, (rows, columns))

    def forward(
        self, values: torch.Tensor, interpolate_pos_encoding: bool = False, modality: str = "image"
    ) -> tuple[torch.Tensor, KeptPatches | None]:
        """Compute tokens (B, N, D), or (B, M, D) with the index of the kept patches when blank patches are skipped.

        Args:
            values: Pixel values in any format of `as_pixels`.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            modality: "image" or "text". Blank patches are skipped in text if the config says so, never in images.

        Raises:
            ValueError: The canvas does not consist of whole patches, or has another size than the model's and
                `interpolate_pos_encoding` is off.
        """
        size = self.config.patch_size
        skip = modality == "text" and self.config.skip_blank_patches
        packed = isinstance(values, torch.Tensor) and is_packed(values)
        if skip and packed and size % ROW_HEIGHT == 0 and not is_exporting():
            positions = self._positions_of(values, interpolate_pos_encoding)  # (1, N, D)
            patches, kept = cut_out_inked_patches(values, size)
            return self._project_kept(patches, kept, positions), kept

        pixels = as_pixels(values, self.config.num_channels)
        positions = self._positions_of(pixels, interpolate_pos_encoding)
        if not skip:
            return self._project(pixels) + positions, None
        kept = find_inked_patches(pixels, size)
        if kept.mask.shape[1] <= kept.total // 2:
            return self._project_kept(kept.as_strip(pixels, size), kept, positions), kept
        tokens = kept.gather(self._project(pixels))  # cutting the patches out first would cost more than it saves
        return tokens + kept.gather(positions.expand(tokens.shape[0], -1, -1)), kept

    def _positions_of(self, values: torch.Tensor, interpolate: bool) -> torch.Tensor:
        """Positions (1, N, D) for the canvas of `values`, whose size is checked."""
        size, (height, width) = self.config.patch_size, size_in_pixels(values)
        if height % size or width % size:
            raise ValueError(f"A canvas of {height}x{width} pixels does not consist of whole {size}-pixel patches.")
        if (height, width) != self.config.canvas_size and not interpolate:
            raise ValueError(
                f"A canvas of {height}x{width} pixels was given to a model of {self.config.canvas_size} (height, "
                "width); resize it with the processor, or pass interpolate_pos_encoding=True."
            )
        return self.positions_for(height // size, width // size)

    def _project_kept(self, patches: torch.Tensor, kept: KeptPatches, positions: torch.Tensor) -> torch.Tensor:
        """Strip of kept patches (1, C or 1, P, B*M*P) and positions (1, N, D) -> tokens (B, M, D)."""
        tokens = self._project(patches)[0].unflatten(0, kept.mask.shape)
        return tokens + kept.gather(positions.expand(tokens.shape[0], -1, -1))

    def _project(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, C or 1, H, W) -> (B, N, D). A single channel is repeated, as the official renderer does."""
        pixels = pixels.to(self.patch_embedding.weight.dtype)  # pipelines cast images only, never text
        pixels = pixels.expand(-1, self.config.num_channels, -1, -1)
        return self.patch_embedding(pixels).flatten(2).transpose(1, 2)
