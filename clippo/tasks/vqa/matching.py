"""Image-text matching: does a caption belong to its image?

CLIP-ViL (arXiv 2107.06383) replaces half of the captions in pre-training and asks the joint encoder which pairs are
right. Here half of the captions of a batch are swapped among each other. The answers are those of a classifier of
statements, so the trained model goes on to questions.
"""

from typing import Any

import numpy as np
import torch
from transformers import EvalPrediction

from clippo.data.samples import cell_texts
from clippo.data.sources import check_columns, load_rows
from clippo.tasks.vqa.data import QuestionCollator, VisualQuestions

MATCHING_ANSWERS = ("false", "true")


def load_captions(source: str, image_column: str = "image", caption_column: str = "captions") -> VisualQuestions:
    """Loads images and captions, each caption as a statement that is true.

    Args:
        source: A data set in the notation of `load_rows`.
        image_column: Column of the images.
        caption_column: Column with one caption of the image, or a list.

    Raises:
        ValueError: A column is missing, or there is no caption.
    """
    rows = load_rows(source)
    check_columns(rows, (image_column, caption_column), source, nested=False)
    captions = enumerate(rows[caption_column])
    return VisualQuestions(
        rows[image_column], [(i, text, ["true"]) for i, cell in captions for text in cell_texts(cell)]
    )


def swap_captions(items: list[dict[str, Any]], generator: np.random.Generator) -> list[dict[str, Any]]:
    """Swaps the captions of half of the items, and labels each item.

    Args:
        items: Items of `VisualQuestions`.
        generator: Source of the choice.

    Returns:
        New items in the same order. The answer is "false" where the caption is that of another image.
    """
    chosen = np.sort(generator.permutation(len(items))[: len(items) // 2])
    images = np.array([item["image_number"] for item in items])
    source = np.arange(len(items))
    if len(chosen):
        # Neighbours may show one image, so the rotation is the one that leaves the fewest captions in place.
        start = int(generator.integers(len(chosen)))
        rotations = [np.roll(chosen, (start + i) % len(chosen)) for i in range(min(len(chosen), 16))]
        source[chosen] = min(rotations, key=lambda rotated: (images[rotated] == images[chosen]).sum())
    return [
        {**item, "question": items[j]["question"], "answers": ["true" if images[i] == images[j] else "false"]}
        for i, (item, j) in enumerate(zip(items, source, strict=True))
    ]


class MatchingCollator(QuestionCollator):
    """`QuestionCollator` that swaps half of the captions of a batch.

    The choice depends on the seeds of the items in training, and is the same for a batch in every evaluation.

    Example:
        >>> from PIL import Image
        >>> from clippo import ClippoProcessor
        >>> from clippo.tasks.vqa.answers import AnswerVocabulary
        >>> processor = ClippoProcessor.from_size(64)
        >>> image = Image.new("RGB", (8, 8))
        >>> rows = [{"image": image, "image_number": i, "question": str(i), "answers": ["true"]} for i in range(8)]
        >>> batch = MatchingCollator(processor, AnswerVocabulary(MATCHING_ANSWERS))(rows)
        >>> int(batch["labels"][:, 0].sum())
        4
    """

    def __call__(self, items: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        seeds = [item.get("seed", item["image_number"]) for item in items]
        return super().__call__(swap_captions(items, np.random.default_rng(seeds)))


def matching_accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """`compute_metrics` of Trainer: share of the pairs, half of them swapped, that are told right."""
    labels = np.asarray(prediction.label_ids).argmax(-1)  # (rows,)
    return {"accuracy": float((np.asarray(prediction.predictions).reshape(-1) == labels).mean())}
