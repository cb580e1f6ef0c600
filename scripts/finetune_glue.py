"""Fine-tune a CLIPPO on GLUE: `python scripts/finetune_glue.py --model FOLDER --tasks mrpc rte --output_dir runs/glue`.

All of transformers' TrainingArguments are understood; a recipe (YAML or JSON) may come first. A stopped run goes on
when the same command is given again.
"""

import logging
import sys

from clippo.tasks.glue.finetune import GlueArguments, GlueTrainingArguments, markdown, run_glue
from clippo.training.arguments import parse_recipe

if __name__ == "__main__":
    if len(sys.argv) == 1:
        raise SystemExit(__doc__)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    print(markdown(run_glue(*parse_recipe((GlueArguments, GlueTrainingArguments), sys.argv[1:]))))
