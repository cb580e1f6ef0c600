"""Train a CLIPPO on image-text pairs: `python scripts/pretrain.py recipes/emoji.yaml [--field value ...]`.

All of transformers' TrainingArguments are understood, in the recipe and on the command line.
"""

import logging
import sys

from transformers import TrainingArguments

from clippo.training.arguments import DataArguments, ModelArguments, StepArguments, parse_recipe
from clippo.training.optimization import OptimizerArguments
from clippo.training.pretraining import pretrain

if __name__ == "__main__":
    if len(sys.argv) == 1:
        raise SystemExit(__doc__)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    kinds = (ModelArguments, DataArguments, TrainingArguments, StepArguments, OptimizerArguments)
    pretrain(*parse_recipe(kinds, sys.argv[1:]))
