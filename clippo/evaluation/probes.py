"""Linear probes: accuracy of a linear classifier on frozen features, from a few images a class or from all.

Least squares is the official few-shot evaluation (big_vision `evaluators/fewshot_lsr.py`). Logistic regression is the
usual linear probe.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from clippo.evaluation.benchmarks import Benchmark, class_names, open_rows
from clippo.evaluation.classification import embed_labelled
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.prompts import read_prompts
from clippo.evaluation.report import Report

BIAS = 100.0  # the constant feature; large, so that its weight is hardly regularised
PROBES = ("least-squares", "logistic")


@dataclass(frozen=True)
class FewShotProtocol:
    """Settings of a few-shot evaluation.

    Args:
        train_split: Split to learn from.
        shots: Numbers of images a class. 0 means all.
        seeds: Random draws of the shots. The report has their mean and deviation.
        probes: "least-squares", "logistic" or both.
        l2: Penalty of least squares; 2^10 is the official value.
        c: Inverse penalty of the logistic regression.
        crop: Whether to resize to 256/224 of the canvas and crop the centre, as the official evaluation does. False
            resizes to the canvas.

    Raises:
        ValueError: An unknown probe.

    Example:
        >>> FewShotProtocol(shots=(1, 5), probes=("least-squares",)).seeds
        (0, 1, 2)
    """

    train_split: str = "train"
    shots: Sequence[int] = (1, 5, 10, 25)
    seeds: Sequence[int] = (0, 1, 2)
    probes: Sequence[str] = PROBES
    l2: float = 2.0**10
    c: float = 1.0
    crop: bool = True

    def __post_init__(self):
        unknown = sorted(set(self.probes) - set(PROBES))
        if unknown:
            raise ValueError(f"probes={unknown[0]!r} is not known; choose {' or '.join(PROBES)}, or both.")

    @property
    def description(self) -> str:
        """Description of the protocol for a report."""
        size = "resized to 256/224 of the canvas, the centre cut out" if self.crop else "squashed to the canvas"
        return (
            f"Linear probes on the pooled vectors before the projection, images {size}. Least squares onto one-hot "
            f"labels, l2 = {self.l2:g}; logistic regression with C = {self.c:g}; mean and deviation over "
            f"{len(self.seeds)} draws of the shots."
        )


@dataclass
class _Split:
    """Features of one split.

    Args:
        features: float32 (M, D), pooled vectors.
        labels: int64 (M,).
        broken: Number of images that could not be read.
    """

    features: torch.Tensor
    labels: torch.Tensor
    broken: int


def few_shot_report(encoder: Encoder, benchmark: Benchmark, protocol: FewShotProtocol | None = None) -> Report:
    """Trains linear probes on the pooled vectors before the projection, and tests them.

    Args:
        encoder: Encoder of the model.
        benchmark: Images with labels. Its split is the test split; its limit counts for either split.
        protocol: Settings; the defaults are the official ones.

    Raises:
        ValueError: Data or labels that cannot be used.
    """
    protocol = protocol or FewShotProtocol()
    rows = open_rows(benchmark, protocol.train_split)
    names = class_names(benchmark, rows, read_prompts())
    train = _embed_split(encoder, benchmark, rows, len(names), protocol.crop)
    test = _embed_split(encoder, benchmark, open_rows(benchmark), len(names), protocol.crop)
    table = [
        _measure(protocol, probe, count, train, test, len(names))
        for probe in protocol.probes
        for count in protocol.shots
    ]
    metrics = {
        f"{row['probe']}, {'all images' if row['shots'] == 'all' else str(row['shots']) + ' shots'}": row["accuracy"]
        for row in table
    }
    return Report(
        task="few-shot",
        data=benchmark.path,
        protocol=protocol.description,
        metrics=metrics,
        chance=dict.fromkeys(metrics, 1 / len(names)),
        counts={
            "training images": len(train.labels),
            "test images": len(test.labels),
            "classes": len(names),
            "images that could not be read": train.broken + test.broken,
        },
        rows=table,
        notes=_scarcity(protocol, names, train.labels),
    )


def _embed_split(encoder: Encoder, benchmark: Benchmark, rows: Any, classes: int, crop: bool) -> _Split:
    options = _official_crop(encoder.processor) if crop else {}
    images, labels = embed_labelled(encoder, benchmark, rows, classes, pooled=True, **options)
    return _Split(images.vectors, labels, len(images.broken))


def _measure(protocol: FewShotProtocol, probe: str, shots: int, train: _Split, test: _Split, classes: int) -> dict:
    """Returns one line of the table: mean accuracy of a probe over the draws of `shots` images a class."""
    largest = int(train.labels.bincount(minlength=classes).max())
    scores = []
    for seed in protocol.seeds if shots else protocol.seeds[:1]:  # all images are the same for every seed
        drawn = torch.as_tensor(draw_shots(train.labels, classes, shots or largest, seed))
        x, y = train.features[drawn], train.labels[drawn]
        if probe == "least-squares":
            fitted = least_squares(x, y, classes, protocol.l2)
        else:
            fitted = logistic(x, y, classes, protocol.c)
        scores.append((fitted(test.features).argmax(1) == test.labels).double().mean().item())
    return {
        "probe": probe,
        "shots": shots or "all",
        "accuracy": float(np.mean(scores)),
        "deviation": float(np.std(scores)),
        "draws": len(scores),
    }


def _scarcity(protocol: FewShotProtocol, names: list[str], labels: torch.Tensor) -> list[str]:
    """Returns notes on classes without training images, or with fewer than the shots."""
    sizes = np.bincount(labels.numpy(), minlength=len(names))
    notes = [f"Class {names[i]!r} has no training images." for i in np.flatnonzero(sizes == 0)]
    fewest = sizes[sizes > 0].min()
    scarce = [count for count in protocol.shots if count > fewest]
    if scarce:
        notes.append(f"For {max(scarce)} shots some classes have fewer images; the smallest has {fewest}.")
    return notes


def _official_crop(processor: Any) -> dict[str, Any]:
    """Returns options of the image processor for the official few-shot preprocessing, at any canvas size."""
    canvas = processor.image_processor.size
    height, width = canvas["height"], canvas["width"]
    return {
        "size": {"height": round(height * 256 / 224), "width": round(width * 256 / 224)},
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
    }


def least_squares(features: torch.Tensor, labels: torch.Tensor, classes: int, l2: float = 2.0**10) -> torch.nn.Module:
    """Fits ridge regression onto one-hot labels in {-1, 1}, in float64.

    Args:
        features: (N, D) training features. They are standardised inside.
        labels: int64 (N,).
        classes: Number of classes C.
        l2: Penalty on the sum of squared weights. The bias counts too; it is the weight of a constant feature of 100.

    Returns:
        `LinearProbe` for raw features.

    Raises:
        ValueError: A feature is not finite, or there are none.
    """
    features = _checked(features)
    mean, deviation = features.mean(0), features.std(0, correction=0) + 1e-5
    x = torch.nn.functional.pad((features - mean) / deviation, (0, 1), value=BIAS)  # (N, D + 1)
    y = 2 * torch.nn.functional.one_hot(labels, classes).double() - 1  # (N, C)
    # The smaller of the two systems; they are equivalent for l2 > 0.
    if len(x) >= x.shape[1]:
        weights = torch.linalg.solve(x.T @ x + l2 * torch.eye(x.shape[1]).double(), x.T @ y)
    else:
        weights = x.T @ torch.linalg.solve(x @ x.T + l2 * torch.eye(len(x)).double(), y)
    return LinearProbe(weights[:-1], BIAS * weights[-1], mean, deviation)


def logistic(
    features: torch.Tensor, labels: torch.Tensor, classes: int, c: float = 1.0, iterations: int = 1000
) -> torch.nn.Module:
    """Fits multinomial logistic regression with an L2 penalty on standardised features, by scikit-learn's L-BFGS.

    Args:
        features: (N, D).
        labels: int64 (N,), at least two classes.
        classes: Number of classes C. A class without training images is never predicted.
        c: Inverse strength of the penalty.
        iterations: Maximum number of iterations.

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
    if len(rows) == 1:  # for two classes scikit-learn keeps only the score of the second
        rows, intercepts = torch.cat([-rows, rows]) / 2, torch.cat([-intercepts, intercepts]) / 2
    known = torch.as_tensor(fitted.classes_)
    weights[:, known], bias[known] = rows.T, intercepts
    return LinearProbe(weights, bias, mean, deviation)


