"""Train a CLIPPO to answer questions about pictures: `python scripts/finetune_vqa.py recipe.yaml [--field value ...]`.

All of transformers' TrainingArguments are understood, in the recipe and on the command line.
"""

import logging
import sys

from transformers import TrainingArguments

from clippo.tasks.vqa.finetune import VqaDataArguments, VqaModelArguments, finetune_vqa
from clippo.training.arguments import parse_recipe

if __name__ == "__main__":
    if len(sys.argv) == 1:
        raise SystemExit(__doc__)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    finetune_vqa(*parse_recipe((VqaModelArguments, VqaDataArguments, TrainingArguments), sys.argv[1:]))
