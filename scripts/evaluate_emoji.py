"""Recall of an emoji finder by script and split, as JSON and Markdown: `python scripts/evaluate_emoji.py --help`."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as parquet
from transformers import AutoModel, AutoProcessor, HfArgumentParser

import clippo  # noqa: F401 - registers the Auto classes
from clippo.emoji.evaluation import as_markdown, evaluate_emoji


@dataclass
class Arguments:
    model: str = field(default="checkpoints/clippo-emoji", metadata={"help": "Folder or hub name of the model."})
    data_dir: str = field(default="data/emoji", metadata={"help": "What scripts/build_emoji_dataset.py made."})
    languages: list[str] | None = field(default=None, metadata={"help": "Query languages; default all."})
    trained: list[str] | None = field(default=None, metadata={"help": "Languages it was trained on; default all."})
    output: str | None = field(default=None, metadata={"help": "Write <output>.json and <output>.md too."})


if __name__ == "__main__":
    (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    model = AutoModel.from_pretrained(args.model, dtype="float32")
    processor = AutoProcessor.from_pretrained(args.model)
    report = evaluate_emoji(model, processor, args.data_dir, args.languages, args.trained, progress=True)
    pictures = parquet.read_metadata(Path(args.data_dir) / "pictures.parquet").num_rows
    table = as_markdown(report, pictures)
    print(table)
    if args.output:
        Path(args.output).parent.mkdir(parents=True, exist_ok=True)
        Path(args.output + ".json").write_text(json.dumps(report, indent=1), encoding="utf-8")
        Path(args.output + ".md").write_text(table, encoding="utf-8")
