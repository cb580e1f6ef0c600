"""Metrics as `evaluate.Metric` classes: `RecallAtK().compute(predictions=..., references=...)`.

Their inputs are ranks, classes and scores. `retrieval.py` computes ranks from embeddings.
"""

import datasets
import evaluate
import numpy as np
import torch

from clippo.evaluation.retrieval import recall_at_k

CITATION = """\
@inproceedings{tschannen2023clippo,
  title     = {{CLIPPO}: Image-and-Language Understanding from Pixels Only},
  author    = {Tschannen, Michael and Mustafa, Basil and Houlsby, Neil},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2023}
}
"""


class LocalMetric(evaluate.Metric):
    """Base of all metrics: nothing is downloaded, and the examples of one process stay in memory.

    Subclasses set `inputs`, the features of "predictions" and "references", and `_compute`.
    """

    inputs: dict
    citation = CITATION

    def __init__(self, *args, keep_in_memory: bool = True, **kwargs):
        # The library's default, a file in the cache, makes concurrent evaluations wait for each other.
        super().__init__(*args, keep_in_memory=keep_in_memory and kwargs.get("num_process", 1) == 1, **kwargs)

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation=self.citation,
            inputs_description=self.__doc__,
            features=datasets.Features(self.inputs),
        )


class RecallAtK(LocalMetric):
    """Recall at 1, 5 and 10, and the median rank.

    Args:
        predictions: Rank of the nearest right item of each query, 0 for the first (`group_ranks`).
        references: Number of right items of each query, at least 1.

    Returns:
        {"R@1", "R@5", "R@10"} in 0..1, and "median_rank" counted from 1.

    Example:
        >>> RecallAtK().compute(predictions=[0, 3], references=[1, 1])
        {'R@1': 0.5, 'R@5': 1.0, 'R@10': 1.0, 'median_rank': 2.5}
    """

    inputs = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}

    def _compute(self, predictions, references, ks=(1, 5, 10)):
        if min(references) < 1:
            raise ValueError("A query without a right item has no rank; leave the query out.")
        place = torch.as_tensor(predictions)
        return {**recall_at_k(place, tuple(ks)), "median_rank": float(np.median(np.asarray(predictions)) + 1)}


class ClassificationAccuracy(LocalMetric):
    """Top-1, top-5 and mean per-class accuracy.

    Args:
        predictions: Labels of each image in falling order of score, at least the first five.
        references: Right label of each image.

    Returns:
        {"top1", "top5", "mean_per_class"} in 0..1. "top5" needs five predicted labels. The mean is over the classes
        that have images.

    Example:
        >>> ClassificationAccuracy().compute(predictions=[[0, 1], [0, 1], [1, 0]], references=[0, 1, 1])
        {'top1': 0.6666666666666666, 'mean_per_class': 0.75}
    """

    inputs = {"predictions": datasets.Sequence(datasets.Value("int64")), "references": datasets.Value("int64")}

    def _compute(self, predictions, references):
        predicted, right = np.asarray(predictions), np.asarray(references)
        hits = predicted == right[:, None]
        top1 = hits[:, 0]
        result = {
            "top1": float(top1.mean()),
            "mean_per_class": float(np.mean([top1[right == label].mean() for label in np.unique(right)])),
        }
        if predicted.shape[1] >= 5:
            result["top5"] = float(hits[:, :5].any(1).mean())
        return result


class SemanticSimilarity(LocalMetric):
    """Spearman's and Pearson's correlation of predicted with judged similarity.

    Args:
        predictions: Cosine of each pair.
        references: Judged similarity of each pair, on any scale.

    Returns:
        {"spearman", "pearson"} in -1..1. They are NaN if one side is constant.

    Example:
        >>> round(SemanticSimilarity().compute(predictions=[0.1, 0.5, 0.4], references=[1, 5, 2])["spearman"], 6)
        1.0
    """

    inputs = {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}

    def _compute(self, predictions, references):
        scores, judged = np.asarray(predictions), np.asarray(references)
        return {
            "spearman": correlation(average_ranks(scores), average_ranks(judged)),
            "pearson": correlation(scores, judged),
        }


