"""From pixels to tokens: what the tower accepts as a picture, and which patches it need not read.

Axes used below: B batch, C channels, H W canvas in pixels, h w canvas in patches, N = h*w patches, M <= N patches kept,
P patch side, D token width.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

# The canvas of rendered text, as fixed by big_vision's renderer: ink 0 on background 127, as x / 255 * 2 - 1, rounded
# to float32 at every step as there (127 / 255 * 2 - 1 in float64 ends in ...8627).
BACKGROUND = -0.003921568393707275
INK = -1.0
ROW_HEIGHT = 16  # pixels of a text row, the bits of one packed column


def unpack_canvas(packed: torch.Tensor) -> torch.Tensor:
    """Paint a packed text canvas: 1 bit a pixel in, pixels out.

    Args:
        packed: int64 (B, H/16, W/4). Four neighbouring columns of a text row share an integer, the leftmost in the
            lowest 16 bits; bit r of a column is its pixel r from the top.

    Returns:
        float32 (B, 1, H, W) in [-1, 1], ink -1 on the background of rendered text.
    """
    columns = packed.contiguous().view(torch.int16)  # (B, H/16, W)
    bit = torch.arange(ROW_HEIGHT, dtype=torch.int16, device=packed.device)
    ink = (columns.unsqueeze(2) >> bit[:, None]) & 1  # (B, H/16, 16, W)
    ink = ink.flatten(1, 2).unsqueeze(1)  # (B, 1, H, W)
    pixels = torch.full_like(ink, BACKGROUND, dtype=torch.float32)
    return pixels.masked_fill_(ink.bool(), INK)


def as_pixels(values: torch.Tensor, num_channels: int) -> torch.Tensor:
    """Bring any accepted picture tensor to (B, C, H, W) in [-1, 1].

    Args:
        values: float (B, C or 1, H, W), taken as already in [-1, 1]; uint8 (B, C or 1, H, W), scaled here as by the
            official `value_range(-1, 1)`, or the same levels as int64, which uint8 becomes on its way through a data
            set; int64 (B, H/16, W/4), a packed text canvas.
        num_channels: C. One channel is repeated, as the official renderer does.

    Raises:
        ValueError: Another dtype, rank or channel count, named.
    """
    if not isinstance(values, torch.Tensor):
        raise TypeError(
            f'Pictures came as a {type(values).__name__}, not a tensor; give the processor return_tensors="pt".'
        )
    if values.dtype == torch.int64 and values.ndim == 3:
        pixels = unpack_canvas(values)
    elif values.ndim == 4 and values.dtype in (torch.uint8, torch.int64):
        pixels = values.float() / 255 * 2 - 1
    elif values.ndim == 4 and values.is_floating_point():
        pixels = values
    else:
        raise ValueError(
            f"Cannot read a {values.dtype} tensor of shape {tuple(values.shape)} as pictures; pass float (B, C, H, W) "
            "in [-1, 1], uint8 (B, C, H, W), or the processor's packed text, int64 (B, H/16, W/4)."
        )
    if pixels.shape[1] not in (1, num_channels):
        raise ValueError(f"Pictures have {pixels.shape[1]} channels; the model reads 1 or {num_channels}.")
    return pixels.expand(-1, num_channels, -1, -1)


class KeptPatches(NamedTuple):
    """Which patches of each canvas stay. Kept ones come first, in reading order; the rest pads to the longest."""

    index: torch.Tensor  # (B, M) place on the canvas
    mask: torch.Tensor  # (B, M) True where the patch is kept, False where it only pads
    total: int  # N

    def pick(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, N, X) -> (B, M, X)"""
        return tokens.gather(1, self.index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))

    def side_by_side(self, pixels: torch.Tensor, patch_size: int) -> torch.Tensor:
        """(B, c, H, W) -> (1, c, P, B*M*P): the kept patches of the whole batch as one long picture.

        The projection takes that as it takes any picture; B*M pictures of one patch take several times as long (CPU).
        """
        patches = F.pixel_unshuffle(pixels, patch_size).flatten(2).transpose(1, 2)  # (B, N, c*P*P)
        patches = self.pick(patches).view(-1, pixels.shape[1], patch_size, patch_size)  # (B*M, c, P, P)
        return patches.permute(1, 2, 0, 3).flatten(2).unsqueeze(0)

    def by_length(self) -> list[tuple[torch.Tensor, int]]:
        """Rows of the batch, few patches first, in groups with the group's longest length: little left to pad.

        The number of groups depends on the batch size only, so that data-parallel processes run the sharded layers
        equally often.
        """
        groups = max(1, min(8, len(self.mask) // 32))
        count, order = self.mask.sum(1).sort(stable=True)
        longest = torch.stack([part[-1] for part in count.tensor_split(groups)]).tolist()
        return list(zip(order.tensor_split(groups), longest, strict=True))

    def put_back(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, M, X) -> (B, N, X), zeros where a patch was left out."""
        index, mask = self.index.to(tokens.device), self.mask.to(tokens.device)
        canvas = tokens.new_zeros(tokens.shape[0], self.total, tokens.shape[-1])
        kept = tokens.masked_fill(~mask.unsqueeze(-1), 0)
        return canvas.scatter(1, index.unsqueeze(-1).expand_as(kept), kept)


def find_inked_patches(pixels: torch.Tensor, patch_size: int) -> KeptPatches:
    """Patches that differ from the text background anywhere. An empty canvas keeps its first patch.

    Args:
        pixels: (B, C, H, W) in [-1, 1].
        patch_size: P.
    """
    contrast = F.max_pool2d((pixels - BACKGROUND).abs(), patch_size).amax(1)  # (B, h, w)
    half_a_grey_level = 1 / 255
    return keep_patches(contrast.flatten(1) > half_a_grey_level)


def keep_patches(inked: torch.Tensor) -> KeptPatches:
    """The record of which patches stay, of bool (B, N); where none would, the first one does."""
    first_of_empty = F.pad(~inked.any(1, keepdim=True), (0, inked.shape[1] - 1))
    inked = inked | first_of_empty
    count = inked.sum(1, keepdim=True)  # (B, 1)
    longest = int(count.max())
    index = inked.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]
    mask = torch.arange(longest, device=inked.device) < count
    return KeptPatches(index, mask, inked.shape[1])


def cut_out_inked_patches(packed: torch.Tensor, patch_size: int) -> tuple[torch.Tensor, KeptPatches]:
    """The patches with ink of packed text, side by side as `KeptPatches.side_by_side` lays them.

    Nothing blank is ever unpacked, so this costs what the ink costs; the pixels are the same.

    Args:
        packed: int64 (B, H/16, W/4), see `unpack_canvas`.
        patch_size: P, a multiple of 16.

    Returns:
        float32 (1, 1, P, B*M*P) in [-1, 1], and which patches they are.
    """
    rows, columns = patch_size // ROW_HEIGHT, patch_size // 4
    patches = packed.unflatten(1, (-1, rows)).unflatten(3, (-1, columns))  # (B, h, rows, w, columns)
    patches = patches.transpose(2, 3).flatten(3).flatten(1, 2)  # (B, N, rows*columns)
    kept = keep_patches((patches != 0).any(-1))
    patches = kept.pick(patches).flatten(0, 1).unflatten(1, (rows, columns))  # (B*M, rows, columns)
    return unpack_canvas(patches.transpose(0, 1).flatten(1).unsqueeze(0)), kept


def resample_positions(positions: torch.Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int]) -> torch.Tensor:
    """Position embeddings (1, h*w, D) of one grid of patches (h, w) for another one.

    The official loader resamples with scipy's `zoom(order=1)`, which is bilinear with aligned corners (big_vision
    `models/vit.py`, `resample_posemb`).
    """
    if old_grid == new_grid:
        return positions
    grid = positions.unflatten(1, old_grid).permute(0, 3, 1, 2)  # (1, D, h, w)
    grid = F.interpolate(grid.float(), size=new_grid, mode="bilinear", align_corners=True)
    return grid.flatten(2).transpose(1, 2).to(positions.dtype)


class ClippoEmbeddings(nn.Module):
    """Patch projection plus learned positions. There is no class token: the pooling head has its own query."""

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
        self, values: torch.Tensor, interpolate_pos_encoding: bool = False, skip_blank_patches: bool = False
    ) -> tuple[torch.Tensor, KeptPatches | None]:
        """Tokens (B, N, D), or (B, M, D) with the record of what was kept when blank patches are skipped.

        Raises:
            ValueError: The picture is not of the size the model was built for and `interpolate_pos_encoding` is off, or
                it does not consist of whole patches.
        """
        size = self.config.patch_size
        packed = isinstance(values, torch.Tensor) and values.dtype == torch.int64 and values.ndim == 3
        if packed and skip_blank_patches and size % ROW_HEIGHT == 0:
            height, width = values.shape[1] * ROW_HEIGHT, values.shape[2] * 4
            positions = self._positions_of(height, width, interpolate_pos_encoding)  # (1, N, D)
            patches, kept = cut_out_inked_patches(values, size)
            return self._project_kept(patches, kept, positions), kept

        pixels = as_pixels(values, self.config.num_channels)
        if pixels.stride(1) == 0:  # one channel, repeated: rendered text; the repeats are made last, of what is left
            pixels = pixels[:, :1]
        positions = self._positions_of(*pixels.shape[-2:], interpolate_pos_encoding)
        if not skip_blank_patches:
            return self._project(pixels) + positions, None
        kept = find_inked_patches(pixels, size)
        if kept.index.shape[1] <= kept.total // 2:
            return self._project_kept(kept.side_by_side(pixels, size), kept, positions), kept
        tokens = kept.pick(self._project(pixels))  # cutting the patches out first would cost more than it saves
        return tokens + kept.pick(positions.expand(len(tokens), -1, -1)), kept

    def _positions_of(self, height: int, width: int, interpolate: bool) -> torch.Tensor:
        """Positions (1, N, D) for a canvas of that many pixels, which must be one that the model reads."""
        size = self.config.patch_size
        if height % size or width % size:
            raise ValueError(f"A picture of {height}x{width} pixels does not consist of whole {size}-pixel patches.")
        if (height, width) != self.config.canvas_size and not interpolate:
            raise ValueError(
                f"A picture of {height}x{width} pixels was given to a model of {self.config.canvas_size} (height, "
                "width); resize it with the processor, or pass interpolate_pos_encoding=True."
            )
        return self.positions_for(height // size, width // size)

    def _project_kept(self, patches: torch.Tensor, kept: KeptPatches, positions: torch.Tensor) -> torch.Tensor:
        """Kept patches side by side, (1, C or 1, P, B*M*P), and positions (1, N, D) -> tokens (B, M, D)."""
        tokens = self._project(patches)[0].unflatten(0, kept.index.shape)
        return tokens + kept.pick(positions.expand(len(tokens), -1, -1))

    def _project(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, C or 1, H, W) -> (B, N, D), one channel standing for all."""
        pixels = pixels.to(self.patch_embedding.weight.dtype)  # pipelines cast images only, never text
        pixels = pixels.expand(-1, self.config.num_channels, -1, -1)
        return self.patch_embedding(pixels).flatten(2).transpose(1, 2)
