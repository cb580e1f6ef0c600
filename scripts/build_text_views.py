"""Phrases in several views, as a text-text source for recipes/text_pairs.yaml.

`python scripts/build_text_views.py --files books.parquet speeches.parquet --output_dir data/text_views`
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
from transformers import HfArgumentParser

from clippo.data.phrases import phrase_views


@dataclass
class Arguments:
    """What to cut into views."""

    files: list[str] = field(metadata={"help": "Parquet files of documents."})
    output_dir: str = field(default="data/text_views", metadata={"help": "Folder for train.parquet."})
    text_columns: list[str] = field(
        default_factory=lambda: ["text"], metadata={"help": "Columns of texts; of each file, those that it has."}
    )
    words: int = field(default=7, metadata={"help": "Words of a phrase."})
    keep: float = field(default=0.62, metadata={"help": "Probability of a word to be in a view."})
    views: int = field(default=4, metadata={"help": "Views of a phrase."})
    lowercase: float = field(default=0.0, metadata={"help": "Probability of a view to be in small letters."})
    seed: int = field(default=0, metadata={"help": "The same seed gives the same views."})


def read_texts(file: str, columns: list[str]) -> Iterator[str]:
    """The texts of one file, column by column.

    Raises:
        ValueError: None of the columns is there.
    """
    names = parquet.read_schema(file).names
    there = [name for name in columns if name in names]
    if not there:
        raise ValueError(f"{file} has none of the columns {columns} (--text_columns): {names}")
    table = parquet.read_table(file, columns=there)
    for name in there:
        yield from table[name].to_pylist()


if __name__ == "__main__":
    if len(sys.argv) == 1:
        raise SystemExit(__doc__)
    (args,) = HfArgumentParser((Arguments,)).parse_args_into_dataclasses()
    documents = (text for file in args.files for text in read_texts(file, args.text_columns))
    rows = list(phrase_views(documents, args.words, args.keep, args.views, args.seed, args.lowercase))
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({"views": rows}), Path(args.output_dir) / "train.parquet", compression="zstd")
    print(f"{len(rows)} phrases in {args.views} views each: {Path(args.output_dir) / 'train.parquet'}")
