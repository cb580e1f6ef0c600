"""Prints memory of one GPU and days of a training run, computed without a GPU.

python scripts/plan_training.py --preset L/16 --global_batch 32768 --gpus 64
python scripts/plan_training.py --preset B/16 --global_batch 10240 32768 --gpus 8 32 128 --text_patches 28
"""

from clippo.training.planning import main

if __name__ == "__main__":
    main()
