"""Draw the curves of one or several consecutive runs: `python scripts/plot_training.py runs/emoji_en runs/emoji`."""

import argparse

from clippo.visualization.curves import draw_curves

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", help="output folders of scripts/pretrain.py, in order")
    parser.add_argument("--output", default="training.png", help="image file to write")
    args = parser.parse_args()
    draw_curves(args.runs, args.output)
    print(f"Wrote {args.output}")
