"""Packed sequence: the kept patches of many canvases as one sequence, and attention within each canvas.

There is one tower, so one pass computes a whole step: all patches of the images, then the kept patches of the texts.
Projections, LayerNorm and MLP see one sequence (1, T, D). Only attention has to know where a canvas ends.

Axes: T tokens of all canvases, B canvases, N patches of a canvas, M longest canvas of a group, H heads, K head size.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # torch before 2.10
    varlen_attn = None

# Canvases of similar length share a padded attention call. A constant number of calls keeps the number of operations
# of a step the same for any mixture of lengths.
PADDED_GROUPS, CANVASES_PER_GROUP = 4, 16


class Part(NamedTuple):
    """Canvases of one modality and size, next to each other in a packed sequence."""

    modality: str
    canvases: int
    patches: int  # N
    tokens: int  # of all canvases: canvases * N where every patch is kept
    place: torch.Tensor | None = None  # int64 (tokens,) canvas * N + position on the canvas; None: every patch is kept
    real: torch.Tensor | None = None  # int64, the tokens that are not padding; None: there is no padding
    kept: torch.Tensor | None = None  # bool (canvases, N), the patches that are computed; None: every patch
    restore: torch.Tensor | None = None  # int64 (canvases,) row of each canvas in the sequence, where they are sorted


class Group(NamedTuple):
    """Neighbouring canvases of the same width, padding included, that share one attention call (b, H, M, K)."""

    canvases: int  # b
    width: int  # M
    mask: torch.Tensor | None = None  # float (b, 1, 1, M), 0 for a token, -inf for padding; None: no padding


class PackedSequence(NamedTuple):
    """Layout of a packed sequence: its parts in order, and what attention has to know.

    The backends "padded", "whole" and "static" have groups, and the sequence contains their padding. The others have
    cumulative lengths, and the sequence contains kept patches only.
    """

    parts: tuple[Part, ...]
    longest: int  # upper bound of the tokens of a canvas
    backend: str  # of `packed_backend`
    cu_seqlens: torch.Tensor | None = None  # int32 (B + 1,), first token of each canvas, and T
    groups: tuple[Group, ...] = ()
    block_masks: tuple[Any, Any] = (None, None)  # of flex attention: tokens to tokens, canvases to tokens

    @property
    def canvases(self) -> int:
        """B"""
        return sum(part.canvases for part in self.parts)


def packed_backend(implementation: str, device: torch.device, dtype: torch.dtype, dropout: float) -> str | None:
    """Choose how attention over a packed sequence is computed.

    Args:
        implementation: `config._attn_implementation`.
        device: Device of the queries.
        dtype: Dtype of the queries.
        dropout: Attention dropout of this pass.

    Returns:
        "varlen" (torch's kernel for ragged sequences), "flash" (transformers' interface to flash attention), "flex"
        (flex attention with a document mask) or "padded" (canvases of similar length in one padded call). None for
        an implementation that takes whole batches only, such as one that a user registered.
    """
    if implementation.startswith("flash_attention") or implementation.startswith("kernels-community/flash"):
        return "flash"
    if implementation == "flex_attention":
        return "flex" if device.type == "cuda" else None  # the kernel for CPUs does not compile with this mask
    half = dtype in (torch.float16, torch.bfloat16)
    if implementation == "sdpa" and device.type == "cuda" and half and not dropout and varlen_attn is not None:
        return "varlen"
    return "padded" if implementation in ("sdpa", "eager") else None


def pack(
    canvases: Sequence[tuple[str, int, int, torch.Tensor | None]], backend: str, device: torch.device
) -> PackedSequence:
    """Lay out the tokens of several batches of canvases as one sequence.

    Args:
        canvases: (modality, B, N, kept) of each batch. kept is bool (B, N) with at least one True a row, or None when
            every patch is kept.
        backend: "varlen", "flash", "flex" or "padded", see `packed_backend`. "whole" pads all canvases of a batch to
            one length. "static" keeps blank patches and masks them, for a traced or exported model.
        device: Device of the sequence.

    Raises:
        ValueError: There is no canvas.

    Example:
        >>> import torch
        >>> kept = torch.tensor([[True, False, True], [False, True, False]])
        >>> packed = pack([("image", 2, 3, None), ("text", 2, 3, kept)], "varlen", torch.device("cpu"))
        >>> packed.cu_seqlens.tolist(), packed.parts[1].place.tolist()
        ([0, 3, 6, 8, 9], [0, 2, 4])
    """
    if backend != "static" and not sum(count for _, count, _, _ in canvases):
        raise ValueError("There is no canvas to encode; pass at least one image or one text.")
    parts, lengths, groups = [], [], []
    for modality, count, patches, kept in canvases:
        if kept is None:
            parts.append(Part(modality, count, patches, count * patches))
            if backend not in ("padded", "whole", "static"):
                lengths.append(torch.full((count,), patches, device=device))
            groups.append(Group(count, patches))
        elif backend == "static":
            # No shape may depend on the data in a traced or exported model. Blank patches stay and are masked.
            parts.append(Part(modality, count, patches, count * patches, kept=kept))
            groups.append(Group(count, patches, _additive(kept)))
        elif backend in ("padded", "whole"):
            part, own_groups = _pad(modality, kept, 1 if backend == "whole" else PADDED_GROUPS)
            parts.append(part)
            groups.extend(own_groups)
        else:
            place = kept.flatten().nonzero().squeeze(1)  # the host waits for the device here
            parts.append(Part(modality, count, patches, len(place), place, kept=kept))
            lengths.append(kept.sum(1))
    longest = max(part.patches for part in parts)
    if backend in ("padded", "whole", "static"):
        return PackedSequence(tuple(parts), longest, backend, groups=tuple(groups))
    cu_seqlens = F.pad(torch.cat(lengths).cumsum(0), (1, 0)).to(torch.int32)
    packed = PackedSequence(tuple(parts), longest, backend, cu_seqlens)
    return packed._replace(block_masks=_block_masks(packed)) if backend == "flex" else packed


def _pad(modality: str, kept: torch.Tensor, most: int) -> tuple[Part, list[Group]]:
    """Lay out canvases, kept (B, N), in at most `most` groups of similar length, each padded to its longest canvas."""
    count, patches = kept.shape
    lengths, order = kept.sum(1).sort(stable=True) if most > 1 else (kept.sum(1), None)
    # Kept patches come first, in reading order.
    index = kept.to(torch.uint8).argsort(dim=1, descending=True, stable=True)  # (B, N)
    canvas = torch.arange(count, device=kept.device) if order is None else order
    groups, places, masks = [], [], []
    for rows in torch.arange(count).tensor_split(max(1, min(most, count // CANVASES_PER_GROUP))):
        rows = slice(int(rows[0]), int(rows[-1]) + 1)
        width = int(lengths[rows].max())
        mask = torch.arange(width, device=kept.device) < lengths[rows, None]  # (b, M)
        places.append((canvas[rows, None] * patches + index[canvas[rows], :width]).flatten())
        masks.append(mask.flatten())
        groups.append(Group(len(mask), width, None if mask.all() else _additive(mask)))
    place, restore = torch.cat(places), None if order is None else order.argsort()
    padded = any(group.mask is not None for group in groups)
    real = torch.cat(masks).nonzero().squeeze(1) if padded else None
    return Part(modality, count, patches, len(place), place, real, kept, restore), groups


def _additive(mask: torch.Tensor) -> torch.Tensor:
    """bool (b, M) -> float (b, 1, 1, M), 0 where True and minus infinity where False."""
    return torch.where(mask, 0.0, -torch.inf)[:, None, None]


def _block_masks(packed: PackedSequence) -> tuple[Any, Any]:
    from torch.nn.attention.flex_attention import create_block_mask

    lengths = packed.cu_seqlens.diff()
    canvas = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), lengths)  # (T,)
    device, tokens = lengths.device.type, len(canvas)

    def same_canvas(batch, head, query, key):
        return canvas[query] == canvas[key]

    def own_canvas(batch, head, query, key):
        return query == canvas[key]

    return (
        create_block_mask(same_canvas, None, None, tokens, tokens, device=device),
        create_block_mask(own_canvas, None, None, len(lengths), tokens, device=device),
    )
