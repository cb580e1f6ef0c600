"""What classification heads do beside the tower: pairs on two canvases, a hidden layer, checks of labels.

The paper says nothing about heads, so all of this is ours.
"""

import torch
from torch import nn
from torch.nn import functional as F

from .embeddings_clippo import ROW_HEIGHT


def split_canvases(values: torch.Tensor, canvas_height: int | None) -> torch.Tensor:
    """Two canvases of each pair, one below the other, as two canvases: all first ones, then all second ones.

    Args:
        values: B rendered pairs in any format of the embeddings, twice the height of one canvas: (B, C, 2H, W), or
            packed (B, 2H/16, W/4).
        canvas_height: H in pixels, or None to take any.

    Returns:
        (2B, C, H, W), or packed (2B, H/16, W/4).

    Raises:
        ValueError: The height is not that of two canvases.
    """
    packed = values.ndim == 3
    height = values.shape[-2] * (ROW_HEIGHT if packed else 1)
    if values.shape[-2] % 2 or (canvas_height is not None and height != 2 * canvas_height):
        raise ValueError(
            f"The model reads pairs on two canvases of {canvas_height or 'equal'} pixels height, but got "
            f'{height} pixels; give the tokenizer text and text_pair, with pair_layout="two_canvas".'
        )
    return torch.cat(values.chunk(2, dim=-2))


def pair_features(pooled: torch.Tensor) -> torch.Tensor:
    """(2B, D), first texts before second texts -> (B, 4D): u, v, |u - v|, u * v, by which a linear layer compares.

    u and v are brought to mean 0 and variance 1 first: the pooling head's output is not normalised, and the products of
    large numbers would drown the rest.
    """
    u, v = F.layer_norm(pooled, pooled.shape[-1:]).chunk(2)
    return torch.cat([u, v, (u - v).abs(), u * v], dim=-1)


class ClippoHeadHiddenLayer(nn.Module):
    """A linear layer and tanh before the last layer, with `config.classifier_hidden_size`; nothing without it."""

    def __init__(self, in_features: int, config):
        super().__init__()
        self.out_features = config.classifier_hidden_size or in_features
        self.dropout = nn.Dropout(config.classifier_dropout)
        if config.classifier_hidden_size:
            self.linear = nn.Linear(in_features, self.out_features)

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """(B, in_features) -> (B, out_features), dropout applied before each linear layer, the last one included."""
        pooled = self.dropout(pooled)
        return self.dropout(self.linear(pooled).tanh()) if hasattr(self, "linear") else pooled


def check_labels(labels: torch.Tensor, config) -> torch.Tensor:
    """Labels as the loss needs them; those that the loss would take for something else are refused.

    Labels on an accelerator are not looked at, since that would make every step wait for it, nor are any in compiled
    code. Everything else follows transformers: one label is regression, whole numbers are classes, others several
    labels a text, and `config.problem_type` overrules.

    Returns:
        The labels, whole numbers turned to float32 where the loss is a regression's or that of several labels.

    Raises:
        ValueError: A class that the config has no label for, or a number that is not finite.
    """
    problem = config.problem_type
    if problem is None and config.num_labels == 1:
        problem = "regression"
    if problem in ("regression", "multi_label_classification") or labels.is_floating_point():
        if labels.device.type == "cpu" and not torch.compiler.is_compiling() and not labels.isfinite().all():
            row = int((~labels.isfinite()).flatten(1 if labels.ndim > 1 else 0).nonzero()[0][0])
            raise ValueError(f"The label of row {row} is {labels[row].tolist()}; drop rows without a finite label.")
        return labels.float()
    if labels.device.type == "cpu" and not torch.compiler.is_compiling() and labels.numel():
        lowest, highest = labels[labels != -100].aminmax() if (labels != -100).any() else (0, 0)
        if lowest < 0 or highest >= config.num_labels:
            wrong = int(lowest) if lowest < 0 else int(highest)
            raise ValueError(
                f"Label {wrong} is none of the model's {config.num_labels} labels, 0 to {config.num_labels - 1}; load "
                "the model with num_labels=... or correct the data."
            )
    return labels
