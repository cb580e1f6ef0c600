"""Command line of the evaluations: one sub-command each, and `all` for a recipe of several."""

import importlib.metadata
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields

import torch
import yaml
from accelerate import PartialState
from transformers import HfArgumentParser

from clippo.data.vectors import Vectors
from clippo.evaluation.benchmarks import Benchmark, find_benchmark
from clippo.evaluation.classification import zero_shot_report
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.image_text import mixed_index_report, modality_gap_report, retrieval_report
from clippo.evaluation.phrase_matching import PhraseProtocol, phrase_report
from clippo.evaluation.precision import resolve_dtype
from clippo.evaluation.probes import FewShotProtocol, few_shot_report
from clippo.evaluation.report import Report
from clippo.evaluation.robustness import robustness_report
from clippo.evaluation.text_text import Sentences, bitext_report, sts_report
from clippo.evaluation.vector_models import open_vector_model
from clippo.recipe_files import find_recipe

DEFAULT_RECIPE = "evaluation/emoji"


@dataclass
class RunArguments:
    """Options that all evaluations share."""

    model: str = field(
        default="checkpoints/clippo-emoji",
        metadata={"help": "Folder or hub name of the model; also timm:NAME and sentence:NAME."},
    )
    output_dir: str = field(default="runs/evaluation", metadata={"help": "Folder for .json, .md and .png files."})
    cache_dir: str = field(
        default="~/.cache/clippo/embeddings", metadata={"help": "Folder of the embedding cache; '' turns it off."}
    )
    batch_size: int = field(default=64, metadata={"help": "Images embedded at once, on each process."})
    text_batch_size: int = field(default=256, metadata={"help": "Texts embedded at once, on each process."})
    part_size: int = field(default=1024, metadata={"help": "Images or texts in one file of the cache."})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda, cuda:1, ...; default: the best available."})
    dtype: str = field(default="float32", metadata={"help": "Type of weights: float32, bfloat16, float16, or fast."})
    streaming: bool = field(default=False, metadata={"help": "Read rows when they are needed, without a local copy."})
    limit: int | None = field(
        default=None, metadata={"help": "Rows to read from the beginning of each data set (sentences: each language)."}
    )
    vectors: str | None = field(
        default=None, metadata={"help": "Folder of `clippo embed`, for a model that reads for another image tower."}
    )
    progress: bool = field(default=True, metadata={"help": "Show progress bars."})


@dataclass
class ImageArguments:
    """Options that select images."""

    data: str = field(
        default="",
        metadata={"help": "imagenet, cifar10, cifar100, pets, coco, flickr30k, flickr8k, xm3600, or a path."},
    )
    split: str | None = field(
        default=None, metadata={"help": "Split (default test); of a folder, the beginning of the file names."}
    )
    image: str | None = field(default=None, metadata={"help": "Column of the images."})

    def benchmark(self, run: RunArguments, **overrides) -> Benchmark:
        """Returns the data set, or raises ValueError without `data`."""
        _require_data(self.data)
        return find_benchmark(
            self.data, split=self.split, image=self.image, streaming=run.streaming, limit=run.limit, **overrides
        )


@dataclass
class LabelArguments(ImageArguments):
    """Options that select labelled images."""

    label: str | None = field(default=None, metadata={"help": "Column of the labels."})
    class_names: str | None = field(
        default=None, metadata={"help": "'imagenet', or a file with one name a line, by label."}
    )

    def benchmark(self, run: RunArguments, **overrides) -> Benchmark:
        return super().benchmark(run, label=self.label, class_names=self.class_names, **overrides)


@dataclass
class ZeroShotArguments(LabelArguments):
    """Options of zero-shot classification."""

    protocol: str = field(default="official", metadata={"help": "official, colab, or name (the bare class name)."})
    templates: list[str] | None = field(
        default=None, metadata={"help": "Templates with {}, in place of the protocol's."}
    )


