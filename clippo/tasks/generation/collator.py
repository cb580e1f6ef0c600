"""Examples to the inputs of `ClippoForConditionalGeneration`."""

import logging
from typing import Any

import torch

from clippo.processing import ClippoProcessor
from clippo.processing.bytes_clippo import to_labels

logger = logging.getLogger(__name__)


def draws_on_image(processor: ClippoProcessor) -> bool:
    """Returns whether prompts are drawn on the canvas of their image and not on one of their own."""
    layout = getattr(processor, "question_layout", None)
    return layout is not None and layout["place"] != "two_canvas"


class GenerationCollator:
    """Draws prompts, resizes images and encodes targets.

    With a `question_layout` in the processor the prompt is drawn on its image. Otherwise it has a canvas of its own,
    and examples with and without image may share a batch.

    Args:
        processor: A `ClippoProcessor`.
        max_length: Largest number of ids of a target. Longer ones are cut, with a warning.
        augment: Function from a list of images and their seeds to augmented images (`PhotoAugmentation`).

    Returns:
        `pixel_values` uint8 (B, 3, H, W) of the examples with an image; `text_pixel_values` of the drawn prompts;
        `image_index` int64 (B,) if only some examples have an image; `labels` int64 (B, L).

    Raises:
        ValueError: An example has no image to draw its prompt on.

    Example:
        >>> import clippo
        >>> collate = GenerationCollator(clippo.ClippoProcessor.from_size(32))
        >>> example = {"image": None, "prompt": "hi", "target": "hi", "language": "", "task": "read"}
        >>> {name: tuple(values.shape) for name, values in collate([example]).items()}
        {'text_pixel_values': (1, 1, 32, 32), 'labels': (1, 3)}
    """

    def __init__(self, processor: ClippoProcessor, max_length: int | None = None, augment=None):
        self.processor, self.max_length, self.augment = processor, max_length, augment
        self._warned = False

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        images = [item["image"] for item in items if item["image"] is not None]
        if images and self.augment is not None:
            with_image = [item for item in items if item["image"] is not None]
            images = self.augment(images, [item["seed"] for item in with_image] if "seed" in with_image[0] else None)
        prompts, targets = [item["prompt"] for item in items], [item["target"] for item in items]
        if draws_on_image(self.processor):
            batch = self._on_images(images, prompts)
        else:
            batch, drawn = self._apart(items, images, prompts)
            targets = [
                target[:count] if item["task"] == "read" and target == item["prompt"] else target
                for item, target, count in zip(items, targets, drawn, strict=True)
            ]
        return {**batch, "labels": self._labels(targets)}

    def _on_images(self, images: list, prompts: list[str]) -> dict[str, torch.Tensor]:
        if len(images) < len(prompts):
            raise ValueError(
                f"{len(prompts) - len(images)} of {len(prompts)} examples have no image to draw their prompt on; "
                "set layout: {place: two_canvas} for tasks without images."
            )
        return dict(self.processor(images=images, questions=prompts, canvas_format="uint8", return_tensors="pt"))

    def _apart(self, items: list, images: list, prompts: list[str]) -> tuple[dict[str, torch.Tensor], list[int]]:
        """Images and prompts on canvases of their own, and the number of characters drawn of each prompt."""
        batch, drawn = {}, list(map(len, prompts))
        if images:
            options = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
            batch["pixel_values"] = self.processor.image_processor(images, **options)["pixel_values"]
        if any(prompts) or len(images) < len(items):
            rendered = self.processor.tokenizer.render(prompts)
            batch["text_pixel_values"] = torch.from_numpy(rendered.canvases)
            drawn = (rendered.chars_total - rendered.chars_cut).tolist()
        if images and len(images) < len(items):
            numbers = torch.tensor([item["image"] is not None for item in items])
            batch["image_index"] = torch.where(numbers, numbers.cumsum(0) - 1, -1)
        return batch, drawn

    def _labels(self, targets: list[str]) -> torch.Tensor:
        longest = max(targets, key=lambda text: len(text.encode("utf-8", "replace")))
        if self.max_length is not None and len(longest.encode("utf-8", "replace")) >= self.max_length:
            if not self._warned:
                logger.warning(
                    "A target of %d bytes does not fit into decoder_max_length=%d; it is cut and has no end. This "
                    "warning is given once.", len(longest.encode("utf-8", "replace")), self.max_length,
                )  # fmt: skip
            self._warned = True
        return torch.from_numpy(to_labels(targets, self.max_length))
