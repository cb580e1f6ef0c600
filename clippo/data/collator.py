"""From a list of pairs to the arguments of `ClippoModel.forward`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass
class ContrastiveCollator:
    """Batches pairs for contrastive training.

    Args:
        processor: a `ClippoProcessor`; its tokenizer draws the texts, its image processor the images.
        augment: called with the images and, where the items have them, their seeds. Returns what the image processor
            takes (`PhotoAugmentation`), or the finished float32 (B, 3, H, W) in its place (`RandomView`).

    Takes a list of {"image", "text"} and {"first_text", "text"}, with "seed" and "skipped" if they have them; other
    keys are ignored. "text" is a string, or K of them in every pair: then the texts come in K sets, first everybody's
    first, as `ClippoModel` expects them.

    Returns `pixel_values` float32 (B_i, 3, H, W) in [-1, 1] of the images, `first_text_pixel_values` of the first texts
    and `text_pixel_values` of their partners, images' texts first, in the tokenizer's canvas format; of the first two
    those that there are. `return_loss` is True. `skipped` is the sum over the items, if they have it. A list of None, a
    batch that a resumed stream passes over, becomes an empty dictionary.
    """

    processor: Any
    augment: Callable[[list, list[int] | None], Any] | None = None

    def __call__(self, pairs: list[dict[str, Any] | None]) -> dict[str, Any]:
        if pairs and all(pair is None for pair in pairs):
            return {}
        for pair in pairs:
            if "text" not in pair or not ("image" in pair or "first_text" in pair):
                raise KeyError(
                    f"The collator needs the keys text and image or first_text, a pair came with {', '.join(pair)}; "
                    "with the Trainer set remove_unused_columns=False."
                )
        pairs = [pair for pair in pairs if "image" in pair] + [pair for pair in pairs if "image" not in pair]
        images = [pair["image"] for pair in pairs if "image" in pair]
        first_texts = [pair["first_text"] for pair in pairs if "image" not in pair]
        batch = {}
        if images:
            seeds = [pair["seed"] for pair in pairs[: len(images)]] if "seed" in pairs[0] else None
            batch["pixel_values"] = self._images(images, seeds)
        if first_texts:
            batch["first_text_pixel_values"] = self._texts(first_texts)
        batch["text_pixel_values"] = self._texts(self._in_sets([pair["text"] for pair in pairs]))
        batch["return_loss"] = True
        if any("skipped" in pair for pair in pairs):
            batch["skipped"] = sum(pair.get("skipped", 0) for pair in pairs)
        return batch

    @staticmethod
    def _in_sets(texts: list[str | list[str]]) -> list[str]:
        several = [[text] if isinstance(text, str) else text for text in texts]
        counts = sorted({len(texts) for texts in several})
        if len(counts) > 1:
            raise ValueError(f"Every pair of a batch needs equally many texts, got {counts}.")
        return [text for one_set in zip(*several, strict=True) for text in one_set]  # K * B

    def _texts(self, texts: list[str]) -> Tensor:
        return self.processor.tokenizer(texts, return_tensors="pt")["text_pixel_values"]

    def _images(self, images: list, seeds: list[int] | None) -> Tensor:
        if self.augment is not None:
            images = self.augment(images, seeds)
            if isinstance(images, Tensor):
                return images
        return self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
