#!/usr/bin/env python
"""Shows what a checkpoint can do: zero-shot classification, retrieval in many languages, and a picture of both.

python scripts/demo.py
python scripts/demo.py --pictures FOLDER --labels cat собака 鳥
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser
from transformers.utils import logging

import clippo  # noqa: F401 - registers the Auto classes
from clippo.demo.terminal import Query, read_pictures, read_queries, run_demo

ROOT = Path(__file__).resolve().parents[1]
OUR_PICTURES = ROOT / "docs" / "pictures"


@dataclass
class DemoArguments:
    model: str = field(default=str(ROOT / "checkpoints" / "clippo-emoji"), metadata={"help": "Folder of a checkpoint."})
    output: str = field(default="demo.png", metadata={"help": "Where the picture goes."})
    pictures: str | None = field(default=None, metadata={"help": "Folder of your own pictures."})
    labels: list[str] | None = field(default=None, metadata={"help": "Your own texts."})


def main() -> None:
    (arguments,) = HfArgumentParser(DemoArguments).parse_args_into_dataclasses()
    sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode still gets the numbers
    logging.disable_progress_bar()
    try:
        if arguments.labels:
            queries = [Query(text) for text in dict.fromkeys(arguments.labels)]
        else:
            queries = read_queries(OUR_PICTURES)
            if arguments.pictures:  # our queries say nothing about which of these is right
                queries = [Query(query.text, query.language) for query in queries]
        sheet = run_demo(arguments.model, read_pictures(Path(arguments.pictures or OUR_PICTURES)), queries)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    sheet.save(arguments.output, optimize=True)
    print(f"\nWrote {arguments.output}: what the model read, and how it scored.")


if __name__ == "__main__":
    main()
