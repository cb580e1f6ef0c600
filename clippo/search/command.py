"""Search a data set by texts in any language, or by pictures.

clippo embed --model checkpoints/clippo-emoji --data docs/pictures --output vectors/pictures
clippo search --vectors vectors/pictures --query "red fruit" Flugzeug --output found.html

New or removed files: run `clippo embed` again. Only the parts that changed are embedded.
"""

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import HfArgumentParser

from clippo.data.samples import UnusableRow, read_image
from clippo.data.sources import load_rows
from clippo.data.vectors import Vectors, row_hash
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.vector_models import open_vector_model
from clippo.processing import open_image
from clippo.search.index import Hit, SearchIndex
from clippo.search.page import Result, write_sheet


@dataclass
class SearchArguments:
    """Options of `clippo search`."""

    vectors: str = field(metadata={"help": "Folder that `clippo embed` wrote."})
    query: list[str] = field(default_factory=list, metadata={"help": "Texts that search."})
    image: list[str] = field(default_factory=list, metadata={"help": "Image files that search."})
    count: int = field(default=8, metadata={"help": "Hits of each query."})
    output: str | None = field(
        default=None, metadata={"help": "Contact sheet to write: an .html file with the pictures inside, or an image."}
    )
    model: str | None = field(
        default=None,
        metadata={"help": "Model of the queries (default: the one that made the vectors), or one that reads for it."},
    )

    def __post_init__(self):
        if not self.query and not self.image:
            raise ValueError("there is nothing to search for; give --query TEXT or --image FILE.")


def search(index: SearchIndex, args: SearchArguments) -> list[tuple[str, list[Hit]]]:
    """Find the nearest rows of each query.

    Args:
        index: Index of the folder `args.vectors`.
        args: Options of the command.

    Returns:
        Title of each query, and its hits.

    Raises:
        FileNotFoundError: The model or a picture is missing.
        ValueError: The model is not the one that made the vectors, nor one that reads for it.
    """
    made_by = index.vectors.about.model
    model, processor = open_vector_model(args.model or made_by)
    reads_for = getattr(getattr(model, "config", None), "image_tower", None)  # a text tower for given image vectors
    if args.model and Path(args.model).name != Path(made_by).name and reads_for != made_by:
        raise ValueError(f"{args.vectors} was made by {made_by}, not by {args.model}; embed the data with that model.")
    encoder = Encoder(model, processor)
    queries = [encoder.texts(args.query)] if args.query else []
    if args.image:
        queries.append(encoder.images([open_image(file) for file in args.image]).require_all())
    hits = index.search(torch.cat(queries).numpy(), args.count)
    return list(zip([*args.query, *args.image], hits, strict=True))


def show_hits(rows: Any, vectors: Vectors, hits: list[Hit]) -> list[Result]:
    """Names and pictures of hits. A file that was deleted since then has no picture.

    Args:
        rows: The data set as it is now.
        vectors: Its vectors.
        hits: Hits of a query.
    """
    kind, results = vectors.about.kind, []
    for hit in hits:
        cell, picture = _cell(rows, vectors, hit), None
        if kind == "images":
            with contextlib.suppress(UnusableRow):
                picture = read_image(cell)
        name = hit.key or f"row {hit.row}"
        if kind == "texts" and cell is not None:
            name = str(cell)
        results.append(Result(hit.score, name if kind == "texts" else Path(name).name, picture))
    return results


def _cell(rows: Any, vectors: Vectors, hit: Hit) -> Any:
    """Cell of a hit; the rows may have moved since they were embedded, and then a file is found by its name."""
    about = vectors.about
    cell = rows[hit.row][about.column] if hit.row < len(rows) else None
    if cell is not None and row_hash(cell, about.kind) == vectors.hashes[hit.row].tobytes():
        return cell
    return hit.key if about.kind == "images" and hit.key and Path(hit.key).is_file() else None


def main(argv: Sequence[str] | None = None) -> None:
    """Run `clippo search`."""
    parser = HfArgumentParser(SearchArguments, prog="clippo search", description=__doc__)
    try:
        (args,) = parser.parse_args_into_dataclasses(sys.argv[1:] if argv is None else list(argv))
        index = SearchIndex(args.vectors)
        found, about = search(index, args), index.vectors.about
        rows = load_rows(about.data)
        shown = [(title, show_hits(rows, index.vectors, hits)) for title, hits in found]
        for title, results in shown:
            print(f"\n{title}")
            for result in results:
                print(f"  {result.score:.3f}  {result.name}")
        if args.output:
            write_sheet(args.output, shown)
            print(f"\nWrote {args.output}")
    except (ImportError, OSError, ValueError, TypeError) as error:
        raise SystemExit(f"error: {error}") from None
