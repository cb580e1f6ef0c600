"""Random views of pictograms: as of emoji, with an ink for pictures of one colour and grounds light and dark."""

import torch
from torch import Tensor

from clippo.emoji.augmentation import RandomView

LUMINANCE = (0.299, 0.587, 0.114)
LEAST_CONTRAST = 100.0  # grey levels between ink and ground
P_DARK = 0.2  # probability of a dark ground where no colour is drawn
P_PLAIN = 0.5  # probability of black ink on a light ground, white on a dark one


class PictogramView(RandomView):
    """Scale, shift, small rotation, ground and ink, drawn for each picture of a batch.

    A picture without a colour of its own (black wherever it is opaque) is drawn in an ink: black or white, or a random
    colour that contrasts with the ground. Otherwise as `RandomView`.

    Example:
        >>> import numpy as np
        >>> from clippo.pictograms.views import PictogramView
        >>> PictogramView(32)(np.zeros((2, 24, 24, 4), np.uint8), seeds=[0, 1]).shape
        torch.Size([2, 3, 32, 32])
    """

    NUMBERS = 13

    def views(self, images: Tensor, draws: Tensor) -> Tensor:
        """Compute views on the device of the pictures.

        Args:
            images: uint8 (B, H, W, 4), RGBA with straight alpha.
            draws: Result of `draw`, float32 (B, 13) on the same device.

        Returns:
            (B, 3, size, size).
        """
        ground = self._ground(draws)  # (B, 3)
        ink = self._ink(draws, ground)
        is_mask = images[..., :3].flatten(1).amax(dim=1) == 0  # (B,)
        painted = torch.where(is_mask[:, None], ink, 0.0).round().to(torch.uint8)  # (B, 3)
        rgb = images[..., :3] | painted[:, None, None]  # a picture with colours is changed by nothing
        images = torch.cat([rgb, images[..., 3:]], dim=-1)
        # The ground replaces that of the parent: its probability is drawn by number 4, its colour by 5 to 7.
        fixed = torch.cat([draws[:, :4], torch.full_like(draws[:, :1], -1.0), ground / 255], dim=1)
        return super().views(images, fixed)

    def _ground(self, draws: Tensor) -> Tensor:
        """Colours of the grounds, float32 (B, 3), 0 to 255."""
        plain = torch.where(draws[:, 8:9] < P_DARK, 25.0, 255.0).expand(-1, 3)
        return torch.where(draws[:, 4:5] < self.p_color, draws[:, 5:8] * 255, plain)

    @staticmethod
    def _ink(draws: Tensor, ground: Tensor) -> Tensor:
        """Colours of the inks, float32 (B, 3), 0 to 255, that can be read on the grounds."""
        weights = torch.tensor(LUMINANCE, device=draws.device)
        light = ground @ weights  # (B,)
        plain = torch.where(light > 127.5, 0.0, 255.0)[:, None].expand(-1, 3)
        colour = draws[:, 10:13] * 255
        unreadable = ((colour @ weights - light).abs() < LEAST_CONTRAST)[:, None]
        return torch.where(unreadable | (draws[:, 9:10] < P_PLAIN), plain, colour)
