"""Random crops and flips of photographs as batched torch operations, which run on a CPU or on the device of the model.

The crop is that of Inception (Szegedy et al., arXiv 1409.4842; torchvision's `RandomResizedCrop`) without a change of
proportions: images were squashed to a square before.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from clippo.data.grey_levels import round_to_levels


def sample_affine(pixels: Tensor, transforms: Tensor, size: int, padding: str = "zeros") -> Tensor:
    """Resample images by affine maps, bilinearly and without antialiasing.

    Args:
        pixels: float (B, C, H, W).
        transforms: float (B, 2, 3), maps from output to image coordinates (x, y), both in [-1, 1] with half-pixel
            centres.
        size: Side of the square output S.
        padding: Of `grid_sample`, for places outside of the image.

    Returns:
        float (B, C, S, S).
    """
    # Element by element. A matrix product, as in F.affine_grid, may be rounded to TF32 on a GPU, a tenth of a pixel.
    at = (torch.arange(size, device=pixels.device, dtype=pixels.dtype) * 2 + 1) / size - 1  # (S,)
    along_x, along_y, offset = transforms[:, None, None].unbind(-1)  # each (B, 1, 1, 2)
    grid = along_x * at[:, None] + along_y * at[:, None, None] + offset  # (B, S, S, 2)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode=padding, align_corners=False)


class PhotoViews:
    """Random crop and flip of photographs that have the size of the canvas.

    It takes uint8 images (B, 3, H, W) and B seeds and returns uint8 (B, 3, size, size). The view of an image depends on
    its seed alone. `draw` and `views` are the two halves of a call: a worker can draw, and the device can compute the
    views, equal but for the rounding of float32 to a grey level.

    Args:
        size: Side of the square output in pixels.
        flip: Mirror half of the images, left to right.
        crop: Smallest share of the area that a crop keeps. 1 crops nothing.

    Raises:
        ValueError: An option is out of range.

    Example:
        >>> import torch
        >>> from clippo.data import PhotoViews
        >>> PhotoViews(32, crop=0.5)(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), seeds=[0, 1]).shape
        torch.Size([2, 3, 32, 32])
    """

    CHUNK = 16  # images at once on a CPU, see RandomView

    def __init__(self, size: int, flip: bool = True, crop: float = 1.0):
        if size < 1:
            raise ValueError(f"size must be a positive number of pixels, got {size}.")
        if not 0 < crop <= 1:
            raise ValueError(f"crop={crop} is not a share of the area; give more than 0 and at most 1.")
        self.size, self.flip, self.crop = size, flip, crop

    def __call__(self, images: Tensor, seeds: Sequence[int] | None = None) -> Tensor:
        if seeds is None:
            seeds = torch.randint(2**62, (len(images),)).tolist()
        return self.views(images, self.draw(seeds))

    def draw(self, seeds: Sequence[int]) -> Tensor:
        """Random numbers of each view, float32 (B, 4) in [0, 1): flip, area, place across, place down.

        Args:
            seeds: Seed of each image.
        """
        # The first number is the one that PhotoAugmentation draws for its flip, so a seed flips the same images there.
        draws = [np.random.default_rng([seed, 1]).random(4) for seed in seeds]
        return torch.from_numpy(np.stack(draws)).float()

    def views(self, images: Tensor, draws: Tensor) -> Tensor:
        """Compute views on the device of the images.

        Args:
            images: uint8 (B, 3, H, W).
            draws: Result of `draw`, float32 (B, 4) on the same device.

        Returns:
            uint8 (B, 3, size, size).

        Raises:
            ValueError: The images have another format.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.dtype != torch.uint8:
            raise ValueError(
                f"PhotoViews takes uint8 (B, 3, H, W) images, got {images.dtype} {tuple(images.shape)}; the image "
                "processor must have the official mean and standard deviation, 0.5."
            )
        side = (self.crop + draws[:, 1] * (1 - self.crop)).sqrt()  # uniform in the area
        mirror = torch.where(draws[:, 0] < 0.5, -1.0, 1.0) if self.flip else torch.ones_like(side)
        x, y = ((draws[:, 2:] * 2 - 1) * (1 - side)[:, None]).unbind(1)  # centre of the crop
        nothing = torch.zeros_like(side)
        transforms = torch.stack([side * mirror, nothing, x, nothing, side, y], dim=1).unflatten(1, (2, 3))
        chunk = self.CHUNK if images.device.type == "cpu" else max(len(images), 1)
        out = images.new_empty(len(images), 3, self.size, self.size)
        for start in range(0, len(images), chunk):
            part = slice(start, start + chunk)
            out[part] = round_to_levels(sample_affine(images[part].float(), transforms[part], self.size, "border"))
        return out
