"""Tiles: many short canvases share one square of attention, and a mask keeps them apart.

The kernel for ragged sequences computes a square of 128 x 128 scores for each canvas and head, however short the canvas
is. A word inks four patches. Here canvases stand side by side in squares of C x C scores.

The width of a canvas is its number of tokens, rounded up to a power of two. Canvases are sorted by width, the widest
first. The start of each is then a multiple of its width, so none crosses a border of a tile.

Axes: T tokens, B canvases, N patches of a canvas, n tiles, C slots of a tile, H heads, K head size.
"""

from typing import NamedTuple

import torch

# Measured on an H100, the kernel for ragged sequences computes squares of this side.
RAGGED_SIDE = 128
# A masked kernel needs about this many times as long for a score as the one for ragged sequences.
MASKED_COST = 2
SMALLEST_TILE, LARGEST_TILE = 64, 256


class Tiles(NamedTuple):
    """Places of the tokens of a part in its tiles."""

    slot: torch.Tensor  # int64 (T,)
    first: torch.Tensor  # int64 (B,), the slot of the first token of each canvas
    mask: torch.Tensor  # float (n, 1, C, C), 0 within a canvas and within padding, minus infinity elsewhere


def tile_counts(kept: torch.Tensor) -> torch.Tensor:
    """int64 (3,) on the device: tokens, tokens of the longest canvas, and slots, of kept, bool (B, N)."""
    lengths = kept.sum(1)
    return torch.stack([lengths.sum(), lengths.max(), _widths(lengths).sum()])


def tile_size(canvases: int, longest: int, slots: int) -> int | None:
    """C for a part, or None where the kernel for ragged sequences is expected to be faster.

    Example:
        >>> from clippo.modeling_clippo.tiles_clippo import tile_size
        >>> tile_size(canvases=1000, longest=9, slots=6000), tile_size(canvases=10, longest=200, slots=2560)
        (64, None)
    """
    size = max(SMALLEST_TILE, 1 << (longest - 1).bit_length())
    fits = size <= LARGEST_TILE and MASKED_COST * slots * size <= canvases * RAGGED_SIDE**2
    return size if fits else None


def lay_tiles(kept: torch.Tensor, place: torch.Tensor, slots: int, size: int, dtype: torch.dtype) -> Tiles:
    """Compute the places on the device, without a wait.

    Args:
        kept: bool (B, N), with at least one True a row.
        place: int64 (T,), canvas * N + position of each token.
        slots: Sum of the widths, of `tile_counts`.
        size: C, of `tile_size`.
        dtype: Dtype of the mask.
    """
    widths, order = _widths(kept.sum(1)).sort(descending=True, stable=True)
    first = torch.empty_like(order).index_copy(0, order, widths.cumsum(0) - widths)
    rank = kept.cumsum(1).flatten().index_select(0, place) - 1
    canvas = torch.div(place, kept.shape[1], rounding_mode="floor")
    slot = first.index_select(0, canvas) + rank
    # Never a single tile: a compiled block takes an axis of one for a constant.
    tiles = max(2, -(-slots // size))
    member = canvas.new_full((tiles * size,), -1).index_copy(0, slot, canvas).view(tiles, 1, size)
    same = member.unsqueeze(-1) == member.unsqueeze(-2)  # (n, 1, C, C)
    mask = torch.zeros(same.shape, dtype=dtype, device=kept.device).masked_fill_(~same, -torch.inf)
    return Tiles(slot, first, mask)


def _widths(lengths: torch.Tensor) -> torch.Tensor:
    """Round lengths, from 1, up to powers of two."""
    exponent = torch.frexp(lengths.float() - 0.5).exponent
    return torch.ones_like(lengths) << exponent.to(lengths.dtype)


def into_tiles(x: torch.Tensor, slot: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(T, H, K) -> (n, H, C, K), zero where no token stands."""
    tiles, _, size, _ = mask.shape
    spread = x.new_zeros(tiles * size, *x.shape[1:]).index_copy(0, slot, x)
    return spread.unflatten(0, (tiles, size)).transpose(1, 2)


def out_of_tiles(x: torch.Tensor, slot: torch.Tensor) -> torch.Tensor:
    """(n, C, H, K) -> (T, H, K)"""
    return _TakeOnce.apply(x.flatten(0, 1), slot)


class _TakeOnce(torch.autograd.Function):
    """Rows by an index without repetitions. The gradient is copied, where that of `index_select` adds atomically."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index)
        ctx.rows = x.shape[0]
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (index,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.rows, *gradient.shape[1:]).index_copy(0, index, gradient), None


class _TakePositions(torch.autograd.Function):
    """Rows of a small matrix by an index with many repetitions. The gradient is one matrix product.

    The gradient of indexing adds the rows that meet one after the other. Here a one-hot matrix adds them in float32, in
    the same order each time.
    """

    @staticmethod
    def forward(ctx, rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(index)
        ctx.shape, ctx.dtype = rows.shape, rows.dtype
        return rows.index_select(0, index)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (index,) = ctx.saved_tensors
        dtype = torch.promote_types(gradient.dtype, torch.float32)
        number = torch.arange(ctx.shape[0], device=index.device)
        member = (number.unsqueeze(1) == index).to(dtype)  # (N, T)
        return (member @ gradient.to(dtype)).to(ctx.dtype), None


def take_positions(positions: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """Positions (N, D) of tokens, index int64 (T,) -> (T, D). On a GPU the gradient is a matrix product."""
    return _TakePositions.apply(positions, index) if positions.is_cuda else positions[index]


__all__ = ["into_tiles", "lay_tiles", "out_of_tiles", "take_positions", "tile_counts", "tile_size"]
