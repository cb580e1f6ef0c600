"""Tensor formats of images and rendered text, and their conversion to pixel values.

Axes: B batch, C channels, H W canvas in pixels.
"""

import torch

# Grey levels of rendered text, fixed by big_vision's renderer: ink 0 on background 127. Both are x / 255 * 2 - 1,
# rounded to float32 at every step as in the official code (127 / 255 * 2 - 1 in float64 ends in ...8627).
BACKGROUND = -0.003921568393707275
INK = -1.0
ROW_HEIGHT = 16  # pixels of a text row; the bits of one packed column
COLUMNS_PER_WORD = 4  # packed columns in an int64


def is_exporting() -> bool:
    """True while a call is traced or exported (torch.jit.trace, torch.export, ONNX)."""
    return torch.jit.is_tracing() or torch.compiler.is_exporting() or torch.onnx.is_in_onnx_export()


def is_bit_packed(values: torch.Tensor) -> bool:
    """True if `values` is a packed text canvas, int64 (B, H/16, W/4)."""
    return values.dtype == torch.int64 and values.ndim == 3


def check_format(values: torch.Tensor, num_channels: int) -> None:
    """Check that `values` has a format of `as_pixels`.

    Raises:
        TypeError: `values` is not a tensor.
        ValueError: The dtype, the rank or the number of channels is not accepted.
    """
    if not isinstance(values, torch.Tensor):
        raise TypeError(
            f'Pixel values are a {type(values).__name__}, not a tensor; give the processor return_tensors="pt".'
        )
    if is_bit_packed(values):
        return
    if values.ndim != 4 or not (values.is_floating_point() or values.dtype in (torch.uint8, torch.int64)):
        raise ValueError(
            f"Pixel values of type {values.dtype} and shape {tuple(values.shape)} are not accepted; pass float "
            "(B, C, H, W) in [-1, 1], uint8 (B, C, H, W), or packed text from the processor, int64 (B, H/16, W/4)."
        )
    if values.shape[1] not in (1, num_channels):
        raise ValueError(f"Pixel values have {values.shape[1]} channels; the model takes 1 or {num_channels}.")


def size_in_pixels(values: torch.Tensor) -> tuple[int, int]:
    """Height and width of the canvases in `values`, a tensor of any accepted format."""
    height, width = values.shape[-2:]
    return (height * ROW_HEIGHT, width * COLUMNS_PER_WORD) if is_bit_packed(values) else (height, width)


def unpack_canvas(packed: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Convert packed text canvases, one bit a pixel, to pixel values.

    Args:
        packed: int64 (B, H/16, W/4). Four neighbouring columns of a text row share an integer, the leftmost in the
            lowest 16 bits. Bit r of a column is its pixel r from the top.
        dtype: Of the result.

    Returns:
        (B, 1, H, W) in [-1, 1], ink -1 on the background of rendered text.
    """
    if is_exporting():
        return _unpack_by_masks(packed)
    columns = packed.contiguous().view(torch.int16)  # (B, H/16, W)
    bit = torch.arange(ROW_HEIGHT, dtype=torch.int16, device=packed.device)
    ink = (columns.unsqueeze(2) >> bit[:, None]) & 1  # (B, H/16, 16, W)
    ink = ink.flatten(1, 2).unsqueeze(1)  # (B, 1, H, W)
    pixels = torch.full_like(ink, BACKGROUND, dtype=dtype)
    return pixels.masked_fill_(ink.bool(), INK)


def _unpack_by_masks(packed: torch.Tensor) -> torch.Tensor:
    """The same with operations that TorchScript and ONNX have. It needs eight times the memory."""
    bits = COLUMNS_PER_WORD * ROW_HEIGHT  # the highest one is the sign of an int64
    masks = torch.tensor([1 << bit for bit in range(bits - 1)] + [-(1 << (bits - 1))], device=packed.device)
    ink = (packed.unsqueeze(-1) & masks) != 0  # (B, H/16, W/4, 64)
    ink = ink.unflatten(-1, (COLUMNS_PER_WORD, ROW_HEIGHT)).permute(0, 1, 4, 2, 3)  # (B, H/16, 16, W/4, 4)
    return torch.where(ink.flatten(3).flatten(1, 2).unsqueeze(1), INK, BACKGROUND)  # (B, 1, H, W)


def as_pixels(values: torch.Tensor, num_channels: int) -> torch.Tensor:
    """Convert a tensor of any accepted format to pixel values.

    Args:
        values: One of four formats. float (B, C or 1, H, W) in [-1, 1] is returned as it is. uint8 (B, C or 1, H, W) is
            scaled like the official `value_range(-1, 1)`. int64 of the same shape holds the same levels, because a data
            set turns uint8 into int64. int64 (B, H/16, W/4) is a packed text canvas.
        num_channels: C, the channels of the model.

    Returns:
        float (B, C or 1, H, W) in [-1, 1]. The patch projection repeats a single channel.

    Raises:
        TypeError: `values` is not a tensor.
        ValueError: The dtype, the rank or the number of channels is not accepted.
    """
    check_format(values, num_channels)
    if is_bit_packed(values):
        return unpack_canvas(values)
    return values if values.is_floating_point() else values.float() / 255 * 2 - 1
