"""Random views of RGBA images for training, without torchvision.

Evaluation does not use them: the image processor composites transparent images onto white.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class RandomView:
    """Scale, shift, small rotation and background colour, drawn for each image of a batch, in one resampling.

    It takes uint8 images (B, H, W, 4), RGBA with straight alpha, and B seeds, by default from torch's global generator.
    It returns float32 (B, 3, size, size) in [-1, 1]. The view of an image depends on its seed alone.

    Images are not mirrored: arrows, letters and flags would lose their meaning. Resampling is bilinear without
    antialiasing, as in the image processor.

    Args:
        size: Side of the square output in pixels.
        scale: Range of the side of the image relative to the output.
        shift: Largest shift in each direction, as a share of the output side.
        degrees: Largest rotation in each direction.
        p_color: Probability of a random background colour; otherwise it is white.

    Raises:
        ValueError: An option is out of range, or the images have another format.

    Example:
        >>> import numpy as np
        >>> from clippo.emoji import RandomView
        >>> RandomView(32)(np.zeros((2, 24, 24, 4), np.uint8), seeds=[0, 1]).shape
        torch.Size([2, 3, 32, 32])
    """

    # Images resampled at once. Their floats stay in the cache of the processor, so a batch of 512 is three times faster
    # than in one piece.
    CHUNK = 16

    def __init__(
        self,
        size: int,
        scale: tuple[float, float] = (0.75, 1.1),
        shift: float = 0.1,
        degrees: float = 15.0,
        p_color: float = 0.5,
    ):
        if size < 1:
            raise ValueError(f"size must be a positive number of pixels, got {size}.")
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be a rising range of positive numbers, got {scale}.")
        if not 0 <= p_color <= 1:
            raise ValueError(f"p_color is a probability, got {p_color}.")
        self.size, self.scale, self.shift, self.degrees, self.p_color = size, scale, shift, degrees, p_color

    def __call__(self, images: np.ndarray | Tensor | list[np.ndarray], seeds: Sequence[int] | None = None) -> Tensor:
        images = _as_batch(images)
        if images.ndim != 4 or images.shape[-1] != 4 or images.dtype != torch.uint8:
            raise ValueError(f"RandomView takes uint8 (B, H, W, 4) images, got {images.dtype} {tuple(images.shape)}.")
        batch = images.shape[0]
        if seeds is None:
            seeds = torch.randint(2**62, (batch,)).tolist()
        # A stream of its own: the same seed also drew the text, and the two draws must be independent.
        draws = [np.random.default_rng([seed, 1]).random(8, np.float32) for seed in seeds]
        draws = torch.from_numpy(np.stack(draws))  # (B, 8)
        transforms = self._transforms(draws[:, :4])  # (B, 2, 3)
        ground = torch.where(draws[:, 4:5] < self.p_color, draws[:, 5:] * 255, 255.0)  # (B, 3)
        views = torch.empty(batch, 3, self.size, self.size)
        for start in range(0, batch, self.CHUNK):
            part = slice(start, start + self.CHUNK)
            self._view(images[part], transforms[part], ground[part], views[part])
        return views

    def _transforms(self, draws: Tensor) -> Tensor:
        """Matrices (B, 2, 3) from output to image coordinates, both [-1, 1], of uniform draws (B, 4) in [0, 1)."""
        batch = len(draws)
        angle = (draws[:, 0] * 2 - 1) * math.radians(self.degrees)
        # Uniform in the logarithm, so that shrinking by a factor is as likely as growing by it.
        low, high = math.log(self.scale[0]), math.log(self.scale[1])
        scale = torch.exp(low + draws[:, 1] * (high - low))
        linear = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], dim=1).view(batch, 2, 2)
        linear = linear / scale[:, None, None]
        shift = (draws[:, 2:, None] * 2 - 1) * 2 * self.shift  # a side is 2 long in these coordinates
        return torch.cat([linear, -linear @ shift], dim=2)

    def _view(self, images: Tensor, transforms: Tensor, ground: Tensor, out: Tensor) -> None:
        """Write the views of (b, H, W, 4) images to `out` (b, 3, S, S)."""
        pixels = images.permute(0, 3, 1, 2).float()  # (b, 4, H, W), channels last in memory
        # Premultiplied, or the black under transparent pixels would bleed into every edge.
        pixels[:, :3] *= pixels[:, 3:] / 255
        grid = F.affine_grid(transforms, [len(images), 4, self.size, self.size], align_corners=False)
        view = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)  # (b, 4, S, S)
        uncovered = view[:, 3:].mul_(-1 / 255).add_(1)
        torch.addcmul(view[:, :3], ground[:, :, None, None], uncovered, out=out)
        out.div_(127.5).sub_(1).clamp_(-1, 1)


def _as_batch(images: np.ndarray | Tensor | list[np.ndarray]) -> Tensor:
    if isinstance(images, list):
        shapes = sorted({np.shape(image) for image in images})
        if len(shapes) > 1:
            raise ValueError(f"RandomView takes RGBA images (H, W, 4) of one size, got shapes {shapes}.")
        images = np.stack(images)
    return torch.as_tensor(images)
