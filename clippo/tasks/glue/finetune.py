"""Fine-tuning on GLUE: one run a task and seed, results as JSON and as a row of a table."""

import copy
import dataclasses
import json
import logging
import shutil
import statistics
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    EarlyStoppingCallback,
    EvalPrediction,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import get_last_checkpoint

from clippo.modeling_clippo import ClippoConfig, ClippoForSequenceClassification
from clippo.surgery import has_head, init_classifier_bias, reset_head
from clippo.tasks.glue.baselines import bag_of_words, majority
from clippo.tasks.glue.collator import TextClassificationCollator
from clippo.tasks.glue.data import GLUE_TASKS, GlueTask, glue_task, load_glue
from clippo.tasks.glue.metrics import TASK_METRICS, glue_scores
from clippo.training.finetuning import FineTuningTrainer

logger = logging.getLogger(__name__)

# What the default layer decay leaves of the rate for the embeddings, however many layers: measured (docs/glue.md).
RATE_OF_EMBEDDINGS = 1 / 32
# TrainingArguments that a run's result depends on.
NOTED = (
    "learning_rate", "num_train_epochs", "max_steps", "warmup_steps", "weight_decay", "lr_scheduler_type",
    "lr_scheduler_kwargs", "optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm",
    "label_smoothing_factor", "bf16", "fp16", "eval_strategy", "eval_steps", "save_strategy", "save_steps",
    "load_best_model_at_end", "data_seed", "train_sampling_strategy",
)  # fmt: skip


