"""The curves of a run from what Trainer wrote down: loss, recall on held-out pairs, throughput."""

import json
from pathlib import Path


def read_history(runs: list[str | Path]) -> list[dict]:
    """Log entries of consecutive runs as one history; a later run's steps count on from the end of the one before.

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
    """Draw the history of consecutive runs to an image file; a dotted line stands where one run ends.

    Raises:
        ImportError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Curves need matplotlib: pip install 'clippo[plot]'.") from error

    history = read_history(runs)
    ends = [max(entry["step"] for entry in read_history(runs[: i + 1])) for i in range(len(runs) - 1)]
    panels = {
        "training loss": {"loss": "loss"},
        "recall on held-out pairs, text to image": {
            "R@1": "eval_text_to_image_R@1",
            "R@5": "eval_text_to_image_R@5",
            "R@10": "eval_text_to_image_R@10",
        },
        "pairs per second": {"pairs per second": "pairs_per_second"},
    }
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    for axes, (title, series) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for label, key in series.items():
            points = [(entry["step"], entry[key]) for entry in history if key in entry]
            axes.plot([step for step, _ in points], [value for _, value in points], label=label)
        for end in ends:
            axes.axvline(end, color="0.6", linestyle=":")
        axes.set(title=title, xlabel="step")
        axes.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            axes.legend(frameon=False)
    figure.savefig(output, dpi=110)
