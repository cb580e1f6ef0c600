"""Fine-tune a CLIPPO on GLUE, one run for each task and seed.

`python scripts/finetune_glue.py --model FOLDER --tasks mrpc rte --output_dir runs/glue`

A recipe (YAML or JSON) may come first. All of transformers' TrainingArguments are accepted. The same command resumes an
interrupted run and does not repeat a finished one.
"""

import copy
import dataclasses
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    EarlyStoppingCallback,
    EvalPrediction,
    TrainingArguments,
    set_seed,
)

from clippo.model_files import find_model
from clippo.modeling_clippo import ClippoConfig, ClippoForSequenceClassification
from clippo.surgery import grow, has_head, init_classifier_bias, reset_head
from clippo.tasks.glue.baselines import baseline_scores
from clippo.tasks.glue.data import (
    GLUE_TASKS,
    GlueTask,
    TextClassificationCollator,
    add_length,
    count_truncated,
    glue_task,
    load_glue,
)
from clippo.tasks.glue.metrics import glue_scores
from clippo.tasks.glue.results import (
    describe_run,
    markdown_table,
    read_report,
    read_scores,
    summarize,
    write_json,
    write_report,
)
from clippo.training.arguments import ResumeArguments, run_command
from clippo.training.finetuning import FineTuningTrainer
from clippo.training.run_lock import run_lock

logger = logging.getLogger(__name__)

# Share of the learning rate that the default layer decay leaves for the embeddings at any depth (docs/results/glue.md).
EMBEDDINGS_RATE = 1 / 32


