"""Optimizer and schedule of a run: Trainer's own, or the paper's.

The paper's optimizer is in `adafactor.py`. Its schedule is an inverse square root with a linear start and a linear end.
Source: big_vision `utils.py` (`create_learning_rate_schedule`, decay_type "rsqrt").
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainingArguments

from clippo.training.adafactor import BigVisionAdafactor, official_layouts

logger = logging.getLogger(__name__)

OPTIMIZERS = ("trainer", "adafactor_big_vision")
SCHEDULES = ("trainer", "rsqrt")
DEFAULT_TIMESCALE = 10_000
LARGE_WEIGHT_DECAY = 0.01


@dataclass
class OptimizerArguments:
    """Optimizer and schedule. Learning rate, weight decay, betas, warm-up and gradient clipping belong to Trainer.

    The paper's recipe is adafactor_big_vision, rsqrt, learning_rate 1e-3, weight_decay 1e-4, adam_beta1 0.9,
    adam_beta2 0.999, max_grad_norm 1.0, and 10,000 for each of warmup_steps, cooldown_steps and rsqrt_timescale.

    Raises:
        ValueError: A name is unknown, or a setting belongs to a schedule that is not chosen.

    Example:
        >>> from clippo.training.optimization import OptimizerArguments
        >>> OptimizerArguments("adafactor_big_vision", "rsqrt", cooldown_steps=10_000).rsqrt_timescale
        10000
    """

    optimizer: str = field(
        default="trainer",
        metadata={
            "help": "'trainer' (see --optim) or 'adafactor_big_vision', the paper's: --adam_beta1 is its momentum, "
            "--adam_beta2 the cap of its second-moment decay; --weight_decay follows the schedule but is not "
            "multiplied by the learning rate (the paper has 1e-4)."
        },
    )
    schedule: str = field(
        default="trainer",
        metadata={"help": "'trainer' (see --lr_scheduler_type) or 'rsqrt', the paper's; both use --warmup_steps."},
    )
    rsqrt_timescale: int = field(
        default=DEFAULT_TIMESCALE, metadata={"help": "rsqrt: steps after which the decay begins."}
    )
    cooldown_steps: int = field(
        default=0, metadata={"help": "rsqrt: steps at the end in which the learning rate falls linearly to 0."}
    )

    def __post_init__(self):
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} is not known; write one of {', '.join(known)}.")
        if self.rsqrt_timescale <= 0:
            raise ValueError(f"rsqrt_timescale={self.rsqrt_timescale} must be positive.")
        if self.cooldown_steps < 0:
            raise ValueError(f"cooldown_steps={self.cooldown_steps} must not be negative.")
        if self.schedule != "rsqrt":
            for name, default in (("cooldown_steps", 0), ("rsqrt_timescale", DEFAULT_TIMESCALE)):
                if getattr(self, name) != default:
                    raise ValueError(f"{name}={getattr(self, name)} needs schedule=rsqrt; set that or leave it out.")


def rsqrt_schedule(
    total_steps: int, timescale: int = DEFAULT_TIMESCALE, warmup_steps: int = 0, cooldown_steps: int = 0
) -> Callable[[int], float]:
    """Multiplier of the base learning rate as a function of the number of steps already taken.

    With step s, warm-up w, cool-down c and timescale t it is

        min(1, s / w) * 1 / sqrt(1 + max(0, s - w) / t) * min(1, (total - s) / c)

    The first step of a warm-up has rate 0, and the rate halves 3 t steps after the warm-up.

    Args:
        total_steps: Steps of the run; the cool-down ends there.
        timescale: Steps after which the decay begins; the paper's recipe has 10,000, the COCO sanity run 100.
        warmup_steps: Steps of the linear rise from 0.
        cooldown_steps: Steps of the linear fall to 0 at the end, on top of the decay.

    Raises:
        ValueError: A number is out of range, or warm-up and cool-down do not fit into the run.
    """
    _check_schedule(total_steps, timescale, warmup_steps, cooldown_steps)

    def multiplier(step: int) -> float:
        value = 1.0 / math.sqrt(1.0 + max(0, step - warmup_steps) / timescale)
        if warmup_steps:
            value *= min(1.0, step / warmup_steps)
        if cooldown_steps:
            value *= min(1.0, max(0, total_steps - step) / cooldown_steps)  # 0 in steps after the end
        return value

    return multiplier


def _check_schedule(total_steps: int, timescale: int, warmup_steps: int, cooldown_steps: int) -> None:
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


def rsqrt_scheduler(
    optimizer: Optimizer,
    total_steps: int,
    timescale: int = DEFAULT_TIMESCALE,
    warmup_steps: int = 0,
    cooldown_steps: int = 0,
) -> LambdaLR:
    """Returns `rsqrt_schedule` as a torch scheduler, with one step for each step of the optimizer."""
    return LambdaLR(optimizer, rsqrt_schedule(total_steps, timescale, warmup_steps, cooldown_steps))


def decay_parameter_names(model: nn.Module) -> list[str]:
    """Returns kernels only, as big_vision's `.*/kernel$`: no bias, LayerNorm, position, probe, temperature."""
    kernels = (".weight", ".up_proj", ".down_proj")  # the last two are the stacked kernels of experts
    return [name for name, p in model.named_parameters() if name.endswith(kernels) and p.ndim >= 2]


