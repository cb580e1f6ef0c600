"""Weights between two models, and the choice among them (WiSE-FT, arXiv 2109.01903).

    weights(alpha) = (1 - alpha) * before + alpha * after

0 is the model before fine-tuning, 1 the model after it. Between them old tasks often recover faster than the new one is
lost.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

ROLES = ("new", "old", "report")


class Point(NamedTuple):
    """One model of the curve.

    Attributes:
        alpha: Share of the weights after fine-tuning.
        metrics: Main number of each evaluation, by its name.

    Example:
        >>> Point(0.5, {"flowers": 0.7}).alpha
        0.5
    """

    alpha: float
    metrics: dict[str, float]


@torch.no_grad()
def interpolate(
    before: Mapping[str, torch.Tensor], after: Mapping[str, torch.Tensor], alpha: float
) -> dict[str, torch.Tensor]:
    """State dict between those of two models of one config.

    Args:
        before: State dict before fine-tuning.
        after: State dict after it, with the same names and shapes.
        alpha: Share of `after`. 0 and 1 return the weights bit by bit.

    Raises:
        ValueError: The models have different tensors.

    Example:
        >>> import torch
        >>> interpolate({"w": torch.zeros(1)}, {"w": torch.ones(1)}, 0.25)["w"].item()
        0.25
    """
    different = [name for name in {**before, **after} if _shape(before, name) != _shape(after, name)]
    if different:
        raise ValueError(
            f"{len(different)} tensors differ in name or shape between the two models, {different[0]} among them; "
            "interpolate between models of one config."
        )
    if alpha in (0, 1):
        chosen = after if alpha else before
        return {name: tensor.clone() for name, tensor in chosen.items()}
    return {name: torch.lerp(before[name].float(), after[name].float(), alpha) for name in before}


def _shape(tensors: Mapping[str, torch.Tensor], name: str) -> torch.Size | None:
    return tensors[name].shape if name in tensors else None


def choose(points: Sequence[Point], roles: Mapping[str, str], keep: float = 0.01) -> Point:
    """Point with the best new tasks among those that keep the old ones.

    Args:
        points: Points of the curve, that of alpha 0 among them.
        roles: Role of each evaluation: "new", "old", or "report", which does not take part in the choice.
        keep: Largest loss of an old metric against alpha 0.

    Returns:
        The point with the largest mean of the new metrics; of equal ones the smallest alpha. Without new tasks, the
        largest alpha that keeps the old ones.

    Example:
        >>> points = [Point(0.0, {"a": 0.2, "b": 0.9}), Point(0.5, {"a": 0.6, "b": 0.9}), Point(1, {"a": 0.7, "b": 0})]
        >>> choose(points, {"a": "new", "b": "old"}).alpha
        0.5
    """
    start = min(points, key=lambda point: point.alpha)
    old = [name for name, role in roles.items() if role == "old"]
    new = [name for name, role in roles.items() if role == "new"]
    # Sums of shares differ in the last bit.
    kept = [p for p in points if all(p.metrics[name] >= start.metrics[name] - keep - 1e-9 for name in old)]
    if not new:
        return max(kept, key=lambda point: point.alpha)
    return max(kept, key=lambda point: (sum(point.metrics[name] for name in new), -point.alpha))
