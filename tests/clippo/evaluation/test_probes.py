"""Probes equal scikit-learn's, and draws of shots are nested and seeded."""

import numpy as np
import pytest
import torch

from clippo.evaluation.probes import BIAS, draw_shots, least_squares, logistic


def data(count, width=12, classes=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(9))
    return 3 + 2 * (centres[labels] + torch.randn(count, width, generator=generator)), labels


@pytest.mark.parametrize("count", [8, 13, 200])  # fewer, as many and more pictures than features
@pytest.mark.parametrize("l2", [1.0, 1024.0])
def test_least_squares_is_ridge_regression(count, l2):
    linear_model = pytest.importorskip("sklearn.linear_model")
    (x, y), (test, _) = data(count), data(50, seed=1)
    scores = least_squares(x, y, 4, l2)(test)

    mean, deviation = x.double().mean(0), x.double().std(0, correction=0) + 1e-5
    x, test = ((np.asarray((part.double() - mean) / deviation)) for part in (x, test))
    with_bias = [np.concatenate([part, np.full((len(part), 1), BIAS)], axis=1) for part in (x, test)]
    ridge = linear_model.Ridge(alpha=l2, fit_intercept=False, solver="svd").fit(with_bias[0], 2 * np.eye(4)[y] - 1)
    np.testing.assert_allclose(scores, ridge.predict(with_bias[1]), atol=1e-9)


def test_it_learns_and_one_picture_a_class_is_enough_to_run():
    (x, y), (test, labels) = data(400), data(200, seed=1)
    assert (least_squares(x, y, 4)(test).argmax(1) == labels).double().mean() > 0.9
    one = torch.tensor([0, 1, 2, 3])
    assert least_squares(x[one], y[one], 4)(x[one]).argmax(1).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_is_scikit_learns(classes):
    linear_model = pytest.importorskip("sklearn.linear_model")
    (x, y), (test, _) = data(120, classes=classes), data(50, classes=classes, seed=1)
    scores = logistic(x, y, classes, c=0.5)(test).softmax(1)
    mean, deviation = x.double().mean(0), x.double().std(0, correction=0) + 1e-5
    fitted = linear_model.LogisticRegression(C=0.5, max_iter=1000).fit(((x - mean) / deviation).numpy(), y.numpy())
    np.testing.assert_allclose(scores, fitted.predict_proba(((test - mean) / deviation).numpy()), atol=1e-9)


def test_a_class_without_pictures_is_never_predicted():
    pytest.importorskip("sklearn")
    x, y = data(60, classes=3)
    y = torch.tensor([0, 2, 3])[y]
    for probe in (least_squares, logistic):
        assert 1 not in probe(x, y, 4)(x).argmax(1)


def test_shots_are_nested_seeded_and_of_every_class():
    labels = [0] * 9 + [1] * 3 + [2] * 30
    five, ten = (draw_shots(labels, 3, shots, seed=1) for shots in (5, 10))
    assert np.bincount(np.asarray(labels)[five]).tolist() == [5, 3, 5]
    assert set(five) <= set(ten) and len(set(ten)) == len(ten) == 9 + 3 + 10
    assert (draw_shots(labels, 3, 5, seed=1) == five).all() and (draw_shots(labels, 3, 5, seed=2) != five).any()


def test_errors():
    x, y = data(8)
    x[3, 2] = torch.inf
    with pytest.raises(ValueError, match="1 features are not finite; the first is row 3"):
        least_squares(x, y, 4)
    with pytest.raises(ValueError, match="training set is empty"):
        least_squares(x[:0], y[:0], 4)
