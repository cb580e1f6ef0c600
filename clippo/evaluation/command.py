"""The command line `scripts/evaluate.py`: one sub-command an evaluation, and `all` for a recipe of several."""

import importlib.metadata
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
import yaml
from accelerate import PartialState
from transformers import AutoModel, AutoProcessor, HfArgumentParser

from clippo.evaluation.classification import few_shot_report, zero_shot_report
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.image_text import mixed_index_report, modality_gap_report, retrieval_report
from clippo.evaluation.phrase_matching import reading_report
from clippo.evaluation.report import Report
from clippo.evaluation.sources import Source, find_source
from clippo.evaluation.text_text import bitext_report, sts_report
from clippo.model_files import find_model

DEFAULT_RECIPE = "recipes/evaluation/emoji.yaml"


@dataclass
class RunArguments:
    """What all evaluations share."""

    model: str = field(default="checkpoints/clippo-emoji", metadata={"help": "Folder or hub name of the model."})
    output: str = field(default="runs/evaluation", metadata={"help": "Folder for .json, .md and .png files."})
    cache: str = field(
        default="~/.cache/clippo/embeddings", metadata={"help": "Folder that keeps embeddings; '' keeps none."}
    )
    batch_size: int = field(default=64, metadata={"help": "Pictures embedded at once, on each process."})
    text_batch_size: int = field(default=256, metadata={"help": "Texts embedded at once, on each process."})
    part_size: int = field(default=1024, metadata={"help": "Pictures or texts a cached file holds."})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda, cuda:1, ...; default: the best there is."})
    dtype: str = field(default="float32", metadata={"help": "Of the weights: float32, bfloat16, float16."})
    streaming: bool = field(default=False, metadata={"help": "Read data as they are needed, without a local copy."})
    limit: int | None = field(
        default=None, metadata={"help": "Only the first so many rows of each data set (sentences: of each language)."}
    )
    progress: bool = field(default=True, metadata={"help": "Show progress bars."})


@dataclass
class PictureArguments:
    """Which pictures."""

    data: str = field(
        default="",
        metadata={"help": "imagenet, cifar10, cifar100, pets, coco, flickr30k, flickr8k, xm3600, or a path."},
    )
    split: str | None = field(default=None, metadata={"help": "Split, or how file names of a folder begin."})
    image: str | None = field(default=None, metadata={"help": "Column of the pictures."})

    def source(self, **overrides) -> Source:
        if not self.data:
            raise ValueError("Nothing to evaluate on: pass --data, a known name or a path.")
        return find_source(self.data, split=self.split, image=self.image, **overrides)


@dataclass
class ZeroShotArguments(PictureArguments):
    label: str | None = field(default=None, metadata={"help": "Column of the labels."})
    class_names: str | None = field(default=None, metadata={"help": "'imagenet' or a file, one name a line, by label."})
    protocol: str = field(default="official", metadata={"help": "official, colab, or name (the bare class name)."})
    templates: list[str] | None = field(default=None, metadata={"help": "Templates with {} instead of the protocol's."})


@dataclass
class FewShotArguments(PictureArguments):
    label: str | None = field(default=None, metadata={"help": "Column of the labels."})
    class_names: str | None = field(default=None, metadata={"help": "'imagenet' or a file, one name a line, by label."})
    train_split: str = field(default="train", metadata={"help": "Split to learn from."})
    shots: list[int] = field(
        default_factory=lambda: [1, 5, 10, 25], metadata={"help": "Pictures a class; 0 stands for all."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2], metadata={"help": "Draws of the shots."})
    l2: float = field(default=1024.0, metadata={"help": "Penalty of least squares."})
    c: float = field(default=1.0, metadata={"help": "Inverse penalty of the logistic regression."})
    probes: list[str] = field(
        default_factory=lambda: ["least-squares", "logistic"], metadata={"help": "least-squares, logistic or both."}
    )
    crop: bool = field(default=True, metadata={"help": "The official resize and central crop, else a plain squash."})


