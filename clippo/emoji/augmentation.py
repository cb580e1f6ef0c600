"""Random views of RGBA images for training, without torchvision.

Evaluation does not use them: the image processor composites transparent images onto white.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from clippo.data.grey_levels import round_to_levels
from clippo.data.photo_views import sample_affine


class RandomView:
    """Scale, shift, small rotation and background colour, drawn for each image of a batch, in one resampling.

    It takes uint8 images (B, H, W, 4), RGBA with straight alpha, and B seeds, by default from torch's global generator.
    It returns (B, 3, size, size), float32 in [-1, 1] or uint8. The view of an image depends on its seed alone.

    `draw` and `views` are the two halves of a call. A worker can draw and the device can compute the views: batched
    operations, element by element, which give the same pictures everywhere but for the rounding of float32.

    Images are not mirrored: arrows, letters and flags would lose their meaning. Resampling is bilinear without
    antialiasing, as in the image processor.

    Args:
        size: Side of the square output in pixels.
        scale: Range of the side of the image relative to the output.
        shift: Largest shift in each direction, as a share of the output side.
        degrees: Largest rotation in each direction.
        p_color: Probability of a random background colour; otherwise it is white.
        dtype: torch.float32, or torch.uint8 for the nearest grey levels.

    Raises:
        ValueError: An option is out of range, or the images have another format.

    Example:
        >>> import numpy as np
        >>> from clippo.emoji import RandomView
        >>> RandomView(32)(np.zeros((2, 24, 24, 4), np.uint8), seeds=[0, 1]).shape
        torch.Size([2, 3, 32, 32])
    """

    # Images resampled at once on a CPU. Their floats stay in the cache of the processor, so a batch of 512 is three
    # times faster than in one piece.
    CHUNK = 16
    NUMBERS = 8  # random numbers of a view

    def __init__(
        self,
        size: int,
        scale: tuple[float, float] = (0.75, 1.1),
        shift: float = 0.1,
        degrees: float = 15.0,
        p_color: float = 0.5,
        dtype: torch.dtype = torch.float32,
    ):
        if size < 1:
            raise ValueError(f"size must be a positive number of pixels, got {size}.")
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be a rising range of positive numbers, got {scale}.")
        if not 0 <= p_color <= 1:
            raise ValueError(f"p_color is a probability, got {p_color}.")
        if dtype not in (torch.float32, torch.uint8):
            raise ValueError(f"dtype={dtype} is not possible; choose torch.float32 or torch.uint8.")
        self.size, self.scale, self.shift, self.degrees, self.p_color = size, scale, shift, degrees, p_color
        self.dtype = dtype

    def __call__(self, images: np.ndarray | Tensor | list[np.ndarray], seeds: Sequence[int] | None = None) -> Tensor:
        images = _as_batch(images)
        if images.ndim != 4 or images.shape[-1] != 4 or images.dtype != torch.uint8:
            raise ValueError(f"RandomView takes uint8 (B, H, W, 4) images, got {images.dtype} {tuple(images.shape)}.")
        if seeds is None:
            seeds = torch.randint(2**62, (len(images),)).tolist()
        return self.views(images, self.draw(seeds))

    def draw(self, seeds: Sequence[int]) -> Tensor:
        """Random numbers of each view, float32 (B, NUMBERS) in [0, 1).

        Args:
            seeds: Seed of each image.
        """
        # A stream of its own: the same seed also drew the text, and the two draws must be independent.
        draws = [np.random.default_rng([seed, 1]).random(self.NUMBERS, np.float32) for seed in seeds]
        return torch.from_numpy(np.stack(draws))

    def views(self, images: Tensor, draws: Tensor) -> Tensor:
        """Compute views on the device of the images.

        Args:
            images: uint8 (B, H, W, 4), RGBA with straight alpha.
            draws: Result of `draw`, float32 (B, 8) on the same device.

        Returns:
            (B, 3, size, size).
        """
        batch, size = len(images), self.size
        ground = torch.where(draws[:, 4:5] < self.p_color, draws[:, 5:] * 255, 255.0)  # (B, 3)
        transforms = self._transforms(draws[:, :4])  # (B, 2, 3)
        out = torch.empty(batch, 3, size, size, dtype=self.dtype, device=images.device)
        chunk = self.CHUNK if images.device.type == "cpu" else max(batch, 1)
        for start in range(0, batch, chunk):
            part = slice(start, start + chunk)
            levels = self._levels(images[part], transforms[part], ground[part])
            out[part] = round_to_levels(levels) if self.dtype is torch.uint8 else levels / 127.5 - 1
        return out

    def _transforms(self, draws: Tensor) -> Tensor:
        """Matrices (B, 2, 3) from output to image coordinates, both [-1, 1], of uniform draws (B, 4) in [0, 1)."""
        angle = (draws[:, 0] * 2 - 1) * math.radians(self.degrees)
        # Uniform in the logarithm, so that shrinking by a factor is as likely as growing by it.
        low, high = math.log(self.scale[0]), math.log(self.scale[1])
        shrink = torch.exp(-(low + draws[:, 1] * (high - low)))
        cos, sin = angle.cos() * shrink, angle.sin() * shrink
        x, y = ((draws[:, 2:] * 2 - 1) * 2 * self.shift).unbind(1)  # a side is 2 long in these coordinates
        rows = [cos, sin, -(cos * x + sin * y), -sin, cos, sin * x - cos * y]
        return torch.stack(rows, dim=1).unflatten(1, (2, 3))

    def _levels(self, images: Tensor, transforms: Tensor, ground: Tensor) -> Tensor:
        """Views of (b, H, W, 4) images as float32 (b, 3, S, S), 0 to 255."""
        pixels = images.permute(0, 3, 1, 2).float()  # (b, 4, H, W), channels last in memory
        # Premultiplied, or the black under transparent pixels would bleed into every edge.
        pixels[:, :3] *= pixels[:, 3:] / 255
        view = sample_affine(pixels, transforms, self.size)  # (b, 4, S, S)
        uncovered = view[:, 3:].mul_(-1 / 255).add_(1)
        return torch.addcmul(view[:, :3], ground[:, :, None, None], uncovered).clamp_(0, 255)


def _as_batch(images: np.ndarray | Tensor | list[np.ndarray]) -> Tensor:
    if isinstance(images, list):
        shapes = sorted({np.shape(image) for image in images})
        if len(shapes) > 1:
            raise ValueError(f"RandomView takes RGBA images (H, W, 4) of one size, got shapes {shapes}.")
        images = np.stack(images)
    return torch.as_tensor(images)
