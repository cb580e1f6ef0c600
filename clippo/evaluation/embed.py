"""Vectors of a data set by any model, written once and used in every training run.

clippo embed --model timm:resnet50 --data photos --output vectors/photos
clippo embed --model sentence-transformers/all-MiniLM-L6-v2 --data books.parquet --texts text --output vectors/books

A copy of a model keeps its name: `--model sentence:FOLDER --name sentence-transformers/all-MiniLM-L6-v2`.
The same command continues after a stop. Under `accelerate launch` the processes share the work. After a change of the
model, of its preprocessing or of the data, the vectors that it concerns are computed again.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from transformers import HfArgumentParser

from clippo.data.fingerprints import digest
from clippo.data.sources import check_columns, load_rows
from clippo.data.vectors import About, Vectors, row_hash
from clippo.evaluation.encoder import EmbeddedImages, Encoder
from clippo.evaluation.vector_models import open_vector_model

DTYPES = {"float16": torch.float16, "float32": torch.float32}


@dataclass
class EmbedArguments:
    """Arguments of `clippo embed`."""

    model: str = field(
        metadata={
            "help": "Folder or hub name of a CLIPPO, of another model of transformers or of sentence-transformers; "
            "timm:NAME; sentence:NAME."
        }
    )
    data: str = field(metadata={"help": "File, folder of images or files, or hub name; PATH:SPLIT names a split."})
    output_dir: str = field(metadata={"aliases": ["--output"], "help": "Folder for the vectors."})
    name: str | None = field(
        default=None, metadata={"help": "Name of the model to record (default: --model), for a copy of it in a folder."}
    )
    image: str | None = field(default=None, metadata={"help": "Column of the images (default: image)."})
    texts: str | None = field(default=None, metadata={"help": "Column of texts to embed in place of images."})
    key: str | None = field(
        default=None, metadata={"help": "Column of names of the rows (default: the file names of the images)."}
    )
    weights: str | None = field(default=None, metadata={"help": "timm: file of weights in place of a download."})
    size: int | None = field(default=None, metadata={"help": "timm: side of the input in pixels."})
    crop: float | None = field(
        default=None, metadata={"help": "timm: share of the side that is kept; 1 squashes the whole image."}
    )
    vector_dtype: str = field(default="float16", metadata={"help": "Type of the written numbers: float16, float32."})
    dtype: str = field(default="float32", metadata={"help": "Type of the weights: float32, bfloat16, float16."})
    batch_size: int = field(default=64, metadata={"help": "Images embedded at once, on each process."})
    text_batch_size: int = field(default=256, metadata={"help": "Texts embedded at once, on each process."})
    part_size: int = field(default=1024, metadata={"help": "Rows after which the work is saved."})
    device: str | None = field(default=None, metadata={"help": "cpu, cuda, cuda:1, ...; default: the best available."})
    limit: int | None = field(default=None, metadata={"help": "Rows to read from the beginning of the data."})
    progress: bool = field(default=True, metadata={"help": "Show progress bars."})

    def __post_init__(self):
        if self.vector_dtype not in DTYPES:
            raise ValueError(f"vector_dtype={self.vector_dtype!r} is not known; write one of {', '.join(DTYPES)}.")
        if self.image and self.texts:
            raise ValueError(f"image={self.image} and texts={self.texts} are two columns; embed one of them.")


def embed(args: EmbedArguments) -> Vectors:
    """Embeds a data set and writes the folder of vectors.

    Finished parts are kept in `output_dir/parts` until the end, by the fingerprint of everything that they depend on.

    Args:
        args: Arguments of the command.

    Returns:
        The vectors that were written, or that were there and up to date.

    Raises:
        FileNotFoundError: Model or data cannot be found.
        ValueError: A column is missing, an option has no effect, or a vector is not finite.
    """
    device = torch.device(args.device) if args.device else None
    state = PartialState(cpu=device is not None and device.type == "cpu")  # joins the group of accelerate launch
    model, processor = open_vector_model(args.model, args.weights, args.size, args.crop, args.dtype)
    output, column = Path(args.output_dir), args.texts or args.image or "image"
    kind = "texts" if args.texts else "images"
    rows = load_rows(args.data)
    if args.limit is not None:
        rows = rows.select(range(min(args.limit, len(rows))))
    check_columns(rows, [column, *([args.key] if args.key else [])], args.data, nested=False)
    cells = rows.select_columns([column])
    hashes = [row_hash(cells[i][column], kind) for i in range(len(cells))]
    encoder = Encoder(
        model.to(device or state.device), processor, output / "parts", args.batch_size, args.text_batch_size,
        args.part_size, args.progress,
    )  # fmt: skip
    made_by = encoder._cache_key(f"{kind}, {args.vector_dtype}")
    fingerprint = digest(made_by, *hashes)
    name, keys = args.name or args.model, _keys(rows, column, args.key)
    before = _written(output)
    written = before if before is not None and before.about.fingerprint == fingerprint else None
    state.wait_for_everyone()  # no process writes before all have looked
    if written is None:
        embedded = _embed_new(encoder, cells, column, kind, hashes, before, made_by)
        vectors = embedded.vectors.to(DTYPES[args.vector_dtype])
        width = vectors.shape[1]
        about = About(name, args.data, column, kind, fingerprint, len(rows), width, args.vector_dtype, made_by)
        if state.is_main_process:
            for row, reason in list(embedded.broken.items())[:3]:
                print(f"row {row} has no vector: {reason}", file=sys.stderr)
            Vectors.write(output, about, vectors, embedded.kept, hashes, keys)
            shutil.rmtree(output / "parts", ignore_errors=True)
        state.wait_for_everyone()
        written = Vectors(output)
    elif (written.about.model, written.keys) != (name, keys):  # other names for the same vectors
        if state.is_main_process:
            about = replace(written.about, model=name)
            Vectors.write(output, about, written.vectors, written.rows.tolist(), hashes, keys)
        state.wait_for_everyone()
        written = Vectors(output)
    return written


def _written(folder: Path) -> Vectors | None:
    """Returns the vectors that were written before, if there are any."""
    try:
        return Vectors(folder)
    except (FileNotFoundError, ValueError):
        return None


def _embed_new(
    encoder: Encoder,
    cells: Any,
    column: str,
    kind: str,
    hashes: list[bytes],
    before: Vectors | None,
    made_by: str,
) -> EmbeddedImages:
    """Embeds the rows that `before` has no vector for, if the same model and preprocessing made it, else all."""
    usable = before is not None and before.about.made_by == made_by
    known = {row: vector for row, h in enumerate(hashes) if usable and (vector := before.of_hash(h)) is not None}
    if not known:
        return _embed(encoder, cells, column, kind)
    print(f"{len(known)} of {len(cells)} rows have their vectors already", file=sys.stderr)
    found, broken = dict(known), {}
    # One known row goes along, because the encoder refuses images of which none can be read.
    new = sorted({*range(len(cells))} - {*known} | {next(iter(known))})
    if len(new) > 1:
        embedded = _embed(encoder, cells.select(new), column, kind)
        found |= {new[place]: vector for place, vector in zip(embedded.kept, embedded.vectors, strict=True)}
        broken = {new[place]: reason for place, reason in embedded.broken.items()}
    kept = sorted(found)
    return EmbeddedImages(torch.stack([found[row].float() for row in kept]), kept, broken)


def _embed(encoder: Encoder, cells: Any, column: str, kind: str) -> EmbeddedImages:
    if kind == "images":
        return encoder.images(cells[i][column] for i in range(len(cells)))
    texts = [text or "" for text in cells[column]]
    return EmbeddedImages(encoder.texts(texts), list(range(len(texts))))


def _keys(rows: Any, column: str, key: str | None) -> list[str] | None:
    """Returns the names of the rows: those of a column, or the files of the images where all have one."""
    if key:
        return [str(value) for value in rows[key]]
    cells = rows.select_columns([column])
    paths = [cell.get("path") if isinstance(cell := cells[i][column], dict) else None for i in range(len(cells))]
    return paths if all(paths) else None


def main(argv: Sequence[str] | None = None) -> None:
    """Runs `clippo embed` with the given command line (default: `sys.argv[1:]`)."""
    parser = HfArgumentParser(EmbedArguments, prog="clippo embed", description=__doc__)
    try:
        (args,) = parser.parse_args_into_dataclasses(sys.argv[1:] if argv is None else list(argv))
        vectors = embed(args)
    except (ImportError, OSError, TypeError, ValueError) as error:
        if os.environ.get("CLIPPO_DEBUG"):
            raise
        raise SystemExit(f"error: {error}") from None
    if PartialState().is_main_process:
        count, about = len(vectors.vectors), vectors.about
        print(f"{args.output_dir}: {count} vectors of {about.width} numbers ({about.dtype}) by {about.model}")
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
