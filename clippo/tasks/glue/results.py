"""Files of GLUE runs: run.json and scores.json of each run, results.json and results.md of all runs."""

import dataclasses
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from clippo.tasks.glue.data import GLUE_TASKS

# TrainingArguments that the result of a run depends on.
RECORDED_ARGUMENTS = (
    "learning_rate", "num_train_epochs", "max_steps", "warmup_steps", "weight_decay", "lr_scheduler_type",
    "lr_scheduler_kwargs", "optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm",
    "label_smoothing_factor", "bf16", "fp16", "eval_strategy", "eval_steps", "save_strategy", "save_steps",
    "load_best_model_at_end", "data_seed", "train_sampling_strategy",
)  # fmt: skip
# GlueArguments that the result of a run does not depend on.
UNRECORDED = {"tasks", "seeds", "baselines", "label", "data_dir", "attn_implementation", "keep_models"}


def describe_run(args: Any, training_args: TrainingArguments, splits: Mapping[str, Sequence]) -> dict[str, Any]:
    """Collects what the result of a run depends on: arguments, number of rows, total batch size.

    Args:
        args: A `GlueArguments`.
        training_args: Arguments of this run.
        splits: Splits as `load_glue` returns them.
    """
    run = {name: value for name, value in dataclasses.asdict(args).items() if name not in UNRECORDED}
    values = training_args.to_dict()  # enumerations as their values
    run |= {name: values[name] for name in RECORDED_ARGUMENTS}
    run["rows"] = {split: len(rows) for split, rows in splits.items()}
    run["batch"] = training_args.train_batch_size * training_args.world_size * training_args.gradient_accumulation_steps
    return run


def read_scores(folder: Path, run: Mapping[str, Any], model_needed: bool) -> dict[str, float] | None:
    """Reads the scores of a finished run.

    Args:
        folder: Folder of the run.
        run: Description of the run that is asked for.
        model_needed: Whether the folder must hold the model too.

    Returns:
        The scores, or None if the run is not finished.

    Raises:
        ValueError: The folder holds a run with another description, or a finished run without its model.
    """
    recorded = folder / "run.json"
    if recorded.is_file():
        before = json.loads(recorded.read_text(encoding="utf-8"))
        other = sorted(name for name in run if before.get(name) != run[name])
        if other:
            raise ValueError(
                f"{folder} holds a run with another {', '.join(other)} ({[before.get(name) for name in other]}, now "
                f"{[run[name] for name in other]}); choose another output_dir, or delete it."
            )
    if not (folder / "scores.json").is_file():
        return None
    if model_needed and not (folder / "config.json").is_file():
        raise ValueError(f"{folder} holds a finished run whose model was not kept; choose another output_dir.")
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Writes indented JSON; creates the folder."""
    _write(path, json.dumps(content, indent=2))


def _write(path: Path, text: str) -> None:
    """Writes a file that is whole at any time, so that a killed run leaves no half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def read_report(folder: Path, label: str) -> dict[str, Any]:
    """Reads the tasks of an earlier results.json with the same label; returns {} if there is none."""
    path = folder / "results.json"
    if not path.is_file():
        return {}
    earlier = json.loads(path.read_text(encoding="utf-8"))
    return earlier["tasks"] if earlier["label"] == label else {}


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Writes results.json and results.md."""
    write_json(folder / "results.json", report)
    _write(folder / "results.md", markdown_table(report))


def summarize(runs: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Computes mean and sample standard deviation over the seeds.

    Args:
        runs: Scores of each seed.

    Returns:
        {metric: {"mean", "sd"}}. The standard deviation of a single seed is 0.
    """
    summary = {}
    for metric in runs[0]:
        values = [run[metric] for run in runs]
        sd = statistics.stdev(values) if len(values) > 1 else 0.0
        summary[metric] = {"mean": statistics.fmean(values), "sd": sd}
    return summary


def markdown_table(report: Mapping[str, Any]) -> str:
    """Formats a table with one column a task: the main metric in percent, mean and standard deviation over seeds.

    Args:
        report: Content of results.json.
    """
    tasks = report["tasks"]
    metrics = {task: GLUE_TASKS[task].metrics[0] for task in tasks}
    rows = []
    for name in ("majority", "bag_of_words"):
        if all(name in entry.get("baselines", {}) for entry in tasks.values()):
            cells = [f"{100 * entry['baselines'][name][metrics[task]]:.1f}" for task, entry in tasks.items()]
            rows.append([name.replace("_", " "), *cells])
    cells = []
    for task, entry in tasks.items():
        score = entry["scores"][metrics[task]]
        spread = f" ± {100 * score['sd']:.1f}" if len(entry["seeds"]) > 1 else ""
        cells.append(f"{100 * score['mean']:.1f}{spread}")
    rows.append([report["label"], *cells])
    heads = [f"{task} ({metric})" for task, metric in metrics.items()]
    lines = [["", *heads], ["---"] * (len(heads) + 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
