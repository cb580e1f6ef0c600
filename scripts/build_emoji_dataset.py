#!/usr/bin/env python
"""Builds the emoji data set from Debian's fonts-noto-color-emoji and unicode-cldr-core.

apt-get install fonts-noto-color-emoji unicode-cldr-core && python scripts/build_emoji_dataset.py
"""

import json
from dataclasses import dataclass, field

from transformers import HfArgumentParser

from clippo.emoji.build import DEFAULT_CLDR, DEFAULT_FONT, build_emoji_dataset


@dataclass
class BuildArguments:
    output_dir: str = field(default="data/emoji", metadata={"help": "Where the parquet files go."})
    font_path: str = field(default=str(DEFAULT_FONT), metadata={"help": "NotoColorEmoji.ttf with bitmaps (CBDT)."})
    cldr_folder: str = field(default=str(DEFAULT_CLDR), metadata={"help": "The `common` folder of a CLDR release."})
    skin_tones: bool = field(default=False, metadata={"help": "Also take the variants by skin tone and hair."})
    held_out: float = field(default=0.1, metadata={"help": "Share of (picture, language) pairs kept from training."})
    min_coverage: float = field(default=0.1, metadata={"help": "Share of the pictures a language must name."})


def main() -> None:
    (arguments,) = HfArgumentParser(BuildArguments).parse_args_into_dataclasses()
    try:
        info = build_emoji_dataset(**vars(arguments))
    except (FileNotFoundError, ImportError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    print(json.dumps(info, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
