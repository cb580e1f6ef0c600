"""Command lines of `clippo build`: the emoji data set, the gallery of the demo, and phrases for text pretraining."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import HfArgumentParser

from clippo.data.phrases import write_phrases
from clippo.emoji.build import build_emoji_dataset
from clippo.emoji.gallery import build_gallery

USAGE = """usage: clippo build {emoji,gallery,phrases,pictograms} ...

  emoji       Build the emoji data set from Noto Color Emoji and Unicode CLDR.
  gallery     Write the images and queries of the demo, a small part of the emoji data set.
  phrases     Cut documents into phrases in several views, a source for text pretraining.
  pictograms  Build the pictogram data set of icons and emoji from npm packages.

`clippo build NAME --help` lists the options."""


@dataclass
class EmojiArguments:
    """Options of `clippo build emoji`."""

    output_dir: str = field(default="data/emoji", metadata={"help": "Folder for the parquet files."})
    font_path: str | None = field(
        default=None,
        metadata={"help": "NotoColorEmoji.ttf with bitmaps (CBDT); by default that of Debian or of node_modules."},
    )
    cldr_folder: str | None = field(
        default=None,
        metadata={"help": "`common` folder of a CLDR release, or node_modules; by default that of Debian or npm."},
    )
    skin_tones: bool = field(default=False, metadata={"help": "Also take the variants by skin tone and hair."})
    held_out: float = field(default=0.1, metadata={"help": "Share of (image, language) pairs kept from training."})
    min_coverage: float = field(default=0.1, metadata={"help": "Share of the images that a language must name."})


@dataclass
class GalleryArguments:
    """Options of `clippo build gallery`."""

    data_dir: str = field(default="data/emoji", metadata={"help": "Folder of the emoji data set."})
    output_dir: str = field(default="docs/pictures", metadata={"help": "Folder for the images and queries.json."})


@dataclass
class PhraseArguments:
    """Options of `clippo build phrases`."""

    files: list[str] = field(metadata={"help": "Files of documents; every type that a recipe takes."})
    output_dir: str = field(default="data/text_views", metadata={"help": "Folder for train.parquet."})
    text_columns: list[str] = field(
        default_factory=lambda: ["text"], metadata={"help": "Columns of texts; each file is read for those it has."}
    )
    words: int = field(default=7, metadata={"help": "Words of a phrase."})
    keep: float = field(default=0.62, metadata={"help": "Probability of a word to be in a view."})
    views: int = field(default=4, metadata={"help": "Views of a phrase."})
    lowercase: float = field(default=0.0, metadata={"help": "Probability of a view to be in small letters."})
    seed: int = field(default=0, metadata={"help": "Seed; the same seed gives the same views."})


def main(argv: Sequence[str] | None = None) -> None:
    """Build the data set that the first argument names.

    Args:
        argv: "emoji", "gallery" or "phrases" and its options; by default the command line.

    Raises:
        SystemExit: The name is unknown, or an input is missing or wrong.
    """
    name, *options = [*(sys.argv[1:] if argv is None else argv)] or ["--help"]
    if name in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0)  # as argparse ends after its help
    if name not in COMMANDS:
        raise SystemExit(f"error: clippo build has no {name!r}; choose from: {', '.join(COMMANDS)}.")
    run, kind = COMMANDS[name]
    (arguments,) = HfArgumentParser(kind, prog=f"clippo build {name}").parse_args_into_dataclasses(options)
    try:
        run(**vars(arguments))
    except (OSError, ImportError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


def _build_emoji(**options) -> None:
    print(json.dumps(build_emoji_dataset(**options), indent=2, ensure_ascii=False))


def _build_gallery(**options) -> None:
    for query in build_gallery(**options):
        kind = "held out" if query["held_out"] else "trained"
        print(f"{query['language']:10} {kind:9} {query['picture']:18} {query['text']}")


def _build_phrases(**options) -> None:
    count, path = write_phrases(**options)
    print(f"{count} phrases in {options['views']} views each: {path}")


COMMANDS = {
    "emoji": (_build_emoji, EmojiArguments),
    "gallery": (_build_gallery, GalleryArguments),
    "phrases": (_build_phrases, PhraseArguments),
}