class LinearProbe(torch.nn.Module):
    """Linear classifier of standardised features.

    Args:
        weights: float64 (D, C).
        bias: float64 (C,).
        mean: float64 (D,), mean of the training features.
        deviation: float64 (D,), standard deviation of the training features.

    Example:
        >>> probe = least_squares(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1]), classes=2, l2=1.0)
        >>> probe(torch.tensor([[-1.0], [2.0]])).argmax(1)
        tensor([0, 1])
    """

    def __init__(self, weights: torch.Tensor, bias: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor):
        super().__init__()
        self.register_buffer("weights", weights)
        self.register_buffer("bias", bias)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Computes class scores, (M, D) -> (M, C)."""
        return (features.double() - self.mean) / self.deviation @ self.weights + self.bias


def draw_shots(labels: Sequence[int], classes: int, shots: int, seed: int) -> np.ndarray:
    """Draws row numbers of `shots` images a class, or of all images of a smaller class.

    A larger draw contains the smaller draws of the same seed.
    """
    labels, draw = np.asarray(labels), np.random.default_rng(seed)
    return np.concatenate([draw.permutation(np.flatnonzero(labels == label))[:shots] for label in range(classes)])


def _checked(features: torch.Tensor) -> torch.Tensor:
    if not len(features):
        raise ValueError("A probe without features is undefined: the training set is empty.")
    bad = (~features.isfinite()).any(1).nonzero().flatten()
    if len(bad):
        raise ValueError(f"{len(bad)} features are not finite; the first is row {int(bad[0])}.")
    return features.double()
