"""The metrics of GLUE as `evaluate.Metric`s that need no hub, equal to the hub's own "glue" metric.

`evaluate.load` downloads a metric's code; these are imported. Shares and correlations are 0..1 and -1..1, not percent.
"""

import datasets
import evaluate
import numpy as np

# What each task reports, the first being the one that checkpoints are chosen by; after Wang et al. 2018.
TASK_METRICS = {
    "cola": ("matthews_correlation",),
    "sst2": ("accuracy",),
    "mrpc": ("f1", "accuracy"),
    "stsb": ("spearmanr", "pearson"),
    "qqp": ("f1", "accuracy"),
    "mnli": ("accuracy",),
    "qnli": ("accuracy",),
    "rte": ("accuracy",),
    "wnli": ("accuracy",),
}


def _require(module: str):
    """sklearn.metrics or scipy.stats, or an ImportError that names the extra."""
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{module} is needed for GLUE metrics and is not installed; pip install 'clippo[evaluation]'."
        ) from error


class _LocalMetric(evaluate.Metric):
    """Predictions and references of one number each, kept in memory."""

    dtype = "int64"
    names: tuple[str, ...] = ()

    def __init__(self, *args, keep_in_memory: bool = True, **kwargs):
        # A file in the cache, the library's default, makes processes that evaluate side by side wait for each other.
        super().__init__(*args, keep_in_memory=keep_in_memory and kwargs.get("num_process", 1) == 1, **kwargs)

    def _info(self):
        value = datasets.Value(self.dtype)
        return evaluate.MetricInfo(
            description=f"{type(self).__name__}: {', '.join(self.names)}.",
            citation="",
            inputs_description="predictions and references: lists of one number an example.",
            features=datasets.Features({"predictions": value, "references": value}),
        )


class Accuracy(_LocalMetric):
    """`{"accuracy": share of predictions that equal their reference}`."""

    names = ("accuracy",)

    def _compute(self, predictions, references):
        return {"accuracy": float((np.asarray(predictions) == np.asarray(references)).mean())}


class F1(_LocalMetric):
    """`{"f1": harmonic mean of precision and recall of class 1}`, 0 if class 1 is neither there nor predicted."""

    names = ("f1",)

    def _compute(self, predictions, references):
        score = _require("sklearn.metrics").f1_score(references, predictions, zero_division=0)
        return {"f1": float(score)}


class Matthews(_LocalMetric):
    """`{"matthews_correlation": ...}`, 0 if one side is constant."""

    names = ("matthews_correlation",)

    def _compute(self, predictions, references):
        return {
            "matthews_correlation": float(_require("sklearn.metrics").matthews_corrcoef(references, predictions)),
        }


class Correlations(_LocalMetric):
    """`{"pearson": ..., "spearmanr": ...}` of real numbers; NaN if one side is constant."""

    dtype = "float64"
    names = ("pearson", "spearmanr")

    def _compute(self, predictions, references):
        stats = _require("scipy.stats")
        return {
            "pearson": float(stats.pearsonr(predictions, references)[0]),
            "spearmanr": float(stats.spearmanr(predictions, references)[0]),
        }


_BY_NAME = {name: metric for metric in (Accuracy, F1, Matthews, Correlations) for name in metric.names}


def glue_scores(task: str, predictions, references) -> dict[str, float]:
    """All metrics of one task, the main one first.

    Args:
        task: A key of `TASK_METRICS`.
        predictions, references: One class, or for "stsb" one real number, an example.

    Returns:
        {name: value}. A constant prediction has no correlation; the official metric says NaN, here it counts as 0, so
        that means over seeds and tasks exist and no checkpoint is chosen for it.

    Raises:
        ValueError: An unknown task.
    """
    if task not in TASK_METRICS:
        raise ValueError(f"{task!r} is no GLUE task; choose one of {', '.join(TASK_METRICS)}.")
    scores: dict[str, float] = {}
    for metric in dict.fromkeys(_BY_NAME[name] for name in TASK_METRICS[task]):
        if metric is Correlations and len(set(map(float, predictions))) < 2:
            scores |= dict.fromkeys(metric.names, 0.0)
        else:
            scores |= metric().compute(predictions=predictions, references=references)
    return {name: scores[name] for name in TASK_METRICS[task]}
