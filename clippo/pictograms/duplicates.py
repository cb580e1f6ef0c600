"""Equal and nearly equal pictures: a digest of the pixels, and a shape of 256 bits that small changes leave alone."""

import hashlib

import numpy as np
from PIL import Image

SHAPE_SIDE = 16  # a shape has 16 x 16 bits
# Shapes of two pictures that differ in at most this many bits count as nearly equal.
NEAR = 6


def digest(pixels: np.ndarray) -> bytes:
    """16 bytes of the sha256 of a picture; equal pictures and no others share it.

    Args:
        pixels: uint8 (S, S, 4).
    """
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()).digest()[:16]


def shape(pixels: np.ndarray) -> bytes:
    """32 bytes: dark and light cells of the drawing on white, cut to its outline and scaled to 16 x 16.

    Size, margin and line width of a few pixels change few of its bits.

    Args:
        pixels: uint8 (S, S, 4).

    Example:
        >>> import numpy as np
        >>> from clippo.pictograms.duplicates import shape
        >>> small, large = np.zeros((2, 32, 32, 4), np.uint8)
        >>> small[12:20, 12:20, 3], large[2:30, 2:30, 3] = 255, 255
        >>> shape(small) == shape(large)
        True
    """
    opaque = pixels[..., 3] > 63
    rows, columns = np.flatnonzero(opaque.any(axis=1)), np.flatnonzero(opaque.any(axis=0))
    if len(rows) == 0:
        return bytes(SHAPE_SIDE * SHAPE_SIDE // 8)
    part = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint32)
    alpha = part[..., 3]
    light = (part[..., 0] + part[..., 1] + part[..., 2]) * alpha // 765 + 255 - alpha  # mean of the colours, on white
    cut = Image.fromarray(light.astype(np.uint8))
    cells = np.asarray(cut.resize((SHAPE_SIDE, SHAPE_SIDE), Image.Resampling.BOX))
    return np.packbits(cells < 160).tobytes()


def near_pairs(shapes: np.ndarray, others: np.ndarray, most: int = NEAR) -> np.ndarray:
    """For each shape, the index of the nearest other one within `most` bits, or -1.

    Args:
        shapes: uint8 (N, 32).
        others: uint8 (M, 32).
        most: Largest number of different bits.

    Returns:
        int64 (N,).
    """
    found = np.full(len(shapes), -1)
    if not len(others):
        return found
    # Bits as +1 and -1: the product of two shapes is 256 minus twice the number of different bits.
    right = _signs(others).T  # (256, M)
    bits = SHAPE_SIDE * SHAPE_SIDE
    for start in range(0, len(shapes), 256):
        product = _signs(shapes[start : start + 256]) @ right  # (256, M)
        nearest = product.argmax(axis=1)
        different = (bits - product[np.arange(len(nearest)), nearest]) / 2
        found[start : start + 256] = np.where(different <= most, nearest, -1)
    return found


def _signs(shapes: np.ndarray) -> np.ndarray:
    return np.unpackbits(shapes, axis=1).astype(np.float32) * 2 - 1
