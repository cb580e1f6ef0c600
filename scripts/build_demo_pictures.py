#!/usr/bin/env python
"""Writes docs/pictures, the small part of the emoji data set that the demo shows.

python scripts/build_emoji_dataset.py && python scripts/build_demo_pictures.py
"""

from dataclasses import dataclass, field

from transformers import HfArgumentParser

from clippo.emoji.gallery import build_gallery


@dataclass
class GalleryArguments:
    data_dir: str = field(default="data/emoji", metadata={"help": "The emoji data set."})
    output_dir: str = field(default="docs/pictures", metadata={"help": "Where the pictures go."})


def main() -> None:
    (arguments,) = HfArgumentParser(GalleryArguments).parse_args_into_dataclasses()
    try:
        queries = build_gallery(**vars(arguments))
    except FileNotFoundError as error:
        raise SystemExit(f"error: {error}") from None
    for query in queries:
        kind = "held out" if query["held_out"] else "trained"
        print(f"{query['language']:10} {kind:9} {query['picture']:18} {query['text']}")


if __name__ == "__main__":
    main()
