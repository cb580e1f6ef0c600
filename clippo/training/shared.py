"""What the trainers and runs of pretraining and fine-tuning have in common."""

import logging
from pathlib import Path

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

logger = logging.getLogger(__name__)


class EvaluatesEveryRow:
    """Mixin for a Trainer with an `eval_collator`: Trainer has one collator and one `drop_last` for training and
    evaluation, but evaluation counts every row, unaugmented.
    """

    def get_eval_dataloader(self, eval_dataset=None):
        in_training = self.data_collator, self.args.dataloader_drop_last
        self.data_collator, self.args.dataloader_drop_last = self.eval_collator, False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator, self.args.dataloader_drop_last = in_training


def require_finite(loss: torch.Tensor, step: int) -> None:
    """Stops a run before a loss that is not finite changes anything.

    Raises:
        FloatingPointError: It is not.
    """
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"The loss is {loss.item()} in step {step}; the run stops before this step changes anything, and a restart "
            "goes on from the last checkpoint. Look at learning_rate, max_grad_norm and the precision (bf16 instead of "
            "fp16); in pretraining at logit_scale_max."
        )


def checkpoint_to_resume(args: TrainingArguments) -> str | bool | None:
    """What `Trainer.train` is to resume from: what was asked for, else the last checkpoint of `output_dir`, if any."""
    checkpoint = args.resume_from_checkpoint
    if checkpoint is None and Path(args.output_dir).is_dir():
        checkpoint = get_last_checkpoint(args.output_dir)
    if checkpoint:
        logger.info("Resuming from %s", checkpoint)
    return checkpoint
