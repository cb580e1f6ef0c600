"""Random views of RGBA pictures for training, and the plain view for evaluation. No torchvision."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def composite(images: np.ndarray, background: tuple[int, int, int] = (255, 255, 255)) -> np.ndarray:
    """Lays RGBA pictures on one colour: uint8 (..., H, W, 4), straight alpha -> uint8 (..., H, W, 3).

    Evaluation and every caller without augmentation go this way and on through the image processor.
    """
    if images.dtype != np.uint8 or images.shape[-1] != 4:
        raise ValueError(f"composite takes uint8 (..., H, W, 4) pictures, got {images.dtype} {images.shape}.")
    color = images[..., :3].astype(np.uint16)
    alpha = images[..., 3:].astype(np.uint16)
    ground = np.array(background, dtype=np.uint16)
    return ((color * alpha + ground * (255 - alpha) + 127) // 255).astype(np.uint8)


class RandomView:
    """Scale, shift, small rotation and background colour, drawn for each picture of a batch, in one resampling.

    No flips: arrows, letters and flags would stop meaning what their text says. Draws come from torch's global
    generator.

    Args:
        size: side of the square output in pixels.
        scale: range of the picture's side relative to the output's.
        shift: largest shift to each side, as a share of the output's side.
        degrees: largest rotation to each side.
        p_color: probability of a random background colour; white otherwise.

    Call with uint8 pictures (B, H, W, 4), RGBA with straight alpha; returns float32 (B, 3, size, size) in [-1, 1].
    """

    def __init__(
        self,
        size: int,
        scale: tuple[float, float] = (0.75, 1.1),
        shift: float = 0.1,
        degrees: float = 15.0,
        p_color: float = 0.5,
    ):
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(f"scale must be a range of positive numbers, got {scale}.")
        self.size, self.scale, self.shift, self.degrees, self.p_color = size, scale, shift, degrees, p_color

    def __call__(self, images: np.ndarray | Tensor) -> Tensor:
        images = torch.as_tensor(images)
        if images.ndim != 4 or images.shape[-1] != 4 or images.dtype != torch.uint8:
            raise ValueError(f"RandomView takes uint8 (B, H, W, 4) pictures, got {images.dtype} {tuple(images.shape)}.")
        batch = images.shape[0]
        pixels = images.permute(0, 3, 1, 2).float()  # (B, 4, H, W), 0..255, channels last in memory
        # Premultiplied, or the black under transparent pixels would bleed into every edge.
        pixels[:, :3] *= pixels[:, 3:] / 255
        grid = F.affine_grid(self._draw_transforms(batch), [batch, 4, self.size, self.size], align_corners=False)
        view = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)  # (B, 4, S, S)
        color, alpha = view[:, :3], view[:, 3:] / 255
        ground = torch.where(torch.rand(batch, 1) < self.p_color, torch.rand(batch, 3) * 255, 255.0)[:, :, None, None]
        return torch.addcmul(color, ground, 1 - alpha).div_(127.5).sub_(1).clamp_(-1, 1).contiguous()

    def _draw_transforms(self, batch: int) -> Tensor:
        """Matrices (B, 2, 3) from output to picture coordinates, both [-1, 1]."""
        angle = (torch.rand(batch) * 2 - 1) * math.radians(self.degrees)
        # Uniform in the logarithm, so that shrinking by a half is as likely as growing by a half.
        low, high = math.log(self.scale[0]), math.log(self.scale[1])
        scale = torch.exp(low + torch.rand(batch) * (high - low))
        linear = torch.stack([angle.cos(), angle.sin(), -angle.sin(), angle.cos()], dim=1).view(batch, 2, 2)
        linear = linear / scale[:, None, None]
        shift = (torch.rand(batch, 2, 1) * 2 - 1) * 2 * self.shift
        return torch.cat([linear, -linear @ shift], dim=2)