@dataclass
class CaptionArguments(PictureArguments):
    captions: list[str] | None = field(
        default=None, metadata={"help": "language=column pairs, such as en=captions de=de_1,de_2."}
    )
    languages: list[str] | None = field(default=None, metadata={"help": "Only these languages."})
    gallery: str | None = field(
        default=None, metadata={"help": "Pictures that a language's captions are looked for in: captioned, all."}
    )

    def source(self, **overrides) -> Source:
        columns = None
        if self.captions:
            wrong = [pair for pair in self.captions if pair.count("=") != 1]
            if wrong:
                raise ValueError(f"captions takes language=column, got {wrong[0]!r}.")
            columns = dict(pair.split("=") for pair in self.captions)
        return super().source(captions=columns, gallery=self.gallery, **overrides)


@dataclass
class TextArguments:
    """Which texts."""

    data: str = field(default="", metadata={"help": "A Parquet file, a folder of them, or a hub name."})
    split: str = field(default="test", metadata={"help": "Split, or how file names of a folder begin."})

    def require_data(self) -> None:
        if not self.data:
            raise ValueError("Nothing to evaluate on: pass --data, a path or a hub name.")


@dataclass
class SentenceArguments(TextArguments):
    columns: list[str] | None = field(default=None, metadata={"help": "The two sentences (and the judgement)."})
    language_column: str = field(default="lang", metadata={"help": "Column that says the language, if there is one."})
    languages: list[str] | None = field(default=None, metadata={"help": "Only these languages."})


@dataclass
class ReadingArguments(TextArguments):
    columns: list[str] = field(default_factory=lambda: ["text"], metadata={"help": "Columns of texts."})
    words: int = field(default=8, metadata={"help": "Words of a phrase."})
    keep: float = field(default=0.6, metadata={"help": "Probability of a word to be in a part."})
    seed: int = field(default=0, metadata={"help": "Of phrases and parts."})


def _zero_shot(encoder: Encoder, run: RunArguments, args: ZeroShotArguments) -> Report:
    source = args.source(label=args.label, class_names=args.class_names)
    return zero_shot_report(encoder, source, args.protocol, args.templates, run.streaming, run.limit)


def _few_shot(encoder: Encoder, run: RunArguments, args: FewShotArguments) -> Report:
    return few_shot_report(
        encoder,
        args.source(label=args.label, class_names=args.class_names),
        args.train_split,
        args.shots,
        args.seeds,
        args.l2,
        args.probes,
        args.c,
        args.crop,
        run.streaming,
        run.limit,
    )


def _with_captions(report):
    def evaluate(encoder: Encoder, run: RunArguments, args: CaptionArguments) -> Report:
        return report(encoder, args.source(), args.languages, run.streaming, run.limit)

    return evaluate


def _with_sentences(report):
    def evaluate(encoder: Encoder, run: RunArguments, args: SentenceArguments) -> Report:
        args.require_data()
        columns = {"columns": tuple(args.columns)} if args.columns else {}
        kept = {"language_column": args.language_column, "languages": args.languages, "limit": run.limit}
        return report(encoder, args.data, args.split, **columns, **kept)

    return evaluate


def _reading(encoder: Encoder, run: RunArguments, args: ReadingArguments) -> Report:
    args.require_data()
    limit = 1000 if run.limit is None else run.limit
    return reading_report(encoder, args.data, args.split, args.columns, args.words, args.keep, limit, args.seed)


TASKS = {
    "zero-shot": (ZeroShotArguments, _zero_shot),
    "retrieval": (CaptionArguments, _with_captions(retrieval_report)),
    "few-shot": (FewShotArguments, _few_shot),
    "sts": (SentenceArguments, _with_sentences(sts_report)),
    "bitext": (SentenceArguments, _with_sentences(bitext_report)),
    "reading": (ReadingArguments, _reading),
    "modality-gap": (CaptionArguments, _with_captions(modality_gap_report)),
    "mixed-index": (CaptionArguments, _with_captions(mixed_index_report)),
}
USAGE = f"""python scripts/evaluate.py COMMAND [--field value ...]

commands: {", ".join(TASKS)}
          all [recipe.yaml]: every evaluation of the recipe ({DEFAULT_RECIPE})

COMMAND --help lists the fields of one."""


