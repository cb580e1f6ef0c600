"""Which optimizer and schedule a run uses: Trainer's own, or the paper's."""

import logging
from dataclasses import dataclass, field

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainingArguments

from clippo.training.adafactor import BigVisionAdafactor, official_layouts
from clippo.training.schedule import rsqrt_scheduler

logger = logging.getLogger(__name__)

OPTIMIZERS = ("trainer", "adafactor_big_vision")
SCHEDULES = ("trainer", "rsqrt")
DEFAULT_TIMESCALE = 10_000
LARGE_WEIGHT_DECAY = 0.01


@dataclass
class OptimizerArguments:
    """Optimizer and schedule. Learning rate, weight decay, betas, warm-up and gradient clipping are Trainer's.

    The paper's recipe: adafactor_big_vision, rsqrt, learning_rate 1e-3, weight_decay 1e-4, adam_beta1 0.9,
    adam_beta2 0.999, max_grad_norm 1.0, warmup_steps, cooldown_steps and rsqrt_timescale 10,000.

    Raises:
        ValueError: An unknown name, or a setting of a schedule that is not the chosen one.
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
        default=DEFAULT_TIMESCALE, metadata={"help": "rsqrt: steps after which the decay sets in."}
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


def decay_parameter_names(model: nn.Module) -> list[str]:
    """Kernels only, as big_vision's `.*/kernel$`: no bias, LayerNorm, position, probe, temperature or logit bias."""
    return [name for name, p in model.named_parameters() if name.endswith(".weight") and p.ndim >= 2]


def create_optimizer(
    model: nn.Module, training_args: TrainingArguments, optimizer_args: OptimizerArguments
) -> Optimizer | None:
    """The paper's optimizer over the parameters that are trained, or None where Trainer makes its own.

    Args:
        model: A CLIPPO model, with its config; the whole one, before FSDP 1 or ZeRO would flatten it.
        training_args: learning_rate, weight_decay, adam_beta1 (momentum) and adam_beta2 (cap) are used.
        optimizer_args: Which one.

    Raises:
        ValueError: `optim` names another optimizer, DeepSpeed is on, or a number is out of its range.
    """
    if optimizer_args.optimizer == "trainer":
        return None
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
    layouts, decayed = official_layouts(model), set(decay_parameter_names(model))
    groups = []
    for weight_decay, chosen in ((training_args.weight_decay, True), (0.0, False)):
        trained = {n: p for n, p in model.named_parameters() if p.requires_grad and (n in decayed) == chosen}
        groups.append(
            {
                "params": list(trained.values()),
                "layouts": [layouts[name] for name in trained],
                "weight_decay": weight_decay,
            }
        )
    return BigVisionAdafactor(
        groups,
        lr=training_args.learning_rate,
        momentum=training_args.adam_beta1,
        beta2_cap=training_args.adam_beta2,
    )


def create_scheduler(
    optimizer: Optimizer, training_args: TrainingArguments, optimizer_args: OptimizerArguments, num_training_steps: int
) -> LambdaLR | None:
    """The paper's schedule for an optimizer, or None where Trainer makes its own.

    Args:
        optimizer: Any; its learning rates are the base rates.
        training_args: `warmup_steps` (a share of the run when below 1) is used.
        optimizer_args: Which one, timescale and cool-down.
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