@dataclass
class GlueTrainingArguments(TrainingArguments):
    """TrainingArguments with defaults for fine-tuning."""

    learning_rate: float = field(default=5e-4, metadata={"help": "Of the head and the top of the tower."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Texts or pairs a step and device."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Texts or pairs a step and device."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps, or below 1 the share of all steps."})
    weight_decay: float = field(default=0.01, metadata={"help": "Of kernels."})
    eval_strategy: str = field(default="epoch", metadata={"help": "no, steps or epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "As eval_strategy, so that the best can be kept."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints kept beside the best."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Measure the best evaluation's model."})
    logging_steps: float = field(default=50, metadata={"help": "Steps between logs."})
    # The order of the types is TrainingArguments': HfArgumentParser depends on it.
    report_to: None | str | list[str] = field(default="none", metadata={"help": "Where to log."})  # noqa: RUF036


@dataclass
class GlueArguments:
    """What to fine-tune, on what, how often."""

    model: str | None = field(
        default=None, metadata={"help": "Folder or hub name of a CLIPPO; with --from_scratch its size and font only."}
    )
    tasks: list[str] = field(default_factory=lambda: ["all"], metadata={"help": "GLUE tasks, or 'all'."})
    data_dir: str | None = field(
        default=None, metadata={"help": "Folder of local files, DATA_DIR/TASK/train*, validation*; default: the hub."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "One run each."})
    from_scratch: bool = field(default=False, metadata={"help": "Random weights in the model's shape."})
    pair_layout: str | None = field(
        default=None, metadata={"help": "rows, two_canvas or concatenate; default: the model's own."}
    )
    canvas_format: str = field(default="packed", metadata={"help": "How text travels: packed, uint8, float."})
    layer_decay: float | None = field(
        default=None,
        metadata={
            "help": "Factor of the learning rate from a layer to the one below; 1 trains all alike; default: what "
            "leaves 1/32 of the rate for the embeddings."
        },
    )
    freeze_tower: bool = field(default=False, metadata={"help": "Train the head alone."})
    classifier_dropout: float = field(default=0.1, metadata={"help": "Dropout in the head."})
    classifier_hidden_size: int | None = field(
        default=None, metadata={"help": "Width of a hidden layer in the head; default: a linear head."}
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after so many evaluations without a better score."}
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Rows to train on, drawn with seed 0."})
    keep_models: bool = field(default=False, metadata={"help": "Keep the best model of every run too."})
    baselines: bool = field(default=True, metadata={"help": "Also majority class and bag of words."})
    attn_implementation: str | None = field(default=None, metadata={"help": "Attention backend."})
    label: str | None = field(default=None, metadata={"help": "Name of the row in the table; default: the model's."})


def task_arguments(task: str, base: TrainingArguments, folder: Path, seed: int) -> TrainingArguments:
    """The arguments of one run: those given, its folder, its seed, the task's metric to choose checkpoints by."""
    args = copy.copy(base)
    args.output_dir, args.seed = str(folder), seed
    args.remove_unused_columns = False  # the columns are strings; the collator draws them
    args.metric_for_best_model, args.greater_is_better = TASK_METRICS[task][0], True
    return args


def build_tokenizer(args: GlueArguments):
    """The model's tokenizer with the layout that was asked for; ValueError if there is no such layout."""
    return AutoTokenizer.from_pretrained(args.model, **({"pair_layout": args.pair_layout} if args.pair_layout else {}))


def build(args: GlueArguments, task: GlueTask):
    """Model and tokenizer for one task: a new head on the weights of `args.model`, or on random ones."""
    tokenizer = build_tokenizer(args)
    config = ClippoConfig.from_pretrained(args.model)
    classified_before = has_head(config)
    config.num_text_canvases = 2 if task.is_pair and tokenizer.pair_layout == "two_canvas" else 1
    config.num_labels = max(len(task.labels), 1)
    if task.labels:
        config.id2label = dict(enumerate(task.labels))
        config.label2id = {name: i for i, name in enumerate(task.labels)}
    config.problem_type = "regression" if task.is_regression else "single_label_classification"
    config.classifier_dropout = args.classifier_dropout
    config.classifier_hidden_size = args.classifier_hidden_size
    if args.from_scratch:
        model = ClippoForSequenceClassification._from_config(config, attn_implementation=args.attn_implementation)
    else:
        model = ClippoForSequenceClassification.from_pretrained(
            args.model,
            config=config,
            dtype="float32",
            attn_implementation=args.attn_implementation,
            ignore_mismatched_sizes=classified_before,
        )
        if classified_before:
            logger.info("%s was fine-tuned before; its head is left behind", args.model)
            reset_head(model)
    if args.freeze_tower:
        model.vision_model.requires_grad_(False)
    return model, tokenizer


def scores_of(task: str, prediction: EvalPrediction) -> dict[str, float]:
    """The task's metrics of the model's logits; FloatingPointError if one is not finite."""
    logits = np.asarray(prediction.predictions)
    if not np.isfinite(logits).all():
        raise FloatingPointError(
            f"{task}: the model answers with NaN or infinity, so there is nothing to score. Look at learning_rate, "
            "max_grad_norm and the precision (bf16 instead of fp16)."
        )
    guesses = logits[:, 0] if GLUE_TASKS[task].is_regression else logits.argmax(-1)
    return glue_scores(task, guesses.tolist(), np.asarray(prediction.label_ids).tolist())


def finetune(args: GlueArguments, task: str, seed: int, base: TrainingArguments, splits: dict) -> dict[str, float]:
    """One run. Goes on from its last checkpoint, if any; a run that is done is not run again.

    Returns:
        The scores of the best checkpoint, for MNLI those of both evaluation sets; `epochs`, `data_wait_share` and
        `seconds` of the training.

    Raises:
        FloatingPointError: The training diverged.
        ValueError: The folder holds a run of other arguments, or a finished one whose model was not kept.
    """
    folder = Path(base.output_dir) / task / f"seed-{seed}"
    training_args = task_arguments(task, base, folder, seed)
    done = _claim(folder, args, training_args, splits)
    if done is not None:
        return done
    train = splits["train"]
    if args.max_train_samples and args.max_train_samples < len(train):
        train = train.shuffle(seed=0).select(range(args.max_train_samples))
    if training_args.train_sampling_strategy == "group_by_length":
        train, splits = with_length(train), {name: with_length(rows) for name, rows in splits.items()}
    set_seed(seed)
    model, tokenizer = build(args, GLUE_TASKS[task])
    init_classifier_bias(model, train["label"][:])
    evaluation = {name: rows for name, rows in splits.items() if name != "train"}
    first = next(iter(evaluation))
    stop = [EarlyStoppingCallback(args.early_stopping_patience)] if args.early_stopping_patience else []
    trainer = FineTuningTrainer(
        model=model,
        args=training_args,
        train_dataset=train,
        eval_dataset=evaluation[first],
        data_collator=TextClassificationCollator(tokenizer, args.canvas_format),
        processing_class=tokenizer,
        compute_metrics=lambda prediction: scores_of(task, prediction),
        layer_decay=args.layer_decay or RATE_OF_EMBEDDINGS ** (1 / (model.config.num_hidden_layers + 1)),
        callbacks=stop,
    )
    result = trainer.train(resume_from_checkpoint=get_last_checkpoint(str(folder)))
    scores = {}
    for name, rows in evaluation.items():
        suffix = "" if name == first else "_" + name.removeprefix("validation_")
        metrics = trainer.evaluate(rows)
        scores |= {metric + suffix: metrics["eval_" + metric] for metric in TASK_METRICS[task]}
    scores |= {"epochs": result.metrics["epoch"]}  # fewer than asked for after an early stop
    scores |= {"data_wait_share": result.metrics["data_wait_share"], "seconds": result.metrics["train_runtime"]}
    if args.keep_models:
        trainer.save_model()
    if trainer.is_world_process_zero():
        for old in folder.glob("checkpoint-*"):
            shutil.rmtree(old)
        (folder / "scores.json").write_text(json.dumps(scores, indent=2), encoding="utf-8")
    return scores


def _claim(
    folder: Path, args: GlueArguments, training_args: TrainingArguments, splits: dict
) -> dict[str, float] | None:
    """The scores of a run that is done; else notes what runs here, so that no other run goes on from its checkpoint."""
    aside = {"tasks", "seeds", "baselines", "label", "data_dir", "attn_implementation", "keep_models"}
    run = {name: value for name, value in dataclasses.asdict(args).items() if name not in aside}
    noted = training_args.to_dict()  # enumerations as their values
    run |= {name: noted[name] for name in NOTED}
    run["rows"] = {split: len(rows) for split, rows in splits.items()}
    run["batch"] = training_args.train_batch_size * training_args.world_size * training_args.gradient_accumulation_steps
    note = folder / "run.json"
    if note.is_file():
        before = json.loads(note.read_text(encoding="utf-8"))
        other = sorted(name for name in run if before.get(name) != run[name])
        if other:
            raise ValueError(
                f"{folder} holds a run with another {', '.join(other)} ({[before.get(name) for name in other]}, now "
                f"{[run[name] for name in other]}); choose another output_dir, or delete it."
            )
    if (folder / "scores.json").is_file():
        if args.keep_models and not (folder / "config.json").is_file():
            raise ValueError(f"{folder} holds a finished run whose model was not kept; choose another output_dir.")
        return json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    if training_args.process_index == 0:
        folder.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(run, indent=2), encoding="utf-8")
    return None


def run_glue(args: GlueArguments, base: TrainingArguments) -> dict:
    """All tasks and seeds, one after another; `results.json` and `results.md` in `output_dir` grow with every task.

    Tasks that an earlier call with the same label left in `results.json` stay there.

    Args:
        args: What to run.
        base: `GlueTrainingArguments`, or any other TrainingArguments, for all runs.

    Returns:
        The content of `results.json`: for each task the rows, how many of them are cut by the canvas, the baselines'
        scores (trained on all rows, whatever `max_train_samples`), each seed's, their mean and sd, the arguments.

    Raises:
        ValueError: An unknown task or layout, no seed, no model.
    """
    tasks = [args.tasks] if isinstance(args.tasks, str) else args.tasks  # a recipe may name one as a bare word
    tasks = list(GLUE_TASKS) if list(tasks) == ["all"] else tasks
    for task in tasks:
        glue_task(task)
    seeds = [args.seeds] if isinstance(args.seeds, int) else args.seeds
    if not seeds:
        raise ValueError("No seeds, so nothing to run; pass --seeds 0 1 2.")
    if not args.model:
        raise ValueError("No model to fine-tune; pass --model with the folder or hub name of a CLIPPO.")
    tokenizer = build_tokenizer(args)
    folder = Path(base.output_dir)
    name = args.label or Path(args.model).name + (" (from scratch)" if args.from_scratch else "")
    report = {"label": name, "arguments": dataclasses.asdict(args), "tasks": {}}
    before = folder / "results.json"
    if before.is_file():
        earlier = json.loads(before.read_text(encoding="utf-8"))
        if earlier["label"] == name:
            report["tasks"] = earlier["tasks"]
    data = {task: load_glue(task, args.data_dir) for task in tasks}  # what is missing is said before hours of training
    for task, splits in data.items():
        entry = {"rows": {split: len(rows) for split, rows in splits.items()}}
        entry["cut"] = {split: count_cut(rows, tokenizer) for split, rows in splits.items()}
        if args.baselines:
            entry["baselines"] = baselines(task, splits)
        runs = [finetune(args, task, seed, base, splits) for seed in seeds]
        run = json.loads((folder / task / f"seed-{seeds[0]}" / "run.json").read_text(encoding="utf-8"))
        scores = summarize(runs)
        report["tasks"][task] = {**entry, "seeds": seeds, "runs": runs, "scores": scores, "arguments": run}
        logger.info("%s: %s", task, report["tasks"][task]["scores"])
        if base.process_index == 0:
            before.write_text(json.dumps(report, indent=2), encoding="utf-8")
            (folder / "results.md").write_text(markdown(report), encoding="utf-8")
    return report


def with_length(rows: Dataset) -> Dataset:
    """With a column `length`, the letters of a row, which Trainer groups by."""
    texts = [rows[name][:] for name in ("text", "text_pair") if name in rows.column_names]
    return rows.add_column("length", [sum(map(len, row)) for row in zip(*texts, strict=True)])


def count_cut(rows, tokenizer) -> int:
    """How many of the texts or pairs do not fit on the canvas whole."""
    cut = 0
    for start in range(0, len(rows), 1000):
        part = rows[start : start + 1000]
        pairs = (part["text"], part["text_pair"]) if "text_pair" in part else (part["text"],)
        cut += sum(measured.chars_cut > 0 for measured in tokenizer.measure(*pairs))
    return cut


def baselines(task: str, splits: dict) -> dict[str, dict[str, float]]:
    """Majority class and bag of words, measured on the task's first evaluation split."""
    train, evaluation = splits["train"], next(rows for name, rows in splits.items() if name != "train")
    answers = {"majority": majority(train, evaluation), "bag_of_words": bag_of_words(train, evaluation)}
    return {name: glue_scores(task, guesses, evaluation["label"][:]) for name, guesses in answers.items()}


def summarize(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """{metric: {"mean", "sd"}} over the seeds; the standard deviation is the sample's, 0 for a single seed."""
    summary = {}
    for metric in runs[0]:
        values = [run[metric] for run in runs]
        sd = statistics.stdev(values) if len(values) > 1 else 0.0
        summary[metric] = {"mean": statistics.fmean(values), "sd": sd}
    return summary


def markdown(report: dict) -> str:
    """A table, tasks as columns: the main metric in percent, mean and standard deviation over the seeds."""
    tasks = report["tasks"]
    heads = [f"{task} ({TASK_METRICS[task][0]})" for task in tasks]
    rows = []
    for name in ("majority", "bag_of_words"):
        if all(name in entry.get("baselines", {}) for entry in tasks.values()):
            cells = [f"{100 * entry['baselines'][name][TASK_METRICS[task][0]]:.1f}" for task, entry in tasks.items()]
            rows.append([name.replace("_", " "), *cells])
    cells = []
    for task, entry in tasks.items():
        score = entry["scores"][TASK_METRICS[task][0]]
        spread = f" ± {100 * score['sd']:.1f}" if len(entry["seeds"]) > 1 else ""
        cells.append(f"{100 * score['mean']:.1f}{spread}")
    rows.append([report["label"], *cells])
    lines = [["", *heads], ["---"] * (len(heads) + 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
