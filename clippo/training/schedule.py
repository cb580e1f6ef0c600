"""The learning rate schedule of the paper: inverse square root with a linear start and a linear end.

Source: big_vision `utils.py` (`create_learning_rate_schedule`, decay_type "rsqrt").
"""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def rsqrt_schedule(
    total_steps: int, timescale: int = 10_000, warmup_steps: int = 0, cooldown_steps: int = 0
) -> Callable[[int], float]:
    """Multiplier of the base learning rate as a function of the number of steps already taken.

    With step s, warm-up w, cool-down c and timescale t it is

        min(1, s / w) * 1 / sqrt(1 + max(0, s - w) / t) * min(1, (total - s) / c)

    so the very first step of a warm-up is one of rate 0, and the rate halves 3 t steps after the warm-up.

    Args:
        total_steps: Steps of the run; the cool-down ends there.
        timescale: Steps after which the decay sets in; the paper's recipe has 10,000, the COCO sanity run 100.
        warmup_steps: Steps of the linear rise from 0.
        cooldown_steps: Steps of the linear fall to 0 at the end, on top of the decay.

    Raises:
        ValueError: A number is out of range, or warm-up and cool-down do not fit into the run.
    """
    if total_steps < 1:
        raise ValueError(f"total_steps={total_steps} must be at least 1.")
    if timescale <= 0:
        raise ValueError(f"rsqrt_timescale={timescale} must be positive.")
    if warmup_steps < 0 or cooldown_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps} and cooldown_steps={cooldown_steps} must not be negative.")
    if warmup_steps + cooldown_steps > total_steps:
        raise ValueError(
            f"warmup_steps={warmup_steps} and cooldown_steps={cooldown_steps} do not fit into {total_steps} training "
            "steps; shorten them or train longer."
        )
    if warmup_steps == total_steps:
        raise ValueError(
            f"warmup_steps={warmup_steps} leaves none of the {total_steps} training steps at the full learning rate; "
            "shorten it or train longer."
        )

    def multiplier(step: int) -> float:
        value = 1.0 / math.sqrt(1.0 + max(0, step - warmup_steps) / timescale)
        if warmup_steps:
            value *= min(1.0, step / warmup_steps)
        if cooldown_steps:
            value *= min(1.0, max(0, total_steps - step) / cooldown_steps)  # a run that goes on learns nothing more
        return value

    return multiplier


def rsqrt_scheduler(
    optimizer: Optimizer, total_steps: int, timescale: int = 10_000, warmup_steps: int = 0, cooldown_steps: int = 0
) -> LambdaLR:
    """`rsqrt_schedule` as a torch scheduler, one step of it for each step of the optimizer."""
    return LambdaLR(optimizer, rsqrt_schedule(total_steps, timescale, warmup_steps, cooldown_steps))