def create_optimizer(
    model: nn.Module, training_args: TrainingArguments, optimizer_args: OptimizerArguments
) -> Optimizer | None:
    """Returns the paper's optimizer over the trainable parameters, or None where Trainer makes its own.

    Args:
        model: CLIPPO model with its config, whole: before FSDP 1 or ZeRO would flatten it.
        training_args: Source of learning_rate, weight_decay, adam_beta1 (momentum) and adam_beta2 (cap).
        optimizer_args: Choice of the optimizer.

    Raises:
        ValueError: `optim` names another optimizer, DeepSpeed is on, or a number is out of its range.
    """
    if optimizer_args.optimizer == "trainer":
        return None
    _check_optimizer_arguments(training_args, optimizer_args)
    layouts, decayed = official_layouts(model), set(decay_parameter_names(model))
    groups = []
    for weight_decay, chosen in ((training_args.weight_decay, True), (0.0, False)):
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad and (n in decayed) == chosen}
        parameters, own = list(trained.values()), [layouts[name] for name in trained]
        groups.append({"params": parameters, "layouts": own, "weight_decay": weight_decay})
    return BigVisionAdafactor(
        groups,
        lr=training_args.learning_rate,
        momentum=training_args.adam_beta1,
        beta2_cap=training_args.adam_beta2,
    )


def _check_optimizer_arguments(training_args: TrainingArguments, optimizer_args: OptimizerArguments) -> None:
    _refuse_if_set(training_args, "optim", f"optimizer={optimizer_args.optimizer}")
    if training_args.deepspeed:
        raise ValueError(
            f"optimizer={optimizer_args.optimizer} needs whole parameters, which DeepSpeed ZeRO flattens; "
            "use FSDP version 2 or DDP."
        )
    if training_args.weight_decay > LARGE_WEIGHT_DECAY:
        logger.warning(
            "weight_decay=%g takes that share of every kernel in each step, whatever the learning rate; the paper's is "
            "1e-4. AdamW's weight_decay times its learning rate is the number to compare with.",
            training_args.weight_decay,
        )


def create_scheduler(
    optimizer: Optimizer, training_args: TrainingArguments, optimizer_args: OptimizerArguments, num_training_steps: int
) -> LambdaLR | None:
    """Returns the paper's schedule for an optimizer, or None where Trainer makes its own.

    Args:
        optimizer: Any optimizer; its learning rates are the base rates.
        training_args: Source of `warmup_steps`, a share of the run when below 1.
        optimizer_args: Choice of the schedule, its timescale and cool-down.
        num_training_steps: Optimizer steps of the whole run.

    Raises:
        ValueError: `lr_scheduler_type` names another schedule, or warm-up and cool-down do not fit into the run.
    """
    if optimizer_args.schedule == "trainer":
        return None
    _refuse_if_set(training_args, "lr_scheduler_type", f"schedule={optimizer_args.schedule}")
    return rsqrt_scheduler(
        optimizer,
        num_training_steps,
        optimizer_args.rsqrt_timescale,
        training_args.get_warmup_steps(num_training_steps),
        optimizer_args.cooldown_steps,
    )


def _refuse_if_set(training_args: TrainingArguments, name: str, choice: str) -> None:
    value, default = getattr(training_args, name), TrainingArguments.__dataclass_fields__[name].default
    if value != default:
        raise ValueError(f"{name}={getattr(value, 'value', value)} and {choice} contradict each other; leave one out.")
