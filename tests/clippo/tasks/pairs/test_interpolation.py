"""Weights between two models, and the rule that chooses among them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clippo.tasks.pairs.interpolation import Point, choose, interpolate

from ....tiny import tiny_model

ROLES = {"new": "new", "old": "old", "other": "report"}


def point(alpha, new, old, other=0.0):
    return Point(alpha, {"new": new, "old": old, "other": other})


def test_the_ends_are_the_models_and_the_middle_is_the_mean():
    before, after = (tiny_model(seed=seed).state_dict() for seed in (0, 1))
    for alpha, end in ((0, before), (1, after)):
        assert all(torch.equal(tensor, end[name]) for name, tensor in interpolate(before, after, alpha).items())
    middle = interpolate(before, after, 0.5)
    torch.testing.assert_close(
        middle["projection.weight"], (before["projection.weight"] + after["projection.weight"]) / 2
    )


def test_models_of_two_configs_are_refused():
    before, after = tiny_model().state_dict(), tiny_model(projection_dim=16).state_dict()
    with pytest.raises(ValueError, match="2 tensors differ in name or shape"):
        interpolate(before, after, 0.5)


def test_the_best_new_task_among_those_that_keep_the_old_one():
    points = [point(0, 0.2, 0.9), point(0.5, 0.6, 0.891), point(0.8, 0.7, 0.88), point(1, 0.8, 0.1, other=1.0)]
    assert choose(points, ROLES).alpha == 0.5
    assert choose(points, ROLES, keep=0.03).alpha == 0.8
    assert choose(points, {"new": "new"}).alpha == 1
    assert choose(points, {"old": "old"}, keep=0.02).alpha == 0.8


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=9), st.floats(0, 0.5))
def test_the_choice_never_loses_more_than_it_may(values, keep):
    points = [point(i, new, old) for i, (new, old) in enumerate(values)]
    chosen = choose(points, ROLES, keep)
    assert chosen.metrics["old"] >= points[0].metrics["old"] - keep - 1e-9
    assert chosen.metrics["new"] >= points[0].metrics["new"]
