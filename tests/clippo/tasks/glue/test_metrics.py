"""GLUE metrics against their definitions, and the metrics of each task against the official metric."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clippo.tasks.glue.data import GLUE_TASKS
from clippo.tasks.glue.metrics import F1, Accuracy, Correlations, Matthews, glue_scores

pytest.importorskip("sklearn", reason="needs the extra `evaluation`")
binary = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)


def counts(predictions, references):
    p, r = np.array(predictions), np.array(references)
    return [int(((p == a) & (r == b)).sum()) for a, b in ((1, 1), (1, 0), (0, 1), (0, 0))]  # tp, fp, fn, tn


@settings(max_examples=40, deadline=None)
@given(binary)
def test_classification_metrics_are_their_formulas(rows):
    predictions, references = map(list, zip(*rows, strict=True))
    tp, fp, fn, tn = counts(predictions, references)
    both = {"predictions": predictions, "references": references}
    assert Accuracy().compute(**both) == {"accuracy": pytest.approx((tp + tn) / len(rows))}
    expected = 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0
    assert F1().compute(**both) == {"f1": pytest.approx(expected)}
    norm = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    expected = (tp * tn - fp * fn) / math.sqrt(norm) if norm else 0.0
    assert Matthews().compute(**both) == {"matthews_correlation": pytest.approx(expected, abs=1e-9)}


def ranks(values):
    """Average ranks, ties included."""
    values = np.asarray(values)
    return np.array([(values < v).sum() + ((values == v).sum() + 1) / 2 for v in values])


def test_correlations_are_their_formulas():
    draw = np.random.default_rng(0)
    predictions, references = draw.normal(size=50), draw.integers(0, 26, 50) / 5
    got = Correlations().compute(predictions=predictions, references=references)
    assert got["pearson"] == pytest.approx(np.corrcoef(predictions, references)[0, 1])
    assert got["spearmanr"] == pytest.approx(np.corrcoef(ranks(predictions), ranks(references))[0, 1])
    assert got["pearson"] != pytest.approx(got["spearmanr"])


def test_each_task_reports_what_the_official_metric_does():
    official = {"cola": {"matthews_correlation"}, "stsb": {"pearson", "spearmanr"}}
    official |= {task: {"accuracy", "f1"} for task in ("mrpc", "qqp")}
    official |= {task: {"accuracy"} for task in ("sst2", "mnli", "qnli", "rte", "wnli")}
    assert {name: set(task.metrics) for name, task in GLUE_TASKS.items()} == official
    for task in official:
        scores = glue_scores(task, [0, 1, 1, 0], [0, 1, 0, 0])
        assert tuple(scores) == GLUE_TASKS[task].metrics and all(isinstance(value, float) for value in scores.values())
    assert glue_scores("mrpc", [0, 1, 1, 0], [0, 1, 0, 0]) == {"f1": pytest.approx(2 / 3), "accuracy": 0.75}


def test_constant_predictions_count_as_nothing():
    assert glue_scores("stsb", [2.5, 2.5], [1.0, 4.0]) == {"spearmanr": 0.0, "pearson": 0.0}
    assert glue_scores("cola", [1, 1, 1], [1, 0, 1]) == {"matthews_correlation": 0.0}


def test_batches_add_up():
    metric = Accuracy()
    metric.add_batch(predictions=[0, 1], references=[0, 0])
    metric.add(prediction=1, reference=1)
    assert metric.compute() == {"accuracy": pytest.approx(2 / 3)}


def test_unknown_tasks_are_named():
    with pytest.raises(ValueError, match="'mrcp' is not a GLUE task; choose one of cola, sst2, mrpc"):
        glue_scores("mrcp", [0], [0])
