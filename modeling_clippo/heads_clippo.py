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

    What stands in labels on an accelerator is not looked at, since that would make every step wait for it, nor in
    compiled code. Everything else follows transformers: one label is regression, whole numbers are classes, others
    several labels a text, and `config.problem_type` overrules.

    Returns:
        The labels: int64 classes, float32 for a regression or several labels.

    Raises:
        ValueError: A shape that does not fit, a class that the config has no label for, or a number that is not finite.
    """
    problem, num_labels = config.problem_type, config.num_labels
    whole = _are_whole(labels)
    if problem is None:
        several = "single_label_classification" if whole else "multi_label_classification"
        problem = "regression" if num_labels == 1 else several
    classes = problem == "single_label_classification"
    one_a_row = classes or (problem == "regression" and num_labels == 1)
    fits = labels.shape[1:] in ((), (1,)) if one_a_row else labels.shape[1:] == (num_labels,)
    if not fits or (classes and not whole):
        raise ValueError(
            f"Labels of shape {tuple(labels.shape)} and type {labels.dtype} do not fit problem_type={problem!r} with "
            f"{num_labels} labels; give {'int64' if classes else 'float'} "
            f"({'B,' if one_a_row else f'B, {num_labels}'}), or load the model with another problem_type."
        )
    if classes:
        _refuse_unknown(labels, num_labels)
        return labels.long()
    _refuse_infinite(labels)
    return labels.float()


def _are_whole(labels: torch.Tensor) -> bool:
    return not labels.is_floating_point() and labels.dtype != torch.bool


def _can_look(labels: torch.Tensor) -> bool:
    return labels.device.type == "cpu" and not torch.compiler.is_compiling() and labels.numel() > 0


def _refuse_infinite(labels: torch.Tensor) -> None:
    if _can_look(labels) and not labels.isfinite().all():
        row = int((~labels.isfinite()).flatten(1 if labels.ndim > 1 else 0).nonzero()[0][0])
        raise ValueError(f"The label of row {row} is {labels[row].tolist()}; drop rows without a finite label.")


def _refuse_unknown(labels: torch.Tensor, num_labels: int) -> None:
    if not _can_look(labels) or not (labels != -100).any():
        return
    lowest, highest = labels[labels != -100].aminmax()
    if lowest < 0 or highest >= num_labels:
        raise ValueError(
            f"Label {int(lowest) if lowest < 0 else int(highest)} is none of the model's {num_labels} labels, 0 to "
            f"{num_labels - 1}; load the model with num_labels=... or correct the data."
        )


def answer_loss(logits: torch.Tensor, labels: torch.Tensor, config) -> torch.Tensor:
    """The loss of `ClippoForVisualQuestionAnswering`, a mean over the batch.

    Args:
        logits: float32 (B, num_labels).
        labels: float (B, num_labels) or int64 (B,), -100 where no answer is right.

    Raises:
        ValueError: Labels of another shape, an answer that there is not, a score that is not finite.
    """
    classes = _are_whole(labels)
    binary = config.problem_type == "multi_label_classification"
    if config.problem_type is None:
        binary = not classes
    if labels.shape != (logits.shape[:1] if classes else logits.shape):
        raise ValueError(
            f"Labels of shape {tuple(labels.shape)} and type {labels.dtype} do not fit {config.num_labels} answers and "
            f"a batch of {len(logits)}; give float (B, num_labels) or int64 (B,)."
        )
    if classes:
        _refuse_unknown(labels, config.num_labels)
        # One class more, cut off again, takes the rows without an answer.
        known = torch.where(labels == -100, config.num_labels, labels).long()
        labels = nn.functional.one_hot(known, config.num_labels + 1)[:, :-1]
    else:
        _refuse_infinite(labels)
    scores = labels.to(logits.device, logits.dtype)  # (B, num_labels)
    if binary:
        return nn.functional.binary_cross_entropy_with_logits(logits, scores, reduction="sum") / len(logits)
    return nn.functional.cross_entropy(logits, scores)
