"""Drawing of whole sets on several processes: one Parquet part a set, kept when the build is run again."""

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from clippo.pictograms.drawing import draw, encode, is_mask
from clippo.pictograms.duplicates import digest, shape
from clippo.pictograms.iconify import read_set

logger = logging.getLogger(__name__)

# Raised when the same input gives other pictures, so that old parts are drawn again.
VERSION = 2
SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("image", pa.binary()),
        ("mask", pa.bool_()),
        ("stroked", pa.bool_()),
        ("digest", pa.binary(16)),
        ("shape", pa.binary(32)),
        ("aliases", pa.list_(pa.string())),
        ("chars", pa.list_(pa.string())),
    ]
)


def draw_sets(files: dict[str, Path], folder: Path, side: int, workers: int = 1) -> Iterator[tuple[str, str | None]]:
    """Draw the sets that have no part yet, and yield (set, why it failed or None) as they are done.

    A part is written whole or not at all, so a build that was stopped goes on with the next set.

    Args:
        files: Set -> its JSON file.
        folder: Folder of the parts.
        side: Side of the pictures in pixels.
        workers: Processes that draw.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # Large sets first, or the last one would keep one process busy alone.
    waiting = sorted((name for name in files if files[name].is_file()), key=lambda name: -files[name].stat().st_size)
    yield from ((name, "no file in the package") for name in files if not files[name].is_file())
    if workers <= 1:
        yield from ((name, _try_to_draw(files[name], folder / f"{name}.parquet", side)) for name in waiting)
        return
    with ProcessPoolExecutor(workers) as pool:
        running = {pool.submit(_try_to_draw, files[name], folder / f"{name}.parquet", side): name for name in waiting}
        for done in as_completed(running):
            yield running[done], done.result()


def _try_to_draw(file: Path, part: Path, side: int) -> str | None:
    try:
        draw_set(file, part, side)
    except ValueError as error:
        logger.warning("%s", error)
        return "not a set of icons"
    return None


def draw_set(file: Path, part: Path, side: int) -> None:
    """Write the part of one set, unless it is there and was drawn from the same file.

    Args:
        file: `json/SET.json`.
        part: Parquet file to write; its metadata hold what was left out, and the style words of the set.
        side: Side of the pictures in pixels.
    """
    source = f"{VERSION} {side} {hashlib.sha256(file.read_bytes()).hexdigest()}"
    if part.is_file() and part_facts(part).get("source") == source:
        return
    content = read_set(file)
    rows: list[dict] = []
    left_out = {reason: list(names) for reason, names in content.left_out.items()}
    for icon in content.icons:
        pixels, reason = draw(icon, side)
        if pixels is None:
            left_out.setdefault(reason, []).append(icon.name)
            continue
        rows.append(
            {
                "name": icon.name,
                "image": encode(pixels),
                "mask": is_mask(pixels),
                "stroked": "stroke=" in icon.body,
                "digest": digest(pixels),
                "shape": shape(pixels),
                "aliases": list(icon.aliases),
                "chars": list(icon.chars),
            }
        )
    facts = {"source": source, "left_out": left_out, "prefixes": content.prefixes, "suffixes": content.suffixes}
    table = pa.Table.from_pylist(rows, SCHEMA).replace_schema_metadata({"facts": json.dumps(facts)})
    unfinished = part.with_suffix(f".{os.getpid()}.tmp")
    parquet.write_table(table, unfinished, compression="none")  # the pictures are compressed already
    os.replace(unfinished, part)


def part_facts(part: Path) -> dict:
    """Metadata of a part: source, left_out, prefixes, suffixes; empty when the file is damaged.

    Args:
        part: Parquet file of a set.
    """
    try:
        metadata = parquet.read_schema(part).metadata or {}
        return json.loads(metadata.get(b"facts", b"{}"))
    except (OSError, ValueError):
        return {}
