"""The paper's schedule: its formula, its edges, its place in a torch run."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from clippo.training.schedule import rsqrt_schedule, rsqrt_scheduler


def test_values_by_hand():
    """Warm-up 2 and timescale 4 are those of the official five steps (tests/goldens/tiny_train5.npz)."""
    schedule = rsqrt_schedule(100, timescale=4, warmup_steps=2)
    expected = [0.0, 0.5, 1.0, 1 / math.sqrt(1.25), 1 / math.sqrt(1.5), 1 / math.sqrt(1.75), 1 / math.sqrt(2)]
    assert [schedule(step) for step in range(7)] == pytest.approx(expected, rel=1e-12)


def test_the_cool_down_multiplies_the_decay():
    plain, cooled = rsqrt_schedule(10, timescale=3), rsqrt_schedule(10, timescale=3, cooldown_steps=4)
    shares = [cooled(step) / plain(step) for step in range(12)]
    assert shares == pytest.approx([1.0] * 7 + [0.75, 0.5, 0.25, 0.0, 0.0])


def test_the_full_recipe():
    schedule = rsqrt_schedule(100_000, 10_000, 10_000, 10_000)
    assert (schedule(0), schedule(5_000), schedule(10_000)) == (0.0, 0.5, 1.0)
    assert schedule(40_000) == pytest.approx(0.5)  # three timescales after the warm-up
    assert schedule(90_000) == pytest.approx(1 / 3)
    assert schedule(95_000) == pytest.approx(0.5 / math.sqrt(9.5))
    assert schedule(100_000) == 0.0


@given(
    warmup=st.integers(0, 50), cooldown=st.integers(0, 50), between=st.integers(1, 50), timescale=st.integers(1, 100)
)
def test_it_rises_and_then_falls(warmup, cooldown, between, timescale):
    total = warmup + between + cooldown
    schedule = rsqrt_schedule(total, timescale, warmup, cooldown)
    values = [schedule(step) for step in range(total + 1)]
    assert values[warmup] == max(values) == 1.0
    assert values[: warmup + 1] == sorted(values[: warmup + 1])
    assert values[warmup:] == sorted(values[warmup:], reverse=True)
    assert min(values) >= 0.0


def test_the_scheduler_scales_every_group_and_goes_on_after_a_restart():
    parameters = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    groups = [{"params": parameters[:1], "lr": 2.0}, {"params": parameters[1:], "lr": 1.0}]

    def advance(scheduler, steps):
        rates = []
        for _ in range(steps):
            rates.append([group["lr"] for group in scheduler.optimizer.param_groups])
            scheduler.optimizer.step()
            scheduler.step()
        return rates

    def new():
        return rsqrt_scheduler(torch.optim.SGD([dict(group) for group in groups]), 8, 2, 2, 2)

    whole = advance(new(), 8)
    formula = rsqrt_schedule(8, 2, 2, 2)
    assert whole == [[2.0 * formula(step), formula(step)] for step in range(8)]
    first, second = new(), new()
    begun = advance(first, 3)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert begun + advance(second, 5) == whole


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (dict(total_steps=0), "total_steps=0 must be at least 1"),
        (dict(total_steps=9, timescale=0), "rsqrt_timescale=0 must be positive"),
        (dict(total_steps=9, warmup_steps=-1), "warmup_steps=-1 and cooldown_steps=0 must not be negative"),
        (dict(total_steps=9, warmup_steps=5, cooldown_steps=5), "cooldown_steps=5 do not fit into 9 training steps"),
        (dict(total_steps=9, warmup_steps=9), "warmup_steps=9 leaves none of the 9 training steps"),
    ],
)
def test_numbers_that_make_no_schedule(numbers, message):
    with pytest.raises(ValueError, match=message):
        rsqrt_schedule(**numbers)
