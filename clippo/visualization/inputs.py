"""Images of a folder, and the processor's output as images for figures."""

from pathlib import Path

import numpy as np
from PIL import Image

from clippo.processing import open_image

# Root of the checkout, whose model and images are the defaults of commands. An installation has neither.
CHECKOUT = Path(__file__).resolve().parents[2]


def image_pixels(pixel_values: np.ndarray) -> np.ndarray:
    """Converts pixel values to images that can be drawn.

    Args:
        pixel_values: float (B, C, H, W) in [-1, 1], or uint8 of the same shape; an array or a tensor on the CPU.

    Returns:
        uint8 (B, H, W, C).

    Raises:
        ValueError: A float lies outside [-1, 1], or the shape has another rank.
    """
    values = np.asarray(pixel_values)
    if values.ndim != 4:
        raise ValueError(f"Pixel values must have the shape (B, C, H, W), got {values.shape}.")
    if values.dtype != np.uint8:
        low, high = values.min(initial=0), values.max(initial=0)
        if not (low >= -1.001 and high <= 1.001):
            raise ValueError(f"Pixel values must lie in [-1, 1], got {low} to {high}.")
        values = np.rint((values.astype(np.float32) + 1) / 2 * 255).clip(0, 255).astype(np.uint8)
    return np.moveaxis(values, 1, -1)


def read_images(folder: Path) -> dict[str, Image.Image]:
    """Opens the images of a folder, upright, by file stem and in the order of their names.

    Raises:
        FileNotFoundError: The folder is missing or holds no image.
    """
    known = Image.registered_extensions()
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in known)
    if not files:
        raise FileNotFoundError(f"no images in {folder}: give a folder with files such as .png, .jpg or .webp")
    return {path.stem: open_image(path) for path in files}
