"""Curves of a run from the log of Trainer: losses, recall, learning rate, throughput."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Panel(NamedTuple):
    """One plot.

    Args:
        title: Title of the plot.
        series: Trainer's name of each line, by label. Lines that were not logged are left out.
        scale: Scale of the vertical axis.

    Example:
        >>> Panel("loss", {"training": "loss"}).scale
        'linear'
    """

    title: str
    series: dict[str, str]
    scale: str = "linear"


PANELS = (
    Panel(
        "loss",
        {
            "training": "loss",
            "image-text": "image_text_loss",
            "text-text": "text_text_loss",
            "validation": "eval_loss",
        },
    ),
    Panel(
        "recall on validation pairs, text to image",
        {
            "R@1": "eval_text_to_image_R@1",
            "R@5": "eval_text_to_image_R@5",
            "R@10": "eval_text_to_image_R@10",
        },
    ),
    Panel("R@1 among the batch, training", {"R@1": "in_batch_R@1"}),
    Panel("learning rate", {"learning rate": "learning_rate"}),
    Panel("gradient norm", {"gradient norm": "grad_norm"}, scale="log"),
    Panel("pairs per second", {"pairs per second": "pairs_per_second"}),
    Panel("share of the time spent waiting for data", {"waiting": "data_wait"}),
)


def read_history(runs: list[str | Path]) -> list[dict]:
    """Reads the log entries of consecutive runs as one history. The steps of a later run continue those before.

    Args:
        runs: Output folders of Trainer, each with a `trainer_state.json`.

    Raises:
        FileNotFoundError: A folder holds no state.
    """
    history, offset = [], 0
    for run in runs:
        path = Path(run) / "trainer_state.json"
        if not path.is_file():
            raise FileNotFoundError(f"No trainer_state.json in {run}: name the output folder of a finished run.")
        state = json.loads(path.read_text(encoding="utf-8"))
        history += [{**entry, "step": entry["step"] + offset} for entry in state["log_history"]]
        offset += state["global_step"]
    return history


def draw_curves(runs: list[str | Path], output: str | Path) -> None:
    """Draws the history of consecutive runs to an image file. A dotted line marks the end of a run.

    Raises:
        ImportError: matplotlib is missing.
        ValueError: The log has no number with a curve.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Curves need matplotlib: pip install 'clippo[plot]'.") from error

    history = read_history(runs)
    ends = [max(entry["step"] for entry in read_history(runs[: i + 1])) for i in range(len(runs) - 1)]
    panels = [panel for panel in PANELS if any(key in entry for entry in history for key in panel.series.values())]
    if not panels:
        raise ValueError(f"Nothing to draw: the log of {', '.join(map(str, runs))} has no number with a curve.")
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns, 3.2 * rows), layout="constrained")
    for place, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, place)
        for label, key in panel.series.items():
            points = [(entry["step"], entry[key]) for entry in history if key in entry]
            if points:
                axes.plot([step for step, _ in points], [value for _, value in points], label=label)
        for end in ends:
            axes.axvline(end, color="0.6", linestyle=":")
        axes.set(title=panel.title, xlabel="step", yscale=panel.scale)
        axes.spines[["top", "right"]].set_visible(False)
        if len(axes.lines) - len(ends) > 1:
            axes.legend(frameon=False)
    figure.savefig(output, dpi=110)


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the curves of the runs that a command line names (default: `sys.argv[1:]`)."""
    parser = argparse.ArgumentParser(description="Draw the curves of consecutive training runs.")
    parser.add_argument("runs", nargs="+", help="Output folders of training runs, in order.")
    parser.add_argument("--output", default="training.png", help="Image file to write.")
    args = parser.parse_args(argv)
    try:
        draw_curves(args.runs, args.output)
    except (FileNotFoundError, ImportError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"Wrote {args.output}")
