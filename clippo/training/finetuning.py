"""transformers.Trainer for fine-tuning: smaller learning rates for lower layers or the tower, a clock of data waits."""

import re

import torch
from transformers import Trainer

from clippo.training.checkpoints import CheckpointMixin
from clippo.training.compilation import compile_blocks
from clippo.training.memory import keep_freed_memory
from clippo.training.meters import WaitClock
from clippo.training.optimization import decay_parameter_names


class EvalDataMixin:
    """Mixin for a Trainer that evaluates every row with `eval_collator`.

    Trainer itself has one collator and one `drop_last` for training and evaluation.
    """

    def get_eval_dataloader(self, eval_dataset=None):
        in_training = self.data_collator, self.args.dataloader_drop_last
        self.data_collator, self.args.dataloader_drop_last = self.eval_collator, False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator, self.args.dataloader_drop_last = in_training


def require_finite(loss: torch.Tensor, step: int) -> None:
    """Stops a run before a loss that is not finite changes the weights.

    Raises:
        FloatingPointError: The loss is not finite.
    """
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"The loss is {loss.item()} in step {step}; the run stops before this step changes anything, and a restart "
            "resumes from the last checkpoint. Look at learning_rate, max_grad_norm and the precision (bf16 instead of "
            "fp16); in pretraining at logit_scale_max."
        )


def depth_of(name: str, num_layers: int) -> int:
    """Returns the depth of a parameter: 0 for the embeddings, 1..L for the blocks, L + 1 for everything above them.

    Args:
        name: Name as in `named_parameters`, with or without the prefixes of distribution and compilation.
        num_layers: Number L of blocks.
    """
    block = re.search(r"(vision|image)_model\..*?layers\.(\d+)\.", name)
    if block:
        return int(block[2]) + 1
    return 0 if re.search(r"(vision|image)_model\.embeddings\.", name) else num_layers + 1


def is_of_tower(name: str) -> bool:
    """Returns whether a parameter belongs to the tower. Heads, fusion and decoder stand beside it."""
    return "vision_model." in name


class LayerRatesMixin:
    """Mixin for a Trainer with smaller rates for lower layers.

    Args:
        layer_decay: The rate at depth d is `layer_decay ** (L + 1 - d)` times that of the classifier, pooling head and
            last LayerNorm (d = L + 1). 1 gives all layers one rate.
        tower_lr_scale: Factor of the tower's rates to those of the layers beside it. 0 freezes the tower: it has no
            gradient, no state in the optimizer and no dropout.

    Raises:
        ValueError: `layer_decay` is not in (0, 1], or `tower_lr_scale` not in [0, 1].
    """

    def __init__(self, *args, layer_decay: float = 1.0, tower_lr_scale: float = 1.0, **kwargs):
        if not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay={layer_decay} is not a factor in (0, 1]; 1 trains all layers alike.")
        if not 0 <= tower_lr_scale <= 1:
            raise ValueError(f"tower_lr_scale={tower_lr_scale} is not a factor from 0 to 1; 0 freezes the tower.")
        super().__init__(*args, **kwargs)
        self.layer_decay, self.tower_lr_scale = layer_decay, tower_lr_scale
        if tower_lr_scale == 0:
            self.model.vision_model.requires_grad_(False)

    def create_optimizer(self, *args, **kwargs):
        if self.optimizer is None:
            optimizer = super().create_optimizer(*args, **kwargs)
            if self.layer_decay < 1 or self.tower_lr_scale < 1:
                self._scale_rates(optimizer)
        return self.optimizer

    def _scale_rates(self, optimizer) -> None:
        """Divides the optimizer's groups by rate. The schedule, made later, multiplies each group's own rate."""
        scale = {id(p): self._rate_scale(name) for name, p in self.model.named_parameters()}
        groups = []
        for group in optimizer.param_groups:
            for factor in sorted({scale[id(p)] for p in group["params"]}):
                parameters = [p for p in group["params"] if scale[id(p)] == factor]
                groups.append({**group, "params": parameters, "lr": group["lr"] * factor})
        optimizer.param_groups = groups

    def _rate_scale(self, name: str) -> float:
        layers = self.model.config.num_hidden_layers
        decay = self.layer_decay ** (layers + 1 - depth_of(name, layers))
        return decay * (self.tower_lr_scale if is_of_tower(name) else 1.0)


class FineTuningTrainer(LayerRatesMixin, CheckpointMixin, EvalDataMixin, Trainer):
    """Trainer with smaller rates for lower layers that reports the share of its time spent waiting for data.

    It logs `data_wait_share` at the end of training. Texts are rendered within that time unless workers do it.

    Args:
        layer_decay: See `LayerRatesMixin`.
        tower_lr_scale: See `LayerRatesMixin`.
        eval_collator: Replaces the data collator in evaluation, where images are not augmented.
        settings: Settings beside TrainingArguments that change the weights, see `CheckpointMixin`.

    Raises:
        ValueError: `layer_decay` is not in (0, 1], or `tower_lr_scale` not in [0, 1].
        FloatingPointError: The loss is not finite.

    Example:
        >>> import tempfile
        >>> import clippo
        >>> from transformers import TrainingArguments
        >>> from clippo.training.finetuning import FineTuningTrainer
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     arguments = TrainingArguments(folder, use_cpu=True, learning_rate=0.1, report_to="none")
        ...     model = clippo.ClippoForSequenceClassification(config)
        ...     trainer = FineTuningTrainer(model, arguments, layer_decay=0.5)
        >>> sorted({group["lr"] for group in trainer.create_optimizer().param_groups})
        [0.025, 0.05, 0.1]
    """

    def __init__(self, *args, eval_collator=None, **kwargs):
        super().__init__(*args, **kwargs)
        if self.args.torch_compile:
            compile_blocks(self)
        self.eval_collator = eval_collator or self.data_collator
        self.clock = WaitClock()
        self.data_wait = 0.0  # seconds of the last training

    def get_decay_parameter_names(self, model) -> list[str]:
        """Returns kernels only, as in pretraining: no bias, LayerNorm, position or probe."""
        return decay_parameter_names(model)

    def compute_loss(self, model, inputs, return_outputs: bool = False, **kwargs):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if model.training:
            require_finite(loss.detach(), self.state.global_step + 1)
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, *args, **kwargs):
        with self.clock.waiting():
            return super().get_batch_samples(*args, **kwargs)

    def train(self, *args, **kwargs):
        keep_freed_memory(self.args.device)
        self.clock.lap()
        result = super().train(*args, **kwargs)
        elapsed, self.data_wait = self.clock.lap()
        result.metrics["data_wait_share"] = round(self.data_wait / elapsed, 4)
        self.log({"data_wait_share": result.metrics["data_wait_share"]})
        return result

    def evaluate(self, *args, **kwargs):
        with self.clock.excluded():
            return super().evaluate(*args, **kwargs)
