"""Command line of `clippo build pictograms`."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import HfArgumentParser

from clippo.pictograms.build import build_pictograms
from clippo.pictograms.compact import write_compact
from clippo.pictograms.drawing import SIDE
from clippo.pictograms.gallery import build_gallery


@dataclass
class PictogramArguments:
    """Options of `clippo build pictograms`."""

    output_dir: str = field(default="data/pictograms", metadata={"help": "Folder for the data set."})
    packages_dir: str = field(
        default="node_modules", metadata={"help": "Folder of the npm packages; without them, the npm command is shown."}
    )
    sets: list[str] | None = field(default=None, metadata={"help": "Only these icon sets; default: all allowed."})
    side: int = field(default=SIDE, metadata={"help": "Side of the pictures in pixels."})
    workers: int | None = field(default=None, metadata={"help": "Processes that draw; default: one a core."})
    compact_dir: str | None = field(default=None, metadata={"help": "Also write the compact form to this folder."})
    most_pictures: int | None = field(default=None, metadata={"help": "Most pictures of the compact form."})


def main(argv: Sequence[str] | None = None) -> None:
    """Builds the pictogram data set from npm packages: icons, emoji, and words in many languages.

    Raises:
        SystemExit: With one sentence, if a package is missing or cannot be used.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    parser = HfArgumentParser(PictogramArguments, description=main.__doc__.partition("\n")[0])
    (args,) = parser.parse_args_into_dataclasses(argv)
    try:
        info = build_pictograms(args.output_dir, args.packages_dir, args.sets, args.side, args.workers)
        compact = write_compact(args.output_dir, args.compact_dir, args.most_pictures) if args.compact_dir else None
    except (OSError, ImportError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    shown = {name: info[name] for name in ("data_hash", "statistics", "pictures_left_out", "sets_left_out")}
    shown["statistics"] = {name: value for name, value in shown["statistics"].items() if name != "pictures_by_set"}
    if compact:
        shown["compact"] = compact
    print(json.dumps(shown, indent=1, ensure_ascii=False))


@dataclass
class GalleryArguments:
    """Options of `clippo build pictogram_gallery`."""

    data_dir: str = field(default="data/pictograms", metadata={"help": "Folder of the pictogram data set."})
    output_dir: str = field(
        default="data/pictogram_gallery", metadata={"help": "Folder for sheet.webp and gallery.json."}
    )
    most: int = field(default=2025, metadata={"help": "Most pictures."})


def main_gallery(argv: Sequence[str] | None = None) -> None:
    """Writes a sheet with one picture of each concept, and its attributions.

    Raises:
        SystemExit: With one sentence, if the data set is missing.
    """
    parser = HfArgumentParser(GalleryArguments, description=main_gallery.__doc__.partition("\n")[0])
    (args,) = parser.parse_args_into_dataclasses(argv)
    try:
        print(json.dumps(build_gallery(args.data_dir, args.output_dir, args.most)))
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
