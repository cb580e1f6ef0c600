"""Probes on frozen features: how much a linear classifier learns from a few pictures a class, or from all of them.

Least squares is the official few-shot evaluation (big_vision `evaluators/fewshot_lsr.py`); the logistic regression is
the usual linear probe.
"""

from collections.abc import Sequence

import numpy as np
import torch

BIAS = 100.0  # the constant feature; large, so that its weight is hardly regularised


def least_squares(features: torch.Tensor, labels: torch.Tensor, classes: int, l2: float = 2.0**10) -> torch.nn.Module:
    """Ridge regression onto one-hot labels in {-1, 1}, solved in float64.

    Args:
        features: (N, D) training features, brought to zero mean and unit deviation inside.
        labels: int64 (N,).
        classes: C.
        l2: penalty on the sum of squared weights, the bias' included (it stands on a feature of 100).

    Returns:
        `LinearProbe` with (C, D) weights, for raw features.

    Raises:
        ValueError: a feature is not finite, or there are none.
    """
    features = _checked(features)
    mean, deviation = features.mean(0), features.std(0, correction=0) + 1e-5
    x = torch.nn.functional.pad((features - mean) / deviation, (0, 1), value=BIAS)  # (N, D + 1)
    y = 2 * torch.nn.functional.one_hot(labels, classes).double() - 1  # (N, C)
    # Whichever is smaller: the two are equal for l2 > 0.
    if len(x) >= x.shape[1]:
        weights = torch.linalg.solve(x.T @ x + l2 * torch.eye(x.shape[1]).double(), x.T @ y)
    else:
        weights = x.T @ torch.linalg.solve(x @ x.T + l2 * torch.eye(len(x)).double(), y)
    return LinearProbe(weights[:-1], BIAS * weights[-1], mean, deviation)


def logistic(
    features: torch.Tensor, labels: torch.Tensor, classes: int, c: float = 1.0, iterations: int = 1000
) -> torch.nn.Module:
    """Multinomial logistic regression with an L2 penalty, by scikit-learn's L-BFGS, on standardised features.

    Args:
        features: (N, D).
        labels: int64 (N,), of at least two classes.
        classes: C; one without training pictures is never predicted.
        c: inverse strength of the penalty.
        iterations: at most so many.

    Raises:
        ImportError: scikit-learn is missing.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise ImportError("The logistic probe needs scikit-learn: pip install 'clippo[evaluation]'.") from error
    features = _checked(features)
    mean, deviation = features.mean(0), features.std(0, correction=0) + 1e-5
    fitted = LogisticRegression(C=c, max_iter=iterations).fit(((features - mean) / deviation).numpy(), labels.numpy())
    weights = torch.zeros(features.shape[1], classes, dtype=torch.float64)
    bias = torch.full((classes,), -torch.inf, dtype=torch.float64)
    rows, intercepts = torch.as_tensor(fitted.coef_).double(), torch.as_tensor(fitted.intercept_).double()
    if len(rows) == 1:  # of two classes scikit-learn keeps the second's score alone
        rows, intercepts = torch.cat([-rows, rows]) / 2, torch.cat([-intercepts, intercepts]) / 2
    known = torch.as_tensor(fitted.classes_)
    weights[:, known], bias[known] = rows.T, intercepts
    return LinearProbe(weights, bias, mean, deviation)


class LinearProbe(torch.nn.Module):
    """Standardised features to one score a class.

    Args:
        weights: float64 (D, C).
        bias: float64 (C,).
        mean, deviation: float64 (D,), of the training features.
    """

    def __init__(self, weights: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor):
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("bias", bias)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(M, D) -> (M, C)"""
        return (features.double() - self.mean) / self.deviation @ self.weights + self.bias


def draw_shots(labels: Sequence[int], classes: int, shots: int, seed: int) -> np.ndarray:
    """Row numbers of `shots` pictures a class, all of a class with fewer; a seed's larger draw holds its smaller."""
    labels, draw = np.asarray(labels), np.random.default_rng(seed)
    return np.concatenate([draw.permutation(np.flatnonzero(labels == label))[:shots] for label in range(classes)])


def _checked(features: torch.Tensor) -> torch.Tensor:
    if not len(features):
        raise ValueError("A probe of no features is undefined: the training set is empty.")
    bad = (~features.isfinite()).any(1).nonzero().flatten()
    if len(bad):
        raise ValueError(f"{len(bad)} features are not finite, the first is row {int(bad[0])}.")
    return features.double()
