"""Trains a CLIPPO on pairs: `python scripts/pretrain.py recipes/emoji.yaml [--field value ...]`."""

from clippo.training.pretraining import main

if __name__ == "__main__":
    main()
