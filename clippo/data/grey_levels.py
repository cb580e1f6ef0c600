"""Images as uint8 grey levels, a quarter of the bytes of float32. The model normalises them on its device."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

# The model computes `x / 255 * 2 - 1`. An image processor with these options gives the same bits.
OFFICIAL = {"do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255, "image_mean": 0.5, "image_std": 0.5}


def images_as_levels(image_processor: Any, images: Sequence, **options) -> Tensor:
    """Resize images as the image processor does, and leave the normalisation to the model.

    Args:
        image_processor: `ClippoImageProcessor`.
        images: Images in every form that it accepts.
        options: Options of its call, such as `size`.

    Returns:
        uint8 (B, C, H, W). float32, normalised as usual, where uint8 would differ: for float images, and for an
        image processor with another mean, standard deviation or scale.

    Example:
        >>> from PIL import Image
        >>> from clippo import ClippoImageProcessor
        >>> from clippo.data.grey_levels import images_as_levels
        >>> images_as_levels(ClippoImageProcessor(size=32), [Image.new("RGB", (9, 9), "red")])[0, :, 0, 0]
        tensor([255,   0,   0], dtype=torch.uint8)
    """
    if any(isinstance(image, np.ndarray | Tensor) and _is_float(image) for image in images) or not _is_official(
        image_processor, options
    ):
        return image_processor(images, return_tensors="pt", **options)["pixel_values"]
    options = {**options, "do_rescale": False, "do_normalize": False}
    return image_processor(images, return_tensors="pt", **options)["pixel_values"]


def _is_float(image: np.ndarray | Tensor) -> bool:
    return image.is_floating_point() if isinstance(image, Tensor) else np.issubdtype(image.dtype, np.floating)


def _is_official(image_processor: Any, options: dict) -> bool:
    return all(
        np.array_equal(np.unique(options.get(name, getattr(image_processor, name, None))), [value])
        for name, value in OFFICIAL.items()
    )


def round_to_levels(pixels: Tensor) -> Tensor:
    """Round pixel values to the nearest grey levels.

    Args:
        pixels: Floating point, 0 to 255.

    Returns:
        uint8, of the same shape.
    """
    return pixels.round().clamp_(0, 255).to(torch.uint8)
