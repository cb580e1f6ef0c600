"""What a processor hands to the model, turned back into pixels that can be looked at."""

import numpy as np


def image_pixels(pixel_values: np.ndarray) -> np.ndarray:
    """Pictures as the model reads them.

    Args:
        pixel_values: float (B, C, H, W) in [-1, 1], or uint8 of the same shape; an array or a tensor on the CPU.

    Returns:
        uint8 (B, H, W, C).

    Raises:
        ValueError: floats outside [-1, 1], or another rank.
    """
    values = np.asarray(pixel_values)
    if values.ndim != 4:
        raise ValueError(f"Pictures come as (B, C, H, W), got an array of shape {values.shape}.")
    if values.dtype != np.uint8:
        low, high = values.min(initial=0), values.max(initial=0)
        if not (low >= -1.001 and high <= 1.001):
            raise ValueError(f"Pixel values lie in [-1, 1], got {low} to {high}.")
        values = np.rint((values.astype(np.float32) + 1) / 2 * 255).clip(0, 255).astype(np.uint8)
    return np.moveaxis(values, 1, -1)
