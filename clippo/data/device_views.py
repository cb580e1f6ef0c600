"""Augmentation on the device of the model: workers send what they drew, and the device computes the views.

The same keys give the same pictures as in the workers, but for the rounding of float32: a grey level here and there.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

DRAWS = "view_draws"  # keys of a batch that the model does not know
PICTURES = "pictures"


class Pictures(Protocol):
    """All images of a data set on one device, by number: a tensor, or a `PictureBank`."""

    device: torch.device

    def to(self, device: torch.device) -> "Pictures":
        """The images on another device."""

    def __getitem__(self, numbers: Tensor) -> Tensor:
        """Images uint8 (B, H, W, 4)."""


class Views(Protocol):
    """Random views in two halves, as `RandomView` and `PhotoViews` compute them."""

    def draw(self, seeds: list[int]) -> Tensor:
        """Random numbers of each view."""

    def views(self, images: Tensor, draws: Tensor) -> Tensor:
        """Views of images on their device."""


class DeviceViews:
    """Makes `pixel_values` of a batch on the device of its random numbers.

    Args:
        views: `RandomView` or `PhotoViews`.
        pictures: All images of a small data set, uint8, or `Pictures`. They stay on the device, and a batch
            names their numbers instead of holding them. None: images travel with the batch.

    Example:
        >>> import numpy as np
        >>> from clippo.data.device_views import DRAWS, PICTURES, DeviceViews
        >>> from clippo.emoji import RandomView
        >>> view = RandomView(16)
        >>> on_device = DeviceViews(view, np.zeros((5, 24, 24, 4), np.uint8))
        >>> batch = on_device({PICTURES: torch.tensor([4, 0]), DRAWS: view.draw([7, 8])})
        >>> {name: tuple(value.shape) for name, value in batch.items()}
        {'pixel_values': (2, 3, 16, 16)}
    """

    def __init__(self, views: Views, pictures: np.ndarray | Pictures | None = None):
        self.views = views
        self.pictures = torch.from_numpy(pictures) if isinstance(pictures, np.ndarray) else pictures

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the batch with views as `pixel_values`. A batch without random numbers is returned as it is."""
        batch = dict(batch)
        if DRAWS not in batch:
            return batch
        draws = batch.pop(DRAWS)
        if PICTURES in batch:
            if self.pictures.device != draws.device:
                self.pictures = self.pictures.to(draws.device)
            images = self.pictures[batch.pop(PICTURES)]
        else:
            images = batch.pop("pixel_values")
        # The views come first, as in a batch whose workers made them.
        return {"pixel_values": self.views.views(images, draws), **batch}