class BitextAccuracy(LocalMetric):
    """Share of sentences whose nearest sentence is the translation.

    Args:
        predictions: Rank of the translation among all sentences of the other language, 0 for the first.
        references: Rank of the sentence among those of its language, for the translation as query.

    Returns:
        {"forward", "backward", "mean"} in 0..1.

    Example:
        >>> BitextAccuracy().compute(predictions=[0, 2], references=[0, 0])
        {'forward': 0.5, 'backward': 1.0, 'mean': 0.75}
    """

    inputs = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}

    def _compute(self, predictions, references):
        forward, backward = (float((np.asarray(places) == 0).mean()) for places in (predictions, references))
        return {"forward": forward, "backward": backward, "mean": (forward + backward) / 2}


class ModalityGap(LocalMetric):
    """Gap between two kinds of embeddings: distance of their centroids, and accuracy of a linear separation.

    *Mind the Gap*, Liang et al., NeurIPS 2022 (arXiv 2203.02053): the gap is the difference of the centroids of unit
    vectors, and the distance is its length. Separability, which the paper does not have, is the accuracy of ridge
    regression on the two kinds, fitted on every second pair and measured on the others. It is 0.5 without a gap.

    Args:
        predictions: Unit vectors of one kind.
        references: Unit vectors of the other kind, the same number.

    Returns:
        {"distance" in 0..2, "separability" in 0..1, "paired_cosine", "other_cosine"}. The cosines are means over
        pairs, and over all other combinations of the two kinds.

    Example:
        >>> vectors = [[1.0, 0.0], [0.0, 1.0]] * 2
        >>> ModalityGap().compute(predictions=vectors, references=vectors)["distance"]
        0.0
    """

    inputs = {
        "predictions": datasets.Sequence(datasets.Value("float32")),
        "references": datasets.Sequence(datasets.Value("float32")),
    }

    def _compute(self, predictions, references):
        return modality_gap(torch.as_tensor(np.asarray(predictions)), torch.as_tensor(np.asarray(references)))


def modality_gap(images: torch.Tensor, texts: torch.Tensor) -> dict[str, float]:
    """Computes `ModalityGap` on tensors.

    Args:
        images: (N, E) unit vectors.
        texts: (N, E) unit vectors. Text i belongs to image i.

    Raises:
        ValueError: There are fewer than four pairs, or the numbers differ.
    """
    if images.shape != texts.shape or len(images) < 4:
        raise ValueError(f"The gap needs as many texts as images, at least four; got {len(texts)} and {len(images)}.")
    images, texts = images.double(), texts.double()
    distance = (images.mean(0) - texts.mean(0)).norm()
    count = len(images)
    paired = (images * texts).sum(1)
    everything = images.sum(0) @ texts.sum(0)  # sum of all N x N cosines, without the matrix

    points = torch.cat([images, texts])
    sides = torch.cat([torch.ones(count), -torch.ones(count)]).double()
    fitted = (torch.arange(count) % 2 == 0).repeat(2)
    centre = points[fitted].mean(0)
    centred = points - centre
    gram = centred[fitted].T @ centred[fitted]
    ridge = 1e-3 * gram.diagonal().mean() + 1e-12
    weights = torch.linalg.solve(gram + ridge * torch.eye(len(gram)).double(), centred[fitted].T @ sides[fitted])
    right = (centred[~fitted] @ weights).sign() == sides[~fitted]
    return {
        "distance": distance.item(),
        "separability": right.double().mean().item(),
        "paired_cosine": paired.mean().item(),
        "other_cosine": ((everything - paired.sum()) / (count * (count - 1))).item(),
    }


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks values in rising order. Equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[inverse]


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Computes Pearson's correlation, NaN if one side is constant."""
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale > 0 else float("nan")
