"""From a list of (image, text) pairs to the arguments of `ClippoModel.forward`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor


@dataclass
class ContrastiveCollator:
    """Batches pairs for contrastive training.

    Args:
        processor: a `ClippoProcessor`; its tokenizer draws the texts, its image processor the images.
        augment: takes uint8 (B, H, W, 4) pictures of one size in place of the image processor, such as `RandomView`.

    Takes a list of {"image", "text"}; other keys are ignored. Returns `pixel_values` float32 (B, 3, H, W) in [-1, 1],
    `text_pixel_values` in the tokenizer's canvas format, and `return_loss=True`.
    """

    processor: Any
    augment: Callable[[np.ndarray], Tensor] | None = None

    def __call__(self, pairs: list[dict[str, Any]]) -> dict[str, Any]:
        missing = {"image", "text"} - set(pairs[0])
        if missing:
            raise KeyError(
                f"The collator needs the keys image and text, a pair came without {' and '.join(sorted(missing))}; "
                "with the Trainer set remove_unused_columns=False."
            )
        images = [pair["image"] for pair in pairs]
        texts = self.processor.tokenizer([pair["text"] for pair in pairs], return_tensors="pt")
        return {
            "pixel_values": self._images(images),
            "text_pixel_values": texts["text_pixel_values"],
            "return_loss": True,
        }

    def _images(self, images: list) -> Tensor:
        if self.augment is not None:
            shapes = sorted({np.shape(image) for image in images})
            if len(shapes) > 1 or len(shapes[0]) != 3 or shapes[0][2] != 4:
                raise ValueError(f"Augmentation takes RGBA pictures (H, W, 4) of one size, got shapes {shapes}.")
            return self.augment(np.stack(images))
        return self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