def main(argv: Sequence[str] | None = None) -> list[Report]:
    """Runs what the command line asks for, writes and prints the reports, and returns them.

    Raises:
        SystemExit: with one sentence, for arguments and data that cannot be used.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        raise SystemExit(USAGE)
    command, *rest = argv
    if command != "all" and command not in TASKS:
        raise SystemExit(f"error: {command!r} is no command\n\n{USAGE}")
    try:
        run, tasks = _all(rest) if command == "all" else _one(command, rest)
        return evaluate(run, tasks, "python scripts/evaluate.py " + shlex.join(argv))
    except (ImportError, OSError, TypeError, ValueError) as error:
        if os.environ.get("CLIPPO_DEBUG"):
            raise
        raise SystemExit(f"error: {error}") from None


def evaluate(run: RunArguments, tasks: list[tuple[str, object]], command: str = "") -> list[Report]:
    """Runs evaluations one after the other with one model.

    Args:
        run: what they share.
        tasks: (name in `TASKS`, its arguments).
        command: what to write down as the command.
    """
    device = torch.device(run.device) if run.device else None
    # Takes part in the process group that torchrun or accelerate launch announce; alone it does nothing.
    state = PartialState(cpu=device is not None and device.type == "cpu")
    model = AutoModel.from_pretrained(find_model(run.model), dtype=run.dtype).to(device or state.device)
    processor = AutoProcessor.from_pretrained(run.model)
    encoder = Encoder(model, processor, run.cache, run.batch_size, run.text_batch_size, run.part_size, run.progress)
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers"))
    reports = []
    for name, arguments in tasks:
        encoder.texts_cut = 0
        report = TASKS[name][1](encoder, run, arguments)
        report.counts["different texts too long for the canvas, cut"] = encoder.texts_cut
        report.context = {"model": run.model, "command": command, "versions": f"{versions}, {run.dtype}"}
        reports.append(report)
        if state.is_main_process:  # as they come: a later one may fail
            report.write(run.output)
            print(report.to_markdown(), flush=True)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    return reports


def _one(command: str, argv: list[str]) -> tuple[RunArguments, list]:
    run, arguments = HfArgumentParser((RunArguments, TASKS[command][0])).parse_args_into_dataclasses(argv)
    return run, [(command, arguments)]


def _all(argv: list[str]) -> tuple[RunArguments, list]:
    """The recipe's tasks; options on the command line win over the recipe's `run` section."""
    path = argv.pop(0) if argv and argv[0].endswith((".yaml", ".yml", ".json")) else DEFAULT_RECIPE
    if not Path(path).is_file():
        raise FileNotFoundError(f"No recipe at {path}.")
    recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(recipe, dict) or not recipe.get("tasks") or set(recipe) - {"run", "tasks"}:
        raise ValueError(f"{path} needs a list `tasks` and may have a section `run`, nothing else.")
    parser = HfArgumentParser(RunArguments)
    parser.set_defaults(**_known(RunArguments, recipe.get("run") or {}, path))
    (run,) = parser.parse_args_into_dataclasses(argv)
    tasks = []
    for entry in recipe["tasks"]:
        entry = dict(entry)
        name = entry.pop("task", None)
        if name not in TASKS:
            raise ValueError(f"{path}: task {name!r} is none of {', '.join(TASKS)}.")
        tasks.append((name, TASKS[name][0](**_known(TASKS[name][0], entry, path))))
    return run, tasks


def _known(kind: type, values: dict, path: str) -> dict:
    unknown = sorted(set(values) - {one.name for one in fields(kind)})
    if unknown:
        has = ", ".join(asdict(kind()))
        raise ValueError(f"{path} sets {', '.join(unknown)}, which is none of {has}.")
    return values
