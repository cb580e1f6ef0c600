"""transformers.Trainer for fine-tuning: smaller steps for lower layers, and a clock on the wait for data."""

import re
import time

from transformers import Trainer

from clippo.training.optimization import decay_parameter_names
from clippo.training.shared import EvaluatesEveryRow, require_finite


def depth_of(name: str, num_layers: int) -> int:
    """How high up a parameter lies: 0 the embeddings, 1..L the blocks, L + 1 all that stands on them.

    Args:
        name: As `named_parameters` gives it, with or without the wrappers of distribution and compilation.
        num_layers: L.
    """
    block = re.search(r"vision_model\..*?layers\.(\d+)\.", name)
    if block:
        return int(block[1]) + 1
    return 0 if "vision_model.embeddings." in name else num_layers + 1


class FineTuningTrainer(EvaluatesEveryRow, Trainer):
    """Trainer with layer-wise learning-rate decay, which reports how much of its time it waited for batches.

    Args:
        layer_decay: The rate of depth d is `layer_decay ** (L + 1 - d)` times that of the classifier, pooling head and
            last LayerNorm (d = L + 1); 1 trains all alike.
        eval_collator: Replaces the data collator in evaluation, where pictures are not augmented.

    Logged at the end of training: `data_wait_share`, the part of the training loop's time in which it stood still until
    the next batch was there. Texts are drawn within that time, unless workers do it.

    Raises:
        FloatingPointError: The loss is not finite.
    """

    def __init__(self, *args, layer_decay: float = 1.0, eval_collator=None, **kwargs):
        if not 0 < layer_decay <= 1:
            raise ValueError(f"layer_decay={layer_decay} is no factor in (0, 1]; 1 trains all layers alike.")
        super().__init__(*args, **kwargs)
        self.layer_decay = layer_decay
        self.eval_collator = eval_collator or self.data_collator
        self.data_wait = 0.0

    def get_decay_parameter_names(self, model) -> list[str]:
        """Kernels only, as in pretraining: no bias, LayerNorm, position or probe."""
        return decay_parameter_names(model)

    def create_optimizer(self, *args, **kwargs):
        if self.optimizer is None:
            optimizer = super().create_optimizer(*args, **kwargs)
            if self.layer_decay < 1:
                self._scale_rates(optimizer)
        return self.optimizer

    def _scale_rates(self, optimizer) -> None:
        """Divides the optimizer's groups by depth. The schedule, made later, multiplies each group's own rate."""
        layers = self.model.config.num_hidden_layers
        depth = {id(p): depth_of(name, layers) for name, p in self.model.named_parameters()}
        groups = []
        for group in optimizer.param_groups:
            for d in sorted({depth[id(p)] for p in group["params"]}):
                parameters = [p for p in group["params"] if depth[id(p)] == d]
                rate = group["lr"] * self.layer_decay ** (layers + 1 - d)
                groups.append({**group, "params": parameters, "lr": rate})
        optimizer.param_groups = groups

    def compute_loss(self, model, inputs, return_outputs: bool = False, **kwargs):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
        if model.training:
            require_finite(loss.detach(), self.state.global_step + 1)
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, *args, **kwargs):
        start = time.perf_counter()
        batches = super().get_batch_samples(*args, **kwargs)
        self.data_wait += time.perf_counter() - start
        return batches

    def train(self, *args, **kwargs):
        self.data_wait, self._in_evaluation = 0.0, 0.0
        start = time.perf_counter()
        result = super().train(*args, **kwargs)
        training = time.perf_counter() - start - self._in_evaluation
        result.metrics["data_wait_share"] = round(self.data_wait / training, 4)
        self.log({"data_wait_share": result.metrics["data_wait_share"]})
        return result

    def evaluate(self, *args, **kwargs):
        start = time.perf_counter()
        metrics = super().evaluate(*args, **kwargs)
        self._in_evaluation = getattr(self, "_in_evaluation", 0.0) + time.perf_counter() - start
        return metrics
