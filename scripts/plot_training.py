"""Draws the curves of consecutive runs: `python scripts/plot_training.py runs/emoji_en runs/emoji`."""

from clippo.visualization.curves import main

if __name__ == "__main__":
    main()
