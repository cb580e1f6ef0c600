"""Checkpoints of a run in its output folder."""

import logging
from pathlib import Path

from transformers import TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

logger = logging.getLogger(__name__)


def checkpoint_to_resume(args: TrainingArguments) -> str | bool | None:
    """Returns the argument of `Trainer.train`: `resume_from_checkpoint` if given, else the last checkpoint, if any."""
    checkpoint = args.resume_from_checkpoint
    if checkpoint is None and Path(args.output_dir).is_dir():
        checkpoint = get_last_checkpoint(args.output_dir)
    if checkpoint:
        logger.info("Resuming from %s", checkpoint)
    return checkpoint
