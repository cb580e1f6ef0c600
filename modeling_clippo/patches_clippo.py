"""Selection of the patches with ink: indices, gathering and scattering, groups of similar length.

In a traced or exported model no shape may depend on the data. There all patches stay in place, and blank ones are
masked in attention and pooling, which gives the same result.

Axes: B batch, C channels, H W canvas in pixels, h w canvas in patches, N = h*w patches, M <= N patches kept, P patch
side, X features.
"""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from .pixels_clippo import BACKGROUND, COLUMNS_PER_WORD, ROW_HEIGHT, is_exporting, unpack_canvas


class KeptPatches(NamedTuple):
    """The patches of each canvas that the tower computes. Kept patches come first, in reading order; padding follows.

    Example:
        >>> import torch
        >>> kept = keep_patches(torch.tensor([[False, True, False, True], [False, False, True, False]]))
        >>> kept.index[0].tolist(), kept.mask.tolist()
        ([1, 3], [[True, True], [True, False]])
        >>> kept.on_canvas().long().tolist()
        [[0, 1, 0, 1], [0, 0, 1, 0]]
    """

    index: torch.Tensor | None  # (B, M) position on the canvas; None: all patches in place, M = N
    mask: torch.Tensor  # (B, M) True for a kept patch, False for padding
    total: int  # N

    def gather(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, N, X) -> (B, M, X)"""
        if self.index is None:
            return tokens
        return tokens.gather(1, self.index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))

    def scatter(self, tokens: torch.Tensor) -> torch.Tensor:
        """(B, M, X) -> (B, N, X), zero where a patch was not kept."""
        kept = tokens.masked_fill(~self.mask.to(tokens.device).unsqueeze(-1), 0)
        if self.index is None:
            return kept
        canvas = tokens.new_zeros(tokens.shape[0], self.total, tokens.shape[-1])
        return canvas.scatter(1, self.index.to(tokens.device).unsqueeze(-1).expand_as(kept), kept)

    def on_canvas(self) -> torch.Tensor:
        """bool (B, N), True for the kept patches."""
        if self.index is None:
            return self.mask
        return self.mask.new_zeros(len(self.mask), self.total).scatter(1, self.index, self.mask)

    def as_strip(self, pixels: torch.Tensor, patch_size: int) -> torch.Tensor:
        """(B, c, H, W) -> (1, c, P, B*M*P): the kept patches of the whole batch as one long image.

        The projection takes it like any image. B*M images of one patch take several times as long on a CPU.
        """
        patches = F.pixel_unshuffle(pixels, patch_size).flatten(2).transpose(1, 2)  # (B, N, c*P*P)
        patches = self.gather(patches).view(-1, pixels.shape[1], patch_size, patch_size)  # (B*M, c, P, P)
        return patches.permute(1, 2, 0, 3).flatten(2).unsqueeze(0)

    def by_length(self) -> list[tuple[torch.Tensor, int]]:
        """Rows of the batch, shortest first, in groups with the longest length of each group.

        Groups of similar length need little padding. The number of groups depends on the batch size only, so that
        data-parallel processes run the sharded layers equally often.
        """
        groups = max(1, min(8, len(self.mask) // 32))
        count, order = self.mask.sum(1).sort(stable=True)
        longest = torch.stack([part[-1] for part in count.tensor_split(groups)]).tolist()
        return list(zip(order.tensor_split(groups), longest, strict=True))


def keep_patches(inked: torch.Tensor) -> KeptPatches:
    """Index the patches that are True in bool (B, N). A row without any keeps its first patch."""
    total = inked.shape[1]
    first = torch.arange(total, device=inked.device) == 0
    inked = inked | (first & ~inked.any(1, keepdim=True))
    if is_exporting():
        return KeptPatches(None, inked, total)
    count = inked.sum(1, keepdim=True)  # (B, 1)
    longest = int(count.max())
    index = inked.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :longest]
    mask = torch.arange(longest, device=inked.device) < count
    return KeptPatches(index, mask, total)


def find_inked_patches(pixels: torch.Tensor, patch_size: int) -> KeptPatches:
    """Find the patches that differ from the text background. An empty canvas keeps its first patch.

    Args:
        pixels: (B, C, H, W) in [-1, 1].
        patch_size: P.
    """
    contrast = F.max_pool2d((pixels - BACKGROUND).abs(), patch_size).amax(1)  # (B, h, w)
    half_a_grey_level = 1 / 255
    return keep_patches(contrast.flatten(1) > half_a_grey_level)


def cut_out_inked_patches(packed: torch.Tensor, patch_size: int) -> tuple[torch.Tensor, KeptPatches]:
    """Cut the patches with ink out of packed text, laid out like `KeptPatches.as_strip`.

    Blank patches are never unpacked, so the cost is proportional to the ink. The pixel values are the same.

    Args:
        packed: int64 (B, H/16, W/4), see `unpack_canvas`.
        patch_size: P, a multiple of 16.

    Returns:
        float32 (1, 1, P, B*M*P) in [-1, 1], and the index of the patches.
    """
    rows, columns = patch_size // ROW_HEIGHT, patch_size // COLUMNS_PER_WORD
    patches = packed.unflatten(1, (-1, rows)).unflatten(3, (-1, columns))  # (B, h, rows, w, columns)
    patches = patches.transpose(2, 3).flatten(3).flatten(1, 2)  # (B, N, rows*columns)
    kept = keep_patches((patches != 0).any(-1))
    patches = kept.gather(patches).flatten(0, 1).unflatten(1, (rows, columns))  # (B*M, rows, columns)
    return unpack_canvas(patches.transpose(0, 1).flatten(1).unsqueeze(0)), kept
