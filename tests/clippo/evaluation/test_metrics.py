"""Metrics equal known values and other implementations."""

import evaluate
import numpy as np
import pytest
import torch

from clippo.evaluation.metrics import (
    BitextAccuracy,
    ClassificationAccuracy,
    ModalityGap,
    RecallAtK,
    SemanticSimilarity,
    modality_gap,
)


@pytest.mark.parametrize("metric", [RecallAtK, ClassificationAccuracy, SemanticSimilarity, BitextAccuracy, ModalityGap])
def test_they_are_metrics_of_evaluate_and_explain_themselves(metric):
    made = metric()
    assert isinstance(made, evaluate.Metric) and "Args:" in made.inputs_description


def test_recall():
    result = RecallAtK().compute(predictions=[0, 0, 3, 7, 20], references=[1, 5, 1, 1, 1])
    assert result == pytest.approx({"R@1": 0.4, "R@5": 0.6, "R@10": 0.8, "median_rank": 4})
    with pytest.raises(ValueError, match="without a right item"):
        RecallAtK().compute(predictions=[0], references=[0])


def test_accuracy_over_pictures_and_over_classes():
    predictions = [[0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4], [5, 4, 3, 2, 1], [5, 4, 3, 2, 1]]
    result = ClassificationAccuracy().compute(predictions=predictions, references=[0, 0, 1, 5, 0])
    assert result == pytest.approx({"top1": 3 / 5, "top5": 4 / 5, "mean_per_class": (2 / 3 + 0 + 1) / 3})
    assert "top5" not in ClassificationAccuracy().compute(predictions=[[0, 1]], references=[1])


def test_correlations_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    draw = np.random.default_rng(0)
    scores, judged = draw.normal(size=200), draw.integers(0, 6, 200).astype(float)  # many ties
    result = SemanticSimilarity().compute(predictions=scores, references=judged)
    assert result["spearman"] == pytest.approx(stats.spearmanr(scores, judged).statistic)
    assert result["pearson"] == pytest.approx(stats.pearsonr(scores, judged).statistic)


def test_correlations_known_beforehand():
    up = SemanticSimilarity().compute(predictions=[0.1, 0.2, 0.9], references=[1, 2, 3])
    assert up["spearman"] == pytest.approx(1) and up["pearson"] < 1
    assert SemanticSimilarity().compute(predictions=[3, 2, 1], references=[1, 2, 3])["spearman"] == pytest.approx(-1)
    assert np.isnan(SemanticSimilarity().compute(predictions=[1, 1, 1], references=[1, 2, 3])["spearman"])


def test_bitext():
    result = BitextAccuracy().compute(predictions=[0, 0, 2, 1], references=[0, 1, 0, 0])
    assert result == {"forward": 0.5, "backward": 0.75, "mean": 0.625}


def cloud(centre, count=200, width=16, spread=0.1, seed=0):
    noise = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(centre + spread * noise, dim=1)


def test_a_gap_that_is_there_and_one_that_is_not():
    first, second = torch.eye(16)[0], torch.eye(16)[1]
    apart = modality_gap(cloud(first), cloud(second, seed=1))
    assert apart["separability"] == 1 and apart["distance"] == pytest.approx(2**0.5 * 0.93, abs=0.05)
    together = modality_gap(cloud(first), cloud(first, seed=1))
    assert 0.35 < together["separability"] < 0.65 and together["distance"] < 0.05
    same = modality_gap(cloud(first), cloud(first))
    assert same["distance"] == 0 and same["paired_cosine"] == pytest.approx(1)


def test_the_gap_is_the_distance_of_the_centroids_and_the_cosines_are_means():
    images, texts = cloud(torch.eye(16)[0], 7), cloud(torch.eye(16)[2], 7, seed=3)
    result = ModalityGap().compute(predictions=images.tolist(), references=texts.tolist())
    cosines = (images @ texts.T).double()
    others = cosines[~torch.eye(7, dtype=torch.bool)]
    assert result["distance"] == pytest.approx((images.mean(0) - texts.mean(0)).norm().item(), abs=1e-6)
    assert result["paired_cosine"] == pytest.approx(cosines.diagonal().mean().item(), abs=1e-6)
    assert result["other_cosine"] == pytest.approx(others.mean().item(), abs=1e-6)
    with pytest.raises(ValueError, match="at least four; got 3 and 3"):
        modality_gap(images[:3], texts[:3])
