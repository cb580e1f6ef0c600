"""Batches of pairs as the arguments of `ClippoModel.forward`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from clippo.data.device_views import DRAWS, PICTURES, Views
from clippo.data.grey_levels import images_as_levels
from clippo.processing.bytes_clippo import to_labels


@dataclass
class ContrastiveCollator:
    """Batches pairs for contrastive training.

    It takes a list of {"image", "text"} or {"vector", "text"}, and {"first_text", "text"}, with "seed", "concept" and
    "skipped" if they have them; other keys are ignored. "text" is a string, or a list of K strings in every pair. Then
    the batch holds K sets of texts: the first text of every pair, then the second ones, as `ClippoModel` expects them.
    A list of None, a batch that a resumed stream skips, becomes an empty dictionary.

    Args:
        processor: `ClippoProcessor`; its tokenizer draws texts, its image processor reads images.
        augment: Function of the images and their seeds (None if the items have none). It returns images for the image
            processor (`PhotoAugmentation`), or the finished (B, 3, H, W) in a format of the model (`RandomView`).
        views: Random views of the images that the image processor has resized (`PhotoViews`).
        on_device: The device computes the views, see `DeviceViews`. The batch then holds their random numbers as
            "view_draws", and `pixel_values` before the views.
        by_number: The device has all images. With `on_device` the batch holds their numbers, the items' "picture", as
            "pictures", and no `pixel_values`.
        caption_length: Largest number of byte ids of a caption, with which the batch also holds `caption_ids`, the
            texts of images for a decoder. None: no captions.

    Returns:
        A dictionary of
        `pixel_values`: uint8 (B_i, 3, H, W), if there are images, see `images_as_levels`. The model normalises them.
        `image_embeds`: float32 (B_i, E), if there are vectors.
        `first_text_pixel_values`: First texts in the canvas format of the tokenizer, if there are any.
        `text_pixel_values`: Texts, those of images first.
        `caption_ids`: int64 (K*B_i, L), with `caption_length`.
        `return_loss`: True.
        `concepts`: int64 (B,), the items' "concept", if they have it, see `clippo.training.anchors`.
        `skipped`: Sum over the items, if they have it.

    Raises:
        KeyError: A pair lacks a key.
        ValueError: Pairs have different numbers of texts, or there are images and vectors.

    Example:
        >>> from PIL import Image
        >>> from clippo import ClippoProcessor
        >>> from clippo.data import ContrastiveCollator
        >>> collator = ContrastiveCollator(ClippoProcessor.from_size(64))
        >>> batch = collator([{"image": Image.new("RGB", (9, 9)), "text": "a black square"}])
        >>> batch["pixel_values"].shape
        torch.Size([1, 3, 64, 64])
    """

    processor: Any
    augment: Callable[[list, list[int] | None], Any] | None = None
    views: Views | None = None
    on_device: bool = False
    by_number: bool = False
    caption_length: int | None = None

    def __call__(self, pairs: list[dict[str, Any] | None]) -> dict[str, Any]:
        if pairs and all(pair is None for pair in pairs):
            return {}
        for pair in pairs:
            if "text" not in pair or not ("image" in pair or "vector" in pair or "first_text" in pair):
                raise KeyError(
                    f"The collator needs the keys text and image, vector or first_text, a pair came with "
                    f"{', '.join(pair)}; with the Trainer set remove_unused_columns=False."
                )
        pairs = sorted(pairs, key=lambda pair: "image" not in pair and "vector" not in pair)  # stable
        with_image = [pair for pair in pairs if "image" in pair]
        vectors = [pair["vector"] for pair in pairs if "vector" in pair]
        if with_image and vectors:
            raise ValueError("A batch holds images and vectors; mix sources with vectors with pairs of texts only.")
        first_texts = [pair["first_text"] for pair in pairs[len(with_image) + len(vectors) :]]
        batch = self._images(with_image) if with_image else {}
        if vectors:
            batch["image_embeds"] = torch.stack(vectors).float()
        if first_texts:
            batch["first_text_pixel_values"] = self._texts(first_texts)
        batch["text_pixel_values"] = self._texts(self._in_sets([pair["text"] for pair in pairs]))
        if with_image and self.caption_length is not None:
            captions = self._in_sets([pair["text"] for pair in with_image])
            batch["caption_ids"] = torch.from_numpy(to_labels(captions, self.caption_length))
        batch["return_loss"] = True
        if "concept" in pairs[0]:
            batch["concepts"] = torch.tensor([pair["concept"] for pair in pairs])
        if any("skipped" in pair for pair in pairs):
            batch["skipped"] = sum(pair.get("skipped", 0) for pair in pairs)
        return batch

    @staticmethod
    def _in_sets(texts: list[str | list[str]]) -> list[str]:
        """All first texts, then all second ones, and so on."""
        several = [[text] if isinstance(text, str) else text for text in texts]
        counts = sorted({len(texts) for texts in several})
        if len(counts) > 1:
            raise ValueError(f"Every pair of a batch needs equally many texts, got {counts}.")
        return [text for one_set in zip(*several, strict=True) for text in one_set]  # K * B

    def _texts(self, texts: list[str]) -> Tensor:
        return self.processor.tokenizer(texts, return_tensors="pt")["text_pixel_values"]

    def _images(self, pairs: list[dict[str, Any]]) -> dict[str, Tensor]:
        seeds = [pair["seed"] for pair in pairs] if "seed" in pairs[0] else None
        if self.on_device and seeds is None:
            seeds = torch.randint(2**62, (len(pairs),)).tolist()
        draws = {DRAWS: self.views.draw(seeds)} if self.on_device else {}
        if self.on_device and self.by_number:
            return {PICTURES: torch.tensor([pair["picture"] for pair in pairs]), **draws}
        images = [pair["image"] for pair in pairs]
        if self.augment is not None:
            images = self.augment(images, seeds)
        levels = images if isinstance(images, Tensor) else images_as_levels(self.processor.image_processor, images)
        if self.views is not None and not self.on_device:
            levels = self.views(levels, seeds)
        return {"pixel_values": levels, **draws}
