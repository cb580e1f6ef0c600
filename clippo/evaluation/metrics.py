"""Metrics as `evaluate.Metric` classes: `RecallAtK().compute(predictions=..., references=...)`.

They take what is small (places, classes, scores), not embeddings; how those come about is in the neighbouring files.
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
    """Recall at 1, 5 and 10 and the median place.

    Args:
        predictions: for each query the place of its nearest right item, 0 for the first (`group_ranks`).
        references: for each query how many items are right; at least 1.

    Returns:
        {"R@1", "R@5", "R@10"} in 0..1, "median_rank" counted from 1.
    """

    inputs = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}

    def _compute(self, predictions, references, ks=(1, 5, 10)):
        if min(references) < 1:
            raise ValueError("A query without a right item has no place: leave it out and say so.")
        place = torch.as_tensor(predictions)
        return {**recall_at_k(place, tuple(ks)), "median_rank": float(np.median(np.asarray(predictions)) + 1)}


class ClassificationAccuracy(LocalMetric):
    """Top-1, top-5 and mean per-class accuracy.

    Args:
        predictions: for each picture the labels in falling order of score, at least the first five.
        references: the right label of each.

    Returns:
        {"top1", "top5", "mean_per_class"} in 0..1; "top5" only where five labels were predicted. The mean is over the
        classes that have pictures.
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
        predictions: cosine of each pair.
        references: judged similarity of each pair, on any scale.

    Returns:
        {"spearman", "pearson"} in -1..1; nan where either side is constant.
    """

    inputs = {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}

    def _compute(self, predictions, references):
        scores, judged = np.asarray(predictions), np.asarray(references)
        return {
            "spearman": correlation(average_ranks(scores), average_ranks(judged)),
            "pearson": correlation(scores, judged),
        }


class BitextAccuracy(LocalMetric):
    """How often the nearest sentence is the translation.

    Args:
        predictions: place of the translation among all sentences of the other language, 0 for the first.
        references: place of the sentence among those of its own language, seen from the translation.

    Returns:
        {"forward", "backward", "mean"} in 0..1.
    """

    inputs = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}

    def _compute(self, predictions, references):
        forward, backward = (float((np.asarray(places) == 0).mean()) for places in (predictions, references))
        return {"forward": forward, "backward": backward, "mean": (forward + backward) / 2}


class ModalityGap(LocalMetric):
    """How far apart two kinds of embeddings lie: distance of their centroids, and how well a line separates them.

    *Mind the Gap*, Liang et al., NeurIPS 2022 (arXiv 2203.02053): the gap is the difference of the centroids of unit
    vectors, the distance its length. Separability is the accuracy of the best hyperplane found by ridge regression on
    the two kinds (ours), fitted on every second pair and measured on the others: 0.5 is none, 1 is perfect.

    Args:
        predictions: embeddings of one kind.
        references: embeddings of the other kind, as many.

    Returns:
        {"distance" in 0..2, "separability" in 0..1, "paired_cosine", "other_cosine"}: mean cosine of vector i with
        vector i and with the others of the other kind.
    """

    inputs = {
        "predictions": datasets.Sequence(datasets.Value("float32")),
        "references": datasets.Sequence(datasets.Value("float32")),
    }

    def _compute(self, predictions, references):
        return modality_gap(torch.as_tensor(np.asarray(predictions)), torch.as_tensor(np.asarray(references)))


def modality_gap(images: torch.Tensor, texts: torch.Tensor) -> dict[str, float]:
    """`ModalityGap` on tensors: unit vectors (N, E) each, image i belonging to text i.

    Raises:
        ValueError: fewer than four pairs, or unequal numbers.
    """
    if images.shape != texts.shape or len(images) < 4:
        raise ValueError(f"The gap needs as many texts as images, four at least; got {len(texts)} and {len(images)}.")
    images, texts = images.double(), texts.double()
    distance = (images.mean(0) - texts.mean(0)).norm()
    count = len(images)
    paired = (images * texts).sum(1)
    everything = images.sum(0) @ texts.sum(0)  # sum of all N x N cosines without making them

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
    """Place of each value in rising order; equal values share the mean of their places."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[inverse]


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Pearson's; nan where one side is constant."""
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale > 0 else float("nan")
