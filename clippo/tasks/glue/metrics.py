"""GLUE metrics as `evaluate.Metric` classes that need no download. Their values equal those of the hub's "glue" metric.

`evaluate.load` downloads the code of a metric; these classes are imported. Values are fractions and correlations, not
percentages.
"""

import importlib

import datasets
import numpy as np

from clippo.evaluation.metrics import LocalMetric, SemanticSimilarity
from clippo.tasks.glue.data import glue_task


def _require_sklearn_metrics():
    """Imports sklearn.metrics, or raises an ImportError that names the extra."""
    try:
        return importlib.import_module("sklearn.metrics")
    except ImportError as error:
        raise ImportError("GLUE metrics need scikit-learn; pip install 'clippo[evaluation]'.") from error


class _ClassMetric(LocalMetric):
    """Base of metrics over one class number an example."""

    citation = ""
    inputs = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}


class Accuracy(_ClassMetric):
    """Share of predictions that equal their reference.

    Example:
        >>> Accuracy().compute(predictions=[0, 1, 1], references=[0, 1, 0])["accuracy"]
        0.6666666666666666
    """

    names = ("accuracy",)

    def _compute(self, predictions, references):
        return {"accuracy": float((np.asarray(predictions) == np.asarray(references)).mean())}


class F1(_ClassMetric):
    """Harmonic mean of precision and recall of class 1; 0 if class 1 is neither present nor predicted.

    Example:
        >>> F1().compute(predictions=[1, 1, 0], references=[1, 0, 0])["f1"]
        0.6666666666666666
    """

    names = ("f1",)

    def _compute(self, predictions, references):
        return {"f1": float(_require_sklearn_metrics().f1_score(references, predictions, zero_division=0))}


class Matthews(_ClassMetric):
    """Matthews' correlation coefficient; 0 if predictions or references are constant.

    Example:
        >>> Matthews().compute(predictions=[0, 1, 1, 0], references=[0, 1, 1, 0])
        {'matthews_correlation': 1.0}
    """

    names = ("matthews_correlation",)

    def _compute(self, predictions, references):
        return {"matthews_correlation": float(_require_sklearn_metrics().matthews_corrcoef(references, predictions))}


class Correlations(SemanticSimilarity):
    """Pearson's and Spearman's correlation of real numbers, under GLUE's names; NaN if one side is constant.

    Example:
        >>> scores = Correlations().compute(predictions=[0.1, 0.2, 0.9], references=[1, 2, 3])
        >>> {name: round(value, 3) for name, value in scores.items()}
        {'pearson': 0.918, 'spearmanr': 1.0}
    """

    citation = ""
    names = ("pearson", "spearmanr")

    def _compute(self, predictions, references):
        scores = super()._compute(predictions, references)
        return {"pearson": scores["pearson"], "spearmanr": scores["spearman"]}


_BY_NAME = {name: metric for metric in (Accuracy, F1, Matthews, Correlations) for name in metric.names}


def glue_scores(task: str, predictions, references) -> dict[str, float]:
    """Computes all metrics of one task, the main metric first.

    Args:
        task: A key of `GLUE_TASKS`.
        predictions: One class an example, or one real number an example for "stsb".
        references: The same for the labels.

    Returns:
        {name: value}. The correlation of a constant prediction counts as 0, where the official metric returns NaN.
        Means over seeds and tasks therefore exist, and no checkpoint is selected for a constant prediction.

    Raises:
        ValueError: The task is unknown.
    """
    names = glue_task(task).metrics
    scores: dict[str, float] = {}
    for metric in dict.fromkeys(_BY_NAME[name] for name in names):
        if metric is Correlations and len(set(map(float, predictions))) < 2:
            scores |= dict.fromkeys(metric.names, 0.0)
        else:
            scores |= metric().compute(predictions=predictions, references=references)
    return {name: scores[name] for name in names}
