"""Patches of a batch of canvases: which have ink, and their pixel values as rows of a matrix.

Axes: B batch, c channels of the tensor, H W canvas in pixels, N patches of a canvas, P patch side.
"""

import torch
from torch.nn import functional as F

from .pixels_clippo import BACKGROUND, COLUMNS_PER_WORD, ROW_HEIGHT, as_pixels, is_bit_packed, unpack_canvas


def inked_patches(values: torch.Tensor, patch_size: int, num_channels: int) -> torch.Tensor:
    """Find the patches that differ from the text background. An empty canvas keeps its first patch.

    Args:
        values: Canvases in any format of `as_pixels`.
        patch_size: P.
        num_channels: Channels of the model.

    Returns:
        bool (B, N), in reading order of the patches.
    """
    if _has_patches_of_words(values, patch_size):
        inked = (_words(values, patch_size) != 0).any(-1)
    else:
        contrast = F.max_pool2d((as_pixels(values, num_channels) - BACKGROUND).abs(), patch_size).amax(1)  # (B, h, w)
        half_a_grey_level = 1 / 255
        inked = contrast.flatten(1) > half_a_grey_level
    first = torch.arange(inked.shape[1], device=inked.device) == 0
    return inked | (first & ~inked.any(1, keepdim=True))


def cut_patches(
    values: torch.Tensor,
    patch_size: int,
    num_channels: int,
    dtype: torch.dtype = torch.float32,
    place: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cut canvases into patches.

    Blank patches of packed text are never unpacked, so the cost is proportional to the ink.

    Args:
        values: Canvases in any format of `as_pixels`.
        patch_size: P.
        num_channels: Channels of the model.
        dtype: Of the result.
        place: int64 (n,), the patches to return, as canvas * N + position. None means all.

    Returns:
        (n, c*P*P) in [-1, 1]. A row has the order of a row of `Conv2d.weight.flatten(1)`. c is 1 or `num_channels`.
    """
    if _has_patches_of_words(values, patch_size):
        words = _words(values, patch_size).flatten(0, 1)  # (B*N, words of a patch)
        words = words if place is None else words[place]
        return unpack_canvas(words.unflatten(1, (patch_size // ROW_HEIGHT, -1)), dtype).flatten(1)
    pixels = as_pixels(values, num_channels).to(dtype)
    if not pixels.shape[0]:  # pixel_unshuffle gives an empty batch another shape
        return pixels.new_zeros(0, pixels.shape[1] * patch_size**2)
    patches = F.pixel_unshuffle(pixels, patch_size).flatten(2).transpose(1, 2).flatten(0, 1)  # (B*N, c*P*P)
    return patches if place is None else patches[place]


def _has_patches_of_words(values: torch.Tensor, patch_size: int) -> bool:
    """Return True for packed text in which each patch consists of whole words."""
    return isinstance(values, torch.Tensor) and is_bit_packed(values) and patch_size % ROW_HEIGHT == 0


def _words(packed: torch.Tensor, patch_size: int) -> torch.Tensor:
    """Packed text (B, H/16, W/4) -> the words of each patch (B, N, P/16 * P/4)."""
    rows, columns = patch_size // ROW_HEIGHT, patch_size // COLUMNS_PER_WORD
    patches = packed.unflatten(1, (-1, rows)).unflatten(3, (-1, columns))  # (B, h, rows, w, columns)
    return patches.transpose(2, 3).flatten(3).flatten(1, 2)
