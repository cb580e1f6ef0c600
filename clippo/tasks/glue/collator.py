"""From a list of labelled texts or pairs to the arguments of `ClippoForSequenceClassification.forward`."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class TextClassificationCollator:
    """Batches texts or pairs with labels for a classifier; they are drawn here, so a data set holds strings only.

    Args:
        tokenizer: a `ClippoTokenizer`.
        canvas_format: how canvases travel to the model, "packed" (1 bit a pixel), "uint8" or "float".

    Takes a list of {"text", "label"}, all or none of them with "text_pair". Returns `text_pixel_values` and `labels`:
    int64 (B,), or float32 where labels are floats.
    """

    tokenizer: Any
    canvas_format: str = "packed"

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        pair = [row["text_pair"] for row in rows] if "text_pair" in rows[0] else None
        drawn = self.tokenizer(
            [row["text"] for row in rows], pair, return_tensors="pt", canvas_format=self.canvas_format
        )
        labels = torch.tensor([row["label"] for row in rows])
        return {**drawn, "labels": labels.float() if labels.is_floating_point() else labels}
