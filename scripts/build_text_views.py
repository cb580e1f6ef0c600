"""Phrases in several views, as a text-text source for recipes/text_pairs.yaml.

`python scripts/build_text_views.py --files books.parquet speeches.parquet --output data/text_views`
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
from transformers import HfArgumentParser

from clippo.data.text_views import phrase_views


@dataclass
class Arguments:
    """What to cut into views."""

    files: list[str] = field(metadata={"help": "Parquet files of documents."})
    output: str = field(default="data/text_views", metadata={"help": "Folder for train.parquet."})
    text_column: str = field(default="text", metadata={"help": "Column of the documents."})
    words: int = field(default=7, metadata={"help": "Words of a phrase."})
    keep: float = field(default=0.62, metadata={"help": "Probability of a word to be in a view."})
    views: int = field(default=4, metadata={"help": "Views of a phrase."})
    lowercase: float = field(default=0.0, metadata={"help": "Probability of a view to be in small letters."})
    seed: int = field(default=0, metadata={"help": "The same seed gives the same views."})


if __name__ == "__main__":
    if len(sys.argv) == 1:
        raise SystemExit(__doc__)
    (args,) = HfArgumentParser((Arguments,)).parse_args_into_dataclasses()
    documents = (
        text
        for file in args.files
        for text in parquet.read_table(file, columns=[args.text_column])[args.text_column].to_pylist()
    )
    rows = list(phrase_views(documents, args.words, args.keep, args.views, args.seed, args.lowercase))
    Path(args.output).mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({"views": rows}), Path(args.output) / "train.parquet", compression="zstd")
    print(f"{len(rows)} phrases in {args.views} views each: {Path(args.output) / 'train.parquet'}")