@dataclass
class FewShotArguments(LabelArguments):
    """Options of linear probes."""

    train_split: str = field(default="train", metadata={"help": "Split to learn from."})
    shots: list[int] = field(default_factory=lambda: [1, 5, 10, 25], metadata={"help": "Images a class; 0 means all."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Random draws of the shots."})
    l2: float = field(default=1024.0, metadata={"help": "Penalty of least squares."})
    c: float = field(default=1.0, metadata={"help": "Inverse penalty of the logistic regression."})
    probes: list[str] = field(
        default_factory=lambda: ["least-squares", "logistic"], metadata={"help": "least-squares, logistic or both."}
    )
    crop: bool = field(
        default=True, metadata={"help": "Resize and crop the centre as officially; else resize to the canvas."}
    )

    def protocol(self) -> FewShotProtocol:
        """Returns the settings of the evaluation."""
        return FewShotProtocol(**{one.name: getattr(self, one.name) for one in fields(FewShotProtocol)})


@dataclass
class CaptionArguments(ImageArguments):
    """Options that select images with captions."""

    captions: list[str] | None = field(
        default=None, metadata={"help": "language=column pairs, such as en=captions de=de_1,de_2."}
    )
    languages: list[str] | None = field(default=None, metadata={"help": "Only these languages."})
    gallery: str | None = field(
        default=None, metadata={"help": "Images that the captions of a language are searched in: captioned or all."}
    )

    def benchmark(self, run: RunArguments, **overrides) -> Benchmark:
        wrong = [pair for pair in self.captions or () if pair.count("=") != 1]
        if wrong:
            raise ValueError(f"captions takes language=column, got {wrong[0]!r}.")
        columns = dict(pair.split("=") for pair in self.captions) if self.captions else None
        return super().benchmark(run, captions=columns, gallery=self.gallery, **overrides)


@dataclass
class SentenceArguments:
    """Options that select pairs of sentences."""

    data: str = field(default="", metadata={"help": "A Parquet file, a folder of them, or a hub name."})
    split: str | None = field(
        default=None, metadata={"help": "Split (default test); of a folder, the beginning of the file names."}
    )
    columns: list[str] | None = field(default=None, metadata={"help": "The two sentences (and the judgement)."})
    language_column: str = field(default="lang", metadata={"help": "Column of language codes, if there is one."})
    languages: list[str] | None = field(default=None, metadata={"help": "Only these languages."})

    def sentences(self, run: RunArguments) -> Sentences:
        """Returns the data set, or raises ValueError without `data`."""
        _require_data(self.data)
        return Sentences(self.data, self.split, self.columns, self.language_column, self.languages, run.limit)


@dataclass
class RobustnessArguments(SentenceArguments):
    """Options of robustness."""

    beside: list[str] = field(
        default_factory=list, metadata={"help": "Further models, as for --model, measured beside it."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the damages."})


@dataclass
class PhraseArguments:
    """Options of phrase matching."""

    data: str = field(default="", metadata={"help": "A Parquet file, a folder of them, or a hub name."})
    split: str | None = field(
        default=None, metadata={"help": "Split (default test); of a folder, the beginning of the file names."}
    )
    columns: list[str] = field(default_factory=lambda: ["text"], metadata={"help": "Columns of texts."})
    words: int = field(default=8, metadata={"help": "Words of a phrase."})
    keep: float = field(default=0.6, metadata={"help": "Probability of a word to be in a part."})
    seed: int = field(default=0, metadata={"help": "Seed of phrases and parts."})

    def sentences(self) -> Sentences:
        """Returns the data set, or raises ValueError without `data`."""
        _require_data(self.data)
        return Sentences(self.data, self.split, self.columns, language=None)

    def protocol(self, run: RunArguments) -> PhraseProtocol:
        """Returns the settings of the evaluation. The limit of the run counts phrases."""
        limit = PhraseProtocol.limit if run.limit is None else run.limit
        return PhraseProtocol(self.words, self.keep, limit, self.seed)


def _require_data(data: str) -> None:
    if not data:
        raise ValueError("Nothing to evaluate on: pass --data, a known name, a path or a hub name.")


def _zero_shot(encoder: Encoder, run: RunArguments, args: ZeroShotArguments) -> Report:
    return zero_shot_report(encoder, args.benchmark(run), args.protocol, args.templates)


def _few_shot(encoder: Encoder, run: RunArguments, args: FewShotArguments) -> Report:
    return few_shot_report(encoder, args.benchmark(run), args.protocol())


def _with_captions(report: Callable) -> Callable:
    return lambda encoder, run, args: report(encoder, args.benchmark(run), args.languages)


def _with_sentences(report: Callable) -> Callable:
    return lambda encoder, run, args: report(encoder, args.sentences(run))


def _robustness(encoder: Encoder, run: RunArguments, args: RobustnessArguments) -> Report:
    others = {name: _open_encoder(name, run, encoder.model.device) for name in args.beside}
    return robustness_report(encoder, args.sentences(run), others, args.seed)


def _open_encoder(name: str, run: RunArguments, device: torch.device) -> Encoder:
    model, processor = open_vector_model(name, dtype=run.dtype)
    options = (run.cache_dir, run.batch_size, run.text_batch_size, run.part_size, run.progress)
    return Encoder(model.to(device), processor, *options)


def _phrases(encoder: Encoder, run: RunArguments, args: PhraseArguments) -> Report:
    return phrase_report(encoder, args.sentences(), args.protocol(run))


TASKS = {
    "zero-shot": (ZeroShotArguments, _zero_shot),
    "retrieval": (CaptionArguments, _with_captions(retrieval_report)),
    "few-shot": (FewShotArguments, _few_shot),
    "sts": (SentenceArguments, _with_sentences(sts_report)),
    "bitext": (SentenceArguments, _with_sentences(bitext_report)),
    "phrases": (PhraseArguments, _phrases),
    "robustness": (RobustnessArguments, _robustness),
    "modality-gap": (CaptionArguments, _with_captions(modality_gap_report)),
    "mixed-index": (CaptionArguments, _with_captions(mixed_index_report)),
}
USAGE = f"""usage: clippo evaluate TASK [--field value ...]

tasks: {", ".join(TASKS)}
       all [recipe.yaml]: every evaluation of a recipe (default: {DEFAULT_RECIPE})

`clippo evaluate TASK --help` lists the options of a task. Under torchrun or accelerate launch the processes share the
work."""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the evaluations that the command line names; prints and writes their reports.

    Raises:
        SystemExit: With one sentence, for arguments and data that cannot be used.
    """
    run_command(sys.argv[1:] if argv is None else argv)


def run_command(argv: Sequence[str]) -> list[Report]:
    """Does the same as `main`, and returns the reports."""
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0)
    task, *rest = argv
    if task != "all" and task not in TASKS:
        raise SystemExit(f"error: {task!r} is not a task\n\n{USAGE}")
    try:
        run, tasks = _parse_recipe(rest) if task == "all" else _parse_task(task, rest)
        return evaluate(run, tasks, f"clippo evaluate {shlex.join(argv)}")
    except (ImportError, OSError, TypeError, ValueError) as error:
        if os.environ.get("CLIPPO_DEBUG"):
            raise
        raise SystemExit(f"error: {error}") from None


def evaluate(run: RunArguments, tasks: list[tuple[str, object]], command: str = "") -> list[Report]:
    """Runs evaluations one after the other with one model.

    Args:
        run: Options that they share.
        tasks: Pairs of a name in `TASKS` and its arguments.
        command: Command line to record in the reports.
    """
    device = torch.device(run.device) if run.device else None
    # Joins the process group that torchrun or accelerate launch announce. In a single process it does nothing.
    state = PartialState(cpu=device is not None and device.type == "cpu")
    run.dtype = resolve_dtype(run.dtype, device or state.device)
    encoder = _open_encoder(run.model, run, device or state.device)
    encoder.vectors = None if run.vectors is None else Vectors(run.vectors)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers"))
    reports = []
    for name, arguments in tasks:
        encoder.texts_cut = 0
        report = TASKS[name][1](encoder, run, arguments)
        report.counts["different texts too long for the canvas, cut"] = encoder.texts_cut
        report.context = {"model": run.model, "command": command, "versions": f"{versions}, {run.dtype}"}
        reports.append(report)
        if state.is_main_process:  # each at once, because a later one may fail
            report.write(run.output_dir)
            print(report.to_markdown(), flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return reports


def _parse_task(task: str, argv: list[str]) -> tuple[RunArguments, list]:
    parser = HfArgumentParser((RunArguments, TASKS[task][0]), prog=f"clippo evaluate {task}")
    run, arguments = parser.parse_args_into_dataclasses(argv)
    return run, [(task, arguments)]


def _parse_recipe(argv: list[str]) -> tuple[RunArguments, list]:
    """Reads the tasks of a recipe. Options on the command line win over its section `run`."""
    named = bool(argv) and not argv[0].startswith("-")
    path = find_recipe(argv[0] if named else DEFAULT_RECIPE)
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(recipe, dict) or not recipe.get("tasks") or set(recipe) - {"run", "tasks"}:
        raise ValueError(f"{path} needs a list `tasks`, may have a section `run`, and may have no other key.")
    parser = HfArgumentParser(RunArguments, prog="clippo evaluate all")
    parser.set_defaults(**known_options(RunArguments, recipe.get("run") or {}, path))
    (run,) = parser.parse_args_into_dataclasses(argv[1:] if named else argv)
    tasks = []
    for entry in recipe["tasks"]:
        entry = dict(entry)
        name = entry.pop("task", None)
        if name not in TASKS:
            raise ValueError(f"{path}: task {name!r} is not known; choose one of {', '.join(TASKS)}.")
        tasks.append((name, TASKS[name][0](**known_options(TASKS[name][0], entry, path))))
    return run, tasks


def known_options(kind: type, values: dict, path: object) -> dict:
    """Returns the options of a recipe, or raises ValueError if one is unknown.

    Args:
        kind: Dataclass of the options.
        values: Options by name.
        path: Origin of the options in the message.
    """
    names = [one.name for one in fields(kind)]
    unknown = sorted(set(values) - set(names))
    if unknown:
        raise ValueError(f"{path} sets {', '.join(unknown)}, which is not an option; there are {', '.join(names)}.")
    return values
