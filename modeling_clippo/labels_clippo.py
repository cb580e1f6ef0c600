"""Labels: checks for the classification heads and the decoder, and the loss of answers to questions."""

import torch
from torch.nn import functional as F

from .pixels_clippo import is_exporting


def check_labels(labels: torch.Tensor, config) -> torch.Tensor:
    """Check labels and convert them to the type that the loss needs.

    Without `config.problem_type` the labels decide, as in transformers: one label is a regression, whole numbers are
    classes, other numbers are several labels a text. Values are checked on the CPU and outside compiled code only,
    because reading them from an accelerator would make every step wait.

    Returns:
        int64 classes, or float32 for a regression or several labels.

    Raises:
        ValueError: The shape does not fit, a class is not among the labels, or a number is not finite.
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
        _check_classes(labels, num_labels)
        return labels.long()
    _check_finite(labels)
    return labels.float()


def _are_whole(labels: torch.Tensor) -> bool:
    return not labels.is_floating_point() and labels.dtype != torch.bool


def _can_check(labels: torch.Tensor) -> bool:
    traced = torch.compiler.is_compiling() or is_exporting()
    return labels.device.type == "cpu" and labels.numel() > 0 and not traced


def _check_finite(labels: torch.Tensor) -> None:
    if _can_check(labels) and not labels.isfinite().all():
        row = int((~labels.isfinite()).flatten(1 if labels.ndim > 1 else 0).nonzero()[0][0])
        raise ValueError(f"The label of row {row} is {labels[row].tolist()}; drop rows without a finite label.")


def _check_classes(labels: torch.Tensor, num_labels: int) -> None:
    if not _can_check(labels) or not (labels != -100).any():
        return
    lowest, highest = labels[labels != -100].aminmax()
    if lowest < 0 or highest >= num_labels:
        raise ValueError(
            f"Label {int(lowest) if lowest < 0 else int(highest)} is not one of the model's {num_labels} labels, 0 to "
            f"{num_labels - 1}; load the model with num_labels=... or correct the data."
        )


def check_ids(labels: torch.Tensor, vocab_size: int) -> None:
    """Check the labels of generated text, on the CPU only as `check_labels`.

    Args:
        labels: int64 (B, L), -100 after the end of a text.
        vocab_size: Number of ids that the decoder knows.

    Raises:
        ValueError: A label is not an id of the decoder.
    """
    counted = labels[labels != -100] if _can_check(labels) else labels[:0]
    if not counted.numel():
        return
    lowest, highest = counted.aminmax()
    if lowest < 0 or highest >= vocab_size:
        raise ValueError(
            f"Label {int(lowest) if lowest < 0 else int(highest)} is not an id of the decoder, 0 to {vocab_size - 1}; "
            "encode the texts with the model's processor, or make a model with that decoder_vocab_size."
        )


def answer_loss(logits: torch.Tensor, labels: torch.Tensor, config) -> torch.Tensor:
    """Loss of `ClippoForVisualQuestionAnswering`, a mean over the batch.

    Args:
        logits: float32 (B, num_labels).
        labels: float (B, num_labels), or int64 (B,) with -100 where no answer is right.
        config: Model config.

    Raises:
        ValueError: The shape does not fit, an answer is not among the labels, or a score is not finite.
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
        _check_classes(labels, config.num_labels)
        # An additional class takes the rows without an answer and is cut off again.
        known = torch.where(labels == -100, config.num_labels, labels).long()
        labels = F.one_hot(known, config.num_labels + 1)[:, :-1]
    else:
        _check_finite(labels)
    scores = labels.to(logits.device, logits.dtype)  # (B, num_labels)
    if binary:
        return F.binary_cross_entropy_with_logits(logits, scores, reduction="sum") / len(logits)
    return F.cross_entropy(logits, scores)
