"""Fine-tune a CLIPPO on GLUE: `python scripts/finetune_glue.py --model FOLDER --tasks mrpc rte --output_dir runs/glue`.

`--help` lists all arguments. The same command resumes an interrupted run.
"""

from clippo.tasks.glue.finetune import main

if __name__ == "__main__":
    main()
