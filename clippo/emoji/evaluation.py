"""Recall of an emoji search: text-to-image ranks over all pictograms, by script and by split."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as parquet
import torch
from accelerate import PartialState
from transformers import AutoModel, AutoProcessor, HfArgumentParser

from clippo.evaluation.encoder import Encoder
from clippo.evaluation.precision import resolve_dtype
from clippo.evaluation.retrieval import ranks, recall_at_k
from clippo.model_files import find_model

# Whole (image, language) rows are held out of training, keywords included. The name of some of them is still a training
# text of the same image in a related language. Only the other rows ask for more than recognition.
SPLITS = ("seen", "held out", "held out, name never seen", "language not trained")


def read_emoji(
    folder: str | Path, columns: Sequence[str], languages: Sequence[str] | None = None
) -> tuple[list[dict], list[dict]]:
    """Reads images and annotations of the emoji data set.

    Args:
        folder: Folder that `scripts/build_emoji_dataset.py` wrote.
        columns: Columns of the annotations, beside "language".
        languages: Only these languages. None reads all.

    Returns:
        Undecoded images, and annotation rows. The field "image" of a row is the index of its image.
    """
    images = parquet.read_table(Path(folder) / "pictures.parquet", columns=["id", "image"]).to_pylist()
    place = {row["id"]: i for i, row in enumerate(images)}
    table = parquet.read_table(Path(folder) / "annotations.parquet", columns=["id", "language", *columns])
    rows = [
        {**row, "image": place[row["id"]]}
        for row in table.to_pylist()
        if row["id"] in place and (languages is None or row["language"] in languages)
    ]
    return [row["image"] for row in images], rows


def evaluate_emoji(
    encoder: Encoder, folder: str | Path, languages: Sequence[str] | None = None, trained: Sequence[str] | None = None
) -> list[dict]:
    """Ranks all images for every name.

    Args:
        encoder: Encoder of the model.
        folder: Folder that `scripts/build_emoji_dataset.py` wrote.
        languages: Languages of the queries; None takes all. The images are always all.
        trained: Languages that the model was trained on; None means all. The others form a split of their own.

    Returns:
        Rows {"split", "script", "languages", "queries", "R@1", "R@5", "R@10"}, recalls in 0..1. In each split the
        script "all" comes first, then the scripts by their number of queries, then each language, whose row has its
        "language" too. Chance is k / number of images.
    """
    cells, rows = read_emoji(folder, ["script", "name", "split", "name_in_train"], languages)
    images = encoder.images(cells).require_all()
    texts = encoder.texts([row["name"] for row in rows])
    position = ranks(texts, images, torch.tensor([row["image"] for row in rows]))

    groups: dict[tuple[str, str, str | None], list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        for split in _splits(row, trained):
            groups[split, "all", None].append(i)
            groups[split, row["script"], None].append(i)
            groups[split, row["script"], row["language"]].append(i)
    report = [
        {
            "split": split,
            "script": script,
            **({} if language is None else {"language": language}),
            "languages": len({rows[i]["language"] for i in members}),
            "queries": len(members),
            **recall_at_k(position[members]),
        }
        for (split, script, language), members in groups.items()
    ]

    def order(row: dict) -> tuple:
        return SPLITS.index(row["split"]), "language" in row, row["script"] != "all", -row["queries"]

    return sorted(report, key=order)


def _splits(row: dict, trained: Sequence[str] | None) -> list[str]:
    """Returns the splits that a (image, language) row counts in."""
    if trained is not None and row["language"] not in trained:
        return ["language not trained"]
    if row["split"] != "held_out":
        return ["seen"]
    return ["held out"] if row["name_in_train"] else ["held out", "held out, name never seen"]


def as_markdown(report: list[dict], images: int) -> str:
    """Formats the report as one Markdown table: one line a script, recalls in percent, chance in the last line."""
    cells: dict[str, dict[str, dict]] = defaultdict(dict)
    for row in (row for row in report if "language" not in row):
        cells[row["script"]][row["split"]] = row
    splits = [split for split in SPLITS if any(split in by_split for by_split in cells.values())]
    header = "".join(f" {split}: queries | R@1 | R@5 |" for split in splits)
    lines = [f"| script | languages |{header}", "|---|---|" + "---|---|---|" * len(splits)]
    for script, by_split in cells.items():
        untrained = by_split[SPLITS[-1]]["languages"] if SPLITS[-1] in by_split else 0
        trained = max((row["languages"] for split, row in by_split.items() if split != SPLITS[-1]), default=0)
        line = f"| {script} | {trained + untrained} |"
        for split in splits:
            row = by_split.get(split)
            line += f" {row['queries']} | {row['R@1']:.1%} | {row['R@5']:.1%} |" if row else " | | |"
        lines.append(line)
    lines.append("| chance | |" + f" | {1 / images:.2%} | {5 / images:.2%} |" * len(splits))
    return "\n".join(lines) + "\n"


@dataclass
class EmojiEvaluationArguments:
    """Options of the emoji evaluation."""

    model: str = field(default="checkpoints/clippo-emoji", metadata={"help": "Folder or hub name of the model."})
    data_dir: str = field(default="data/emoji", metadata={"help": "Folder of the emoji data set."})
    languages: list[str] | None = field(default=None, metadata={"help": "Languages of the queries; default: all."})
    trained: list[str] | None = field(
        default=None, metadata={"help": "Languages that the model was trained on; default: all."}
    )
    device: str | None = field(default=None, metadata={"help": "cpu, cuda, ...; default: the best available."})
    dtype: str = field(default="float32", metadata={"help": "Type of weights: float32, bfloat16, float16, or fast."})
    output: str | None = field(default=None, metadata={"help": "Also write <output>.json and <output>.md."})


def main(argv: Sequence[str] | None = None) -> None:
    """Measures the recall of an emoji search, by script and by split.

    Raises:
        SystemExit: With one sentence, if a file is missing or cannot be used.
    """
    parser = HfArgumentParser(EmojiEvaluationArguments, description=main.__doc__.partition("\n")[0])
    (args,) = parser.parse_args_into_dataclasses(argv)
    try:
        device = torch.device(args.device) if args.device else PartialState().device
        model = AutoModel.from_pretrained(find_model(args.model), dtype=resolve_dtype(args.dtype, device)).to(device)
        encoder = Encoder(model, AutoProcessor.from_pretrained(args.model), progress=True)
        report = evaluate_emoji(encoder, args.data_dir, args.languages, args.trained)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    images = parquet.read_metadata(Path(args.data_dir) / "pictures.parquet").num_rows
    table = as_markdown(report, images)
    print(table)
    if args.output:
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        Path(args.output + ".json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        Path(args.output + ".md").write_text(table, encoding="utf-8")
