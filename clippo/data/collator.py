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

    Takes a list of {"image", "text"}; other keys are ignored. "text" is a string, or K of them in every pair: then the
    texts come in K sets, first everybody's first, as `ClippoModel` expects them.

    Returns `pixel_values` float32 (B, 3, H, W) in [-1, 1],
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
        texts = [[pair["text"]] if isinstance(pair["text"], str) else pair["text"] for pair in pairs]
        counts = sorted({len(several) for several in texts})
        if len(counts) > 1:
            raise ValueError(f"Every pair of a batch needs equally many texts, got {counts}.")
        sets = [text for one_set in zip(*texts, strict=True) for text in one_set]  # K * B
        texts = self.processor.tokenizer(sets, return_tensors="pt")
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
