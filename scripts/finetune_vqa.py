"""Train a CLIPPO to answer questions about images: `python scripts/finetune_vqa.py recipe.yaml [--field value ...]`.

`--help` lists all arguments. The same command resumes an interrupted run.
"""

from clippo.tasks.vqa.finetune import main

if __name__ == "__main__":
    main()