@dataclass
class GlueTrainingArguments(TrainingArguments):
    """TrainingArguments with defaults for fine-tuning."""

    learning_rate: float = field(default=5e-4, metadata={"help": "Rate of the head and the top of the tower."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Texts or pairs a step and device."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Texts or pairs a step and device."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps, or below 1 the share of all steps."})
    weight_decay: float = field(default=0.01, metadata={"help": "Weight decay of kernels."})
    eval_strategy: str = field(default="epoch", metadata={"help": "no, steps or epoch."})
    save_strategy: str = field(
        default="epoch", metadata={"help": "The same as eval_strategy, so that the best checkpoint can be kept."}
    )
    save_total_limit: int | None = field(default=1, metadata={"help": "Number of checkpoints beside the best one."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Score the best checkpoint, not the last."})
    logging_steps: float = field(default=50, metadata={"help": "Steps between logs."})
    # HfArgumentParser depends on the order of the types, which is that of TrainingArguments.
    report_to: None | str | list[str] = field(default="none", metadata={"help": "Logging service."})  # noqa: RUF036


@dataclass
class GlueArguments:
    """Model, tasks and seeds."""

    model: str | None = field(
        default=None, metadata={"help": "Folder or hub name of a CLIPPO. --from_scratch takes its size and font only."}
    )
    tasks: list[str] = field(default_factory=lambda: ["all"], metadata={"help": "GLUE tasks, or 'all'."})
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder with DATA_DIR/TASK/train* and validation*. Default: the hub."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One run for each seed."})
    from_scratch: bool = field(default=False, metadata={"help": "Start from random weights."})
    pair_layout: str | None = field(
        default=None, metadata={"help": "rows, two_canvas or concatenate. Default: the layout of the model."}
    )
    num_fusion_layers: int | None = field(
        default=None,
        metadata={
            "help": "Joint blocks over the two canvases of a pair (--pair_layout two_canvas). New ones start as the "
            "last blocks of the model. Default: as in the config."
        },
    )
    canvas_format: str = field(default="packed", metadata={"help": "Format of rendered text: packed, uint8, float."})
    layer_decay: float | None = field(
        default=None,
        metadata={
            "help": "Factor of the learning rate from a layer to the one below; 1 trains all alike. Default: the "
            "factor that leaves 1/32 of the rate for the embeddings."
        },
    )
    tower_lr_scale: float = field(
        default=1.0,
        metadata={"help": "Factor of the tower's learning rates; 0 freezes the tower and trains the head only."},
    )
    classifier_dropout: float = field(default=0.1, metadata={"help": "Dropout in the head."})
    classifier_hidden_size: int | None = field(
        default=None, metadata={"help": "Width of a hidden layer in the head. Default: a linear head."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this number of evaluations without a better score."}
    )
    max_train_samples: int | None = field(
        default=None, metadata={"help": "Number of training rows, sampled with seed 0. Default: all."}
    )
    keep_models: bool = field(default=False, metadata={"help": "Save the best model of every run."})
    baselines: bool = field(default=True, metadata={"help": "Also score the majority class and a bag of words."})
    attn_implementation: str | None = field(default=None, metadata={"help": "Attention backend."})
    label: str | None = field(default=None, metadata={"help": "Row name in the table. Default: the model's name."})


def task_arguments(task: str, base: TrainingArguments, folder: Path, seed: int) -> TrainingArguments:
    """Returns the arguments of one run: a copy of `base` with the run's folder, seed and metric.

    Args:
        task: A key of `GLUE_TASKS`.
        base: Arguments of all runs.
        folder: Folder of this run.
        seed: Seed of this run.
    """
    args = copy.copy(base)
    args.output_dir, args.seed = str(folder), seed
    args.remove_unused_columns = False  # The columns are strings, which the collator renders.
    args.metric_for_best_model, args.greater_is_better = GLUE_TASKS[task].metrics[0], True
    return args


def load_tokenizer(args: GlueArguments):
    """Loads the model's tokenizer with the requested pair layout; ValueError if the layout is unknown."""
    return AutoTokenizer.from_pretrained(args.model, **({"pair_layout": args.pair_layout} if args.pair_layout else {}))


def build_classifier(args: GlueArguments, task: GlueTask) -> tuple[ClippoForSequenceClassification, Any]:
    """Builds model and tokenizer of one run: a new head on the weights of `args.model`, or on random weights.

    Raises:
        ValueError: Joint blocks are asked for, but the texts of the task are not on two canvases.
    """
    tokenizer = load_tokenizer(args)
    config = ClippoConfig.from_pretrained(args.model)
    layers = config.num_fusion_layers if args.num_fusion_layers is None else args.num_fusion_layers
    two_canvases = task.is_pair and tokenizer.pair_layout == "two_canvas"
    if layers and not two_canvases:
        raise ValueError(
            f"num_fusion_layers={layers} reads the two canvases of a pair; pass --pair_layout two_canvas and tasks of "
            "pairs, or --num_fusion_layers 0."
        )
    fields = {"num_text_canvases": 2 if two_canvases else 1, "num_fusion_layers": layers}
    config.num_labels = max(len(task.labels), 1)
    if task.labels:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {name: i for i, name in enumerate(task.labels)}
    config.problem_type = "regression" if task.is_regression else "single_label_classification"
    config.classifier_dropout = args.classifier_dropout
    config.classifier_hidden_size = args.classifier_hidden_size
    if not args.from_scratch:
        return _load_classifier(args, config, fields), tokenizer
    for name, value in fields.items():
        setattr(config, name, value)
    model = ClippoForSequenceClassification._from_config(config, attn_implementation=args.attn_implementation)
    return model, tokenizer


def _load_classifier(args: GlueArguments, config: ClippoConfig, fields: dict) -> ClippoForSequenceClassification:
    """The weights of `args.model` under a new head; `fields` of the config are those of the result."""
    had_head, layers = has_head(config), fields["num_fusion_layers"]
    grows = layers not in (0, config.num_fusion_layers)
    # A head above new joint blocks has the width of a head for single texts.
    for name, value in ({"num_text_canvases": 1, "num_fusion_layers": 0} if grows else fields).items():
        setattr(config, name, value)
    model = ClippoForSequenceClassification.from_pretrained(
        args.model,
        config=config,
        dtype="float32",
        attn_implementation=args.attn_implementation,
        ignore_mismatched_sizes=had_head,
    )
    if had_head:
        logger.info("%s was fine-tuned before; its head is replaced by a new one.", args.model)
        reset_head(model)
    return grow(model, **fields) if grows else model


def score_prediction(task: str, prediction: EvalPrediction) -> dict[str, float]:
    """Computes the metrics of a task from logits; FloatingPointError if a logit is not finite."""
    logits = np.asarray(prediction.predictions)  # (rows, labels)
    if not np.isfinite(logits).all():
        raise FloatingPointError(
            f"{task}: the logits contain NaN or infinity and cannot be scored. Check learning_rate, max_grad_norm and "
            "the precision (bf16 instead of fp16)."
        )
    predictions = logits[:, 0] if GLUE_TASKS[task].is_regression else logits.argmax(-1)
    return glue_scores(task, predictions.tolist(), np.asarray(prediction.label_ids).tolist())


def finetune_task(
    args: GlueArguments,
    task: str,
    seed: int,
    base: TrainingArguments,
    splits: Mapping[str, Dataset],
    resume_anyway: bool = False,
) -> dict[str, float]:
    """Runs one task with one seed. Resumes from the newest whole checkpoint and does not repeat a finished run.

    Args:
        args: Model and options.
        task: A key of `GLUE_TASKS`.
        seed: Seed of the run.
        base: Arguments of all runs.
        splits: Splits as `load_glue` returns them.
        resume_anyway: Whether to resume with other data or library versions than those of the checkpoint.

    Returns:
        Scores of the best checkpoint (for MNLI on both evaluation sets), and `epochs`, `data_wait_share` and `seconds`
        of the training.

    Raises:
        FloatingPointError: The training diverged.
        ValueError: The folder holds a run with other arguments, or a finished run without its model.
    """
    folder = Path(base.output_dir) / task / f"seed-{seed}"
    training_args = task_arguments(task, base, folder, seed)
    run = describe_run(args, training_args, splits)
    scores = read_scores(folder, run, model_needed=args.keep_models)
    if scores is not None:
        if training_args.process_index == 0:
            _remove_checkpoints(folder)  # of a run that was killed after its scores were written
        return scores
    if training_args.process_index == 0:
        write_json(folder / "run.json", run)
    set_seed(seed)
    trainer, evaluation = _build_trainer(args, task, training_args, splits)
    result = trainer.train(resume_from_checkpoint=trainer.find_checkpoint(resume_anyway))
    scores = _evaluate(trainer, task, evaluation)
    scores |= {"epochs": result.metrics["epoch"]}  # Early stopping makes them fewer than num_train_epochs.
    scores |= {"data_wait_share": result.metrics["data_wait_share"], "seconds": result.metrics["train_runtime"]}
    if args.keep_models:
        trainer.save_model()
    if trainer.is_world_process_zero():
        # In this order a killed run has either its scores or its checkpoints.
        write_json(folder / "scores.json", scores)
        _remove_checkpoints(folder)
    return scores


def _remove_checkpoints(folder: Path) -> None:
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def _build_trainer(
    args: GlueArguments, task: str, training_args: TrainingArguments, splits: Mapping[str, Dataset]
) -> tuple[FineTuningTrainer, dict[str, Dataset]]:
    """Returns the trainer and the evaluation sets, of which the first selects checkpoints."""
    train = splits["train"]
    evaluation = {name: rows for name, rows in splits.items() if name != "train"}
    if args.max_train_samples and args.max_train_samples < len(train):
        train = train.shuffle(seed=0).select(range(args.max_train_samples))
    if training_args.train_sampling_strategy == "group_by_length":
        train, evaluation = add_length(train), {name: add_length(rows) for name, rows in evaluation.items()}
    model, tokenizer = build_classifier(args, GLUE_TASKS[task])
    init_classifier_bias(model, train["label"][:])
    trainer = FineTuningTrainer(
        model=model,
        args=training_args,
        train_dataset=train,
        eval_dataset=next(iter(evaluation.values())),
        data_collator=TextClassificationCollator(tokenizer, args.canvas_format),
        processing_class=tokenizer,
        compute_metrics=lambda prediction: score_prediction(task, prediction),
        tower_lr_scale=args.tower_lr_scale,
        layer_decay=args.layer_decay or EMBEDDINGS_RATE ** (1 / (model.config.num_hidden_layers + 1)),
        callbacks=[EarlyStoppingCallback(args.early_stopping_patience)] if args.early_stopping_patience else [],
    )
    return trainer, evaluation


def _evaluate(trainer: FineTuningTrainer, task: str, evaluation: Mapping[str, Dataset]) -> dict[str, float]:
    """Scores all evaluation sets; the metrics of the second one have a suffix."""
    scores = {}
    for i, (name, rows) in enumerate(evaluation.items()):
        suffix = "_" + name.removeprefix("validation_") if i else ""
        metrics = trainer.evaluate(rows)
        scores |= {metric + suffix: metrics["eval_" + metric] for metric in GLUE_TASKS[task].metrics}
    return scores


def finetune_glue(
    args: GlueArguments, training_args: TrainingArguments, resume_args: ResumeArguments | None = None
) -> dict[str, Any]:
    """Runs all tasks and seeds one after another and updates results.json and results.md after every task.

    Tasks that an earlier call with the same label wrote to results.json are kept.

    Args:
        args: Model, tasks and seeds.
        training_args: `GlueTrainingArguments`, or any other TrainingArguments, for all runs.
        resume_args: Resumption of a stopped run.

    Returns:
        Content of results.json. Each task has the number of rows and of truncated rows, the scores of the baselines
        (trained on all rows even with `max_train_samples`) and of each seed, their mean and standard deviation, and
        the arguments.

    Raises:
        FileNotFoundError: The model or a file of the data does not exist.
        ValueError: A task or layout is unknown, or no seed or no model is given.
        RunInProgressError: Another run holds `output_dir`.
        IncompleteCheckpointError, ChangedRunError: The run cannot be resumed, see `CheckpointMixin.find_checkpoint`.
    """
    with run_lock(training_args):
        return _finetune_all(args, training_args, (resume_args or ResumeArguments()).resume_anyway)


def _finetune_all(args: GlueArguments, training_args: TrainingArguments, resume_anyway: bool) -> dict[str, Any]:
    tasks, seeds = _checked_tasks_and_seeds(args)
    tokenizer = load_tokenizer(args)
    folder = Path(training_args.output_dir)
    label = args.label or Path(args.model).name + (" (from scratch)" if args.from_scratch else "")
    report = {"label": label, "arguments": dataclasses.asdict(args), "tasks": read_report(folder, label)}
    data = {task: load_glue(task, args.data_dir) for task in tasks}  # Missing files are reported before any training.
    for task, splits in data.items():
        entry = {"rows": {split: len(rows) for split, rows in splits.items()}}
        entry["cut"] = {split: count_truncated(rows, tokenizer) for split, rows in splits.items()}
        if args.baselines:
            entry["baselines"] = baseline_scores(task, splits)
        runs = [finetune_task(args, task, seed, training_args, splits, resume_anyway) for seed in seeds]
        run = json.loads((folder / task / f"seed-{seeds[0]}" / "run.json").read_text(encoding="utf-8"))
        report["tasks"][task] = {**entry, "seeds": seeds, "runs": runs, "scores": summarize(runs), "arguments": run}
        logger.info("%s: %s", task, report["tasks"][task]["scores"])
        if training_args.process_index == 0:
            write_report(folder, report)
    return report


def _checked_tasks_and_seeds(args: GlueArguments) -> tuple[list[str], list[int]]:
    tasks = [args.tasks] if isinstance(args.tasks, str) else list(args.tasks)  # A recipe may give one name.
    tasks = list(GLUE_TASKS) if tasks == ["all"] else tasks
    for task in tasks:
        glue_task(task)
    seeds = [args.seeds] if isinstance(args.seeds, int) else args.seeds
    if not seeds:
        raise ValueError("seeds is empty, so nothing would run; pass --seeds 0 1 2.")
    if not args.model:
        raise ValueError("model is missing; pass --model with the folder or hub name of a CLIPPO.")
    find_model(args.model)
    return tasks, seeds


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the command line and prints the table of results.

    Args:
        argv: Arguments without the program's name. Default: those of the process.
    """
    kinds = (GlueArguments, GlueTrainingArguments, ResumeArguments)
    print(markdown_table(run_command(finetune_glue, kinds, argv, usage=__doc__)))
