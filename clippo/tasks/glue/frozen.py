"""GLUE from frozen sentence vectors: logistic regression on the vectors of any model.

clippo evaluate glue --model checkpoints/clippo-reader --tasks sst2 mrpc --data_dir data/glue --output_dir runs/frozen

A single text is described by its vector. A pair is described by the product and the absolute difference of its vectors,
their cosine and both vectors. The penalty is chosen by cross-validation on the training split.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import HfArgumentParser

from clippo.evaluation.encoder import Encoder
from clippo.evaluation.report import markdown_table
from clippo.evaluation.vector_models import open_vector_model
from clippo.tasks.glue.baselines import baseline_scores
from clippo.tasks.glue.data import GLUE_TASKS, glue_task, load_glue
from clippo.tasks.glue.metrics import glue_scores

PENALTIES = (0.01, 0.1, 1.0, 10.0)  # inverse penalty of the logistic regression
RIDGES = (0.1, 1.0, 10.0, 100.0)
FOLDS = 5


@dataclass
class FrozenArguments:
    """Options of `clippo evaluate glue`."""

    model: str = field(metadata={"help": "Folder or hub name of the model; also sentence:NAME."})
    tasks: list[str] = field(default_factory=lambda: ["all"], metadata={"help": "GLUE tasks, or 'all'."})
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder with DATA_DIR/TASK/train* and validation*. Default: the hub."}
    )
    output_dir: str = field(default="runs/glue_frozen", metadata={"help": "Folder for results.json and results.md."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Seeds of the folds."})
    baselines: bool = field(default=True, metadata={"help": "Also score the majority class and a bag of words."})
    cache_dir: str = field(
        default="~/.cache/clippo/embeddings", metadata={"help": "Folder of the embedding cache; '' turns it off."}
    )
    text_batch_size: int = field(default=256, metadata={"help": "Texts embedded at once."})
    dtype: str = field(default="float32", metadata={"help": "Type of the weights: float32, bfloat16, float16."})
    progress: bool = field(default=True, metadata={"help": "Show progress bars."})


def describe(encoder: Any, rows: Any) -> np.ndarray:
    """Features of the texts or pairs of a split.

    Args:
        encoder: Encoder of the model.
        rows: Columns "text" and, for pairs, "text_pair".

    Returns:
        float32 (rows, E), or (rows, 4 E + 1) for pairs.
    """
    first = encoder.texts(rows["text"][:])
    if "text_pair" not in rows.column_names:
        return first.numpy()
    second = encoder.texts(rows["text_pair"][:])
    product = first * second
    return torch.cat([product, (first - second).abs(), product.sum(1, keepdim=True), first, second], 1).numpy()


def frozen_scores(encoder: Any, task: str, splits: Mapping[str, Any], seed: int = 0) -> dict[str, float]:
    """Scores of a linear model on frozen vectors, on the first evaluation split of a task.

    Args:
        encoder: Encoder of the model.
        task: A key of `GLUE_TASKS`.
        splits: Splits as `load_glue` returns them.
        seed: Seed of the folds of the cross-validation.

    Raises:
        ImportError: scikit-learn is missing.
    """
    try:
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError("Linear models need scikit-learn; pip install 'clippo[evaluation]'.") from error
    train, evaluation = splits["train"], next(rows for name, rows in splits.items() if name != "train")
    labels = train["label"][:]
    if glue_task(task).is_regression:
        model, folds = Ridge(), KFold(FOLDS, shuffle=True, random_state=seed)
        grid = {"ridge__alpha": RIDGES}
    else:
        smallest = min(labels.count(label) for label in set(labels))
        model, folds = LogisticRegression(max_iter=500), min(FOLDS, smallest)
        folds = StratifiedKFold(max(2, folds), shuffle=True, random_state=seed)
        grid = {"logisticregression__C": [c / 100 for c in PENALTIES]}  # of features with unit variance
    search = GridSearchCV(make_pipeline(StandardScaler(), model), grid, cv=folds)
    search.fit(describe(encoder, train), labels)
    return glue_scores(task, search.predict(describe(encoder, evaluation)).tolist(), evaluation["label"][:])


def evaluate_frozen(args: FrozenArguments) -> list[dict[str, Any]]:
    """Scores all tasks and writes results.json and results.md.

    Returns:
        One row for each task and metric: means over the seeds in percent, beside the baselines.
    """
    model, processor = open_vector_model(args.model, dtype=args.dtype)
    encoder = Encoder(model, processor, args.cache_dir, text_batch_size=args.text_batch_size, progress=args.progress)
    tasks = list(GLUE_TASKS) if args.tasks == ["all"] else args.tasks
    rows, folder = [], Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    for task in tasks:
        splits = load_glue(task, args.data_dir)
        runs = [frozen_scores(encoder, task, splits, seed) for seed in args.seeds]
        beside = baseline_scores(task, splits) if args.baselines else {}
        for metric in glue_task(task).metrics:
            values = [run[metric] for run in runs]
            row = {"task": task, "metric": metric, "frozen": float(np.mean(values)), "spread": float(np.std(values))}
            rows.append(row | {name: scores[metric] for name, scores in beside.items()})
            print("\n".join(markdown_table(rows[-1:])[-1:]), flush=True)
        about = {"model": args.model, "seeds": args.seeds, "rows": rows}
        (folder / "results.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text("\n".join(markdown_table(rows)) + "\n", encoding="utf-8")
    return rows


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `clippo evaluate glue` with the given command line (default: `sys.argv[1:]`)."""
    parser = HfArgumentParser(FrozenArguments, prog="clippo evaluate glue", description=__doc__)
    (args,) = parser.parse_args_into_dataclasses(sys.argv[1:] if argv is None else list(argv))
    try:
        evaluate_frozen(args)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
