"""Packed sequence: the kept patches of many canvases as one sequence, and attention within each canvas.

There is one tower, so one pass computes a whole step: all patches of the images, then the kept patches of the texts.
Projections, LayerNorm and MLP see one sequence (1, T, D). Only attention has to know where a canvas ends.

A packed sequence has nothing to do with packed text, the format that holds a pixel in a bit (pixels_clippo.py).

Axes: T tokens of all canvases, B canvases, N patches of a canvas, M longest canvas of a group, H heads, K head size.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch.nn import functional as F

from .tiles_clippo import Tiles, lay_tiles, tile_counts, tile_size

try:
    from torch.nn.attention.varlen import varlen_attn
except ImportError:  # a saved folder may meet an older PyTorch than this package requires
    varlen_attn = None

MODALITIES = ("image", "text")

# Canvases of similar length share a padded attention call. The number of calls depends on the number of canvases and
# not on their lengths, and so does the number of operations of a step.
PADDED_GROUPS, CANVASES_PER_GROUP = 4, 4

# The backend where the kernel for ragged sequences runs: "tiles", or "varlen" for that kernel alone.
GPU_BACKEND = "tiles"
BACKENDS = ("tiles", "varlen", "flash", "padded", "whole", "static")


class Part(NamedTuple):
    """Canvases of one modality and size, next to each other in a packed sequence."""

    modality: str
    canvases: int
    patches: int  # N
    tokens: int  # of all canvases, padding included
    place: torch.Tensor | None = None  # int64 (tokens,) canvas * N + position; None: every patch is in the sequence
    real: torch.Tensor | None = None  # int64, the tokens that are not padding; None: there is no padding
    kept: torch.Tensor | None = None  # bool (canvases, N), the patches that count; None: every patch
    restore: torch.Tensor | None = None  # int64 (canvases,) row of each canvas in the sequence, where they are sorted


class Group(NamedTuple):
    """Neighbouring canvases that share one attention call.

    They have one width, padding included, and the call is (b, H, M, K). Two kinds of groups have no padding in the
    sequence: canvases in tiles, and canvases with offsets for the kernel for ragged sequences.
    """

    canvases: int  # b
    width: int  # M; with tiles or offsets the most tokens of a canvas
    mask: torch.Tensor | None = None  # float (b, 1, 1, M), 0 for a token, -inf for padding; None: no padding
    tokens: int | None = None  # of all canvases; None: b*M
    tiles: Tiles | None = None
    offsets: torch.Tensor | None = None  # int32 (b + 1,), first token of each canvas in the group, and their number


class PackedSequence(NamedTuple):
    """Layout of a packed sequence: its parts in order, and what attention has to know.

    The backends "padded", "whole" and "static" have groups, and the sequence contains their padding. "tiles" has a
    group for each part, and the others have cumulative lengths. Their sequences contain kept patches only.
    """

    parts: tuple[Part, ...]
    max_patches: int  # largest N of the parts, which no canvas exceeds
    backend: str  # of `packed_backend`
    cu_seqlens: torch.Tensor | None = None  # int32 (B + 1,), first token of each canvas, and T
    groups: tuple[Group, ...] = ()

    @property
    def canvases(self) -> int:
        """B"""
        return sum(part.canvases for part in self.parts)


def packed_backend(
    implementation: str, device: torch.device, dtype: torch.dtype, dropout: float, head_size: int
) -> str | None:
    """Choose how attention over a packed sequence is computed.

    Args:
        implementation: `config._attn_implementation`.
        device: Device of the queries.
        dtype: Dtype of the queries.
        dropout: Attention dropout of this pass.
        head_size: K.

    Returns:
        "tiles" (short canvases side by side, whole canvases in one batch, others through torch's kernel for ragged
        sequences), "varlen" (that kernel for all), "flash" (transformers' interface to flash attention) or "padded"
        (canvases of similar length in one padded call). None for an implementation that takes whole batches only, such
        as flex attention or one that a user registered.
    """
    if implementation.startswith("flash_attention") or implementation.startswith("kernels-community/flash"):
        return "flash"
    if implementation == "sdpa" and not dropout and _has_varlen_kernel(device, dtype, head_size):
        return GPU_BACKEND
    return "padded" if implementation in ("sdpa", "eager") else None


def _has_varlen_kernel(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Return True where `varlen_attn` runs: FlashAttention on GPUs of compute capability 8.0 or newer."""
    if varlen_attn is None or device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return False
    return head_size % 8 == 0 and head_size <= 256 and torch.cuda.get_device_capability(device) >= (8, 0)


def pack(
    canvases: Sequence[tuple[str, int, int, torch.Tensor | None]],
    backend: str,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> PackedSequence:
    """Lay out the tokens of several batches of canvases as one sequence.

    Args:
        canvases: (modality, B, N, kept) of each batch. kept is bool (B, N) with at least one True a row, or None when
            every patch is kept.
        backend: "tiles", "varlen", "flash" or "padded", see `packed_backend`. "whole" pads all canvases of a batch to
            one length. "static" keeps blank patches and masks them, for a traced or exported model.
        device: Device of the sequence.
        dtype: Dtype of the masks of tiles.

    Raises:
        ValueError: There is no canvas, `kept` has another shape than (B, N), or the backend is not known.

    Example:
        >>> import torch
        >>> kept = torch.tensor([[True, False, True], [False, True, False]])
        >>> packed = pack([("image", 2, 3, None), ("text", 2, 3, kept)], "varlen", torch.device("cpu"))
        >>> packed.cu_seqlens.tolist(), packed.parts[1].place.tolist()
        ([0, 3, 6, 8, 9], [0, 2, 4])
    """
    if backend != "static" and not sum(count for _, count, _, _ in canvases):
        raise ValueError("There is no canvas to encode; pass at least one image or one text.")
    _check(canvases, backend)
    if backend == "tiles":
        return _pack_tiles(canvases, dtype)
    padded = backend in ("padded", "whole", "static")
    parts, lengths, groups = [], [], []
    for modality, count, patches, kept in canvases:
        part, own_groups = Part(modality, count, patches, count * patches), [Group(count, patches)]
        if kept is not None and backend == "static":
            # No shape may depend on the data in a traced or exported model. Blank patches stay and are masked.
            part, own_groups = part._replace(kept=kept), [Group(count, patches, _additive(kept))]
        elif kept is not None and padded and count:
            part, own_groups = _pad(modality, kept, 1 if backend == "whole" else PADDED_GROUPS)
        elif kept is not None:
            place = kept.flatten().nonzero().squeeze(1)  # the host waits for the device here
            part = Part(modality, count, patches, len(place), place, kept=kept)
        parts.append(part)
        if padded:
            groups.extend(own_groups if count else [])
        else:
            lengths.append(torch.full((count,), patches, device=device) if kept is None else kept.sum(1))
    max_patches = max(part.patches for part in parts)
    if padded:
        return PackedSequence(tuple(parts), max_patches, backend, groups=tuple(groups))
    return PackedSequence(tuple(parts), max_patches, backend, _offsets(torch.cat(lengths)))


def _check(canvases: Sequence[tuple[str, int, int, torch.Tensor | None]], backend: str) -> None:
    """Raise ValueError for an unknown backend, or for masks that do not fit. Shapes alone are read, no values."""
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} cannot pack canvases; choose one of {', '.join(BACKENDS)}.")
    if backend == "static":
        return  # shapes of a traced or exported model may be symbols
    for modality, count, patches, kept in canvases:
        if kept is not None and kept.shape != (count, patches):
            raise ValueError(
                f"The mask of kept patches is {tuple(kept.shape)} for {count} {modality} canvases of {patches} "
                f"patches; give one value a patch, ({count}, {patches})."
            )


def split_by_modality(packed: PackedSequence) -> list[PackedSequence]:
    """Split a layout where the modality changes. The pieces follow each other in the sequence."""
    pieces, first, group = [], 0, 0
    for _, members in itertools.groupby(packed.parts, lambda part: part.modality):
        parts = tuple(members)
        stop = first + sum(part.canvases for part in parts)
        offsets = packed.cu_seqlens
        if offsets is not None:
            offsets = offsets[first : stop + 1] - offsets[first]
        groups, left = [], stop - first
        while packed.groups and left:
            groups.append(packed.groups[group])
            left -= packed.groups[group].canvases
            group += 1
        pieces.append(packed._replace(parts=parts, cu_seqlens=offsets, groups=tuple(groups)))
        first = stop
    return pieces


def _pack_tiles(canvases: Sequence[tuple[str, int, int, torch.Tensor | None]], dtype: torch.dtype) -> PackedSequence:
    """`pack` for the backend "tiles". The host reads the device once, whatever the number of parts."""
    ragged = [kept for _, count, _, kept in canvases if count and kept is not None]
    counts = iter(torch.stack([tile_counts(kept) for kept in ragged]).tolist() if ragged else ())
    parts, groups = [], []
    for modality, count, patches, kept in canvases:
        part, group = Part(modality, count, patches, count * patches), Group(count, patches)
        if kept is not None and not count:
            part = part._replace(place=kept.new_zeros(0, dtype=torch.int64), kept=kept)
        elif kept is not None:
            tokens, longest, slots = next(counts)
            place = torch.nonzero_static(kept.flatten(), size=tokens).squeeze(1)
            part = Part(modality, count, patches, tokens, place, kept=kept)
            size = tile_size(count, longest, slots)
            if size is None:
                group = Group(count, patches, tokens=tokens, offsets=_offsets(kept.sum(1)))
            else:
                group = Group(count, size, tokens=tokens, tiles=lay_tiles(kept, place, slots, size, dtype))
        parts.append(part)
        groups.extend([group] if count else [])
    return PackedSequence(tuple(parts), max(part.patches for part in parts), "tiles", groups=tuple(groups))


def _offsets(lengths: torch.Tensor) -> torch.Tensor:
    """Lengths (B,) -> int32 (B + 1,), from 0 to their sum."""
    return F.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)


def _pad(modality: str, kept: torch.Tensor, most: int) -> tuple[Part, list[Group]]:
    """Lay out canvases, kept (B, N), in at most `most` groups of similar length, each padded to its longest canvas."""
    count, patches = kept.shape
    number = max(1, min(most, count // CANVASES_PER_GROUP))
    lengths, order = kept.sum(1).sort(stable=True) if number > 1 else (kept.sum(1), None)
    # Kept patches come first, in reading order.
    index = kept.to(torch.uint8).argsort(dim=1, descending=True, stable=True)  # (B, N)
    canvas = torch.arange(count, device=kept.device) if order is None else order
    groups, places, masks = [], [], []
    for rows in torch.arange(count).tensor_split(number):
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
