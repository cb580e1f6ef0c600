"""Compact form of the data set, for machines to which little can be carried: some 170 bytes a picture.

`pictures.parquet` loses its images. Alpha of pictures of one colour is kept in 2 bits a pixel (`masks.xz`); coloured
pictures are kept with 31 colours each at half the side (`colours.xz`). Both are streams of all pictures, which compress
several times better than one picture alone. Pictures come back at the full side, with 4 grey levels or 31 colours.
"""

import json
import lzma
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from PIL import Image

from clippo.pictograms.bank import EncodedPictures, PictureBank
from clippo.pictograms.drawing import decode
from clippo.pictograms.splits import share_of

LEVELS = 3  # largest grey level of 2 bits
COLOURS = 31
MASKS, COLOURED, SHAPE = "masks.xz", "colours.xz", "compact.json"
FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 1, "dict_size": 1 << 24, "lc": 0, "lp": 0, "pb": 0}]


def write_compact(folder: str | Path, output_dir: str | Path, most_pictures: int | None = None) -> dict:
    """Write the compact form of a data set and return its counts.

    Args:
        folder: Folder that `clippo build pictograms` wrote.
        output_dir: Folder to write.
        most_pictures: Most pictures. Linked pictures and held-out sets come first, the rest by a hash; concepts with
            several pictures before those with one. None: all.

    Returns:
        {"pictures", "masks", "colours", "side", "bytes"}.
    """
    folder, output = Path(folder), Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    table = parquet.read_table(folder / "pictures.parquet")
    if most_pictures is not None:
        table = table.take(_choose(table, most_pictures))
    images, flags = table["image"], np.asarray(table["mask"].to_pylist(), bool)
    side = decode(images[0].as_py()).shape[0] if len(table) else 1
    masks, colours = np.flatnonzero(flags).tolist(), np.flatnonzero(~flags).tolist()
    _write_stream(output / MASKS, (pack_mask(decode(images[i].as_py())[..., 3]) for i in masks))
    _write_stream(output / COLOURED, (pack_colours(decode(images[i].as_py())) for i in colours))
    parquet.write_table(
        table.drop_columns(["image"]), output / "pictures.parquet", compression="zstd", compression_level=12
    )
    texts = parquet.read_table(folder / "annotations.parquet")
    parquet.write_table(texts, output / "annotations.parquet", compression="zstd", compression_level=19)
    for name in ("ATTRIBUTIONS.md", "dataset_info.json"):
        if (folder / name).is_file():
            (output / name).write_bytes((folder / name).read_bytes())
    counts = {"pictures": len(table), "masks": len(masks), "colours": len(colours), "side": side}
    (output / SHAPE).write_text(json.dumps(counts) + "\n", encoding="utf-8")
    return {**counts, "bytes": sum(file.stat().st_size for file in output.iterdir() if file.is_file())}


def _choose(table: pa.Table, most: int) -> list[int]:
    """Rows to keep, in order."""
    columns = (table[name].to_pylist() for name in ("id", "concept", "link", "split"))
    rows = list(zip(*columns, strict=True))
    pictures: dict[str, int] = {}
    for _, concept, _, _ in rows:
        pictures[concept] = pictures.get(concept, 0) + 1

    def order(number: int) -> tuple:
        identifier, concept, link, split = rows[number]
        return split != "held_out_style", not link, pictures[concept] < 3, pictures[concept] < 2, share_of(identifier)

    return sorted(sorted(range(len(rows)), key=order)[:most])


def _write_stream(file: Path, pieces: Iterable[bytes]) -> None:
    with lzma.open(file, "wb", format=lzma.FORMAT_XZ, filters=FILTERS) as stream:
        for piece in pieces:
            stream.write(piece)


def pack_mask(alpha: np.ndarray) -> bytes:
    """Alpha in 2 bits a pixel, four pixels to a byte.

    Args:
        alpha: uint8 (S, S); S * S is a multiple of 4.
    """
    levels = (alpha.astype(np.uint16) * LEVELS + 127) // 255
    four = levels.reshape(-1, 4).astype(np.uint8)
    return (four[:, 0] | four[:, 1] << 2 | four[:, 2] << 4 | four[:, 3] << 6).tobytes()


def unpack_masks(data: bytes, count: int, side: int) -> np.ndarray:
    """Alpha of many pictures, uint8 (count, side, side).

    Args:
        data: Result of `pack_mask`, one after another.
        count: Number of pictures.
        side: Their side in pixels.
    """
    packed = np.frombuffer(data, np.uint8).reshape(count, side * side // 4)
    out = np.empty((count, side * side), np.uint8)
    for place in range(4):
        out[:, place::4] = (packed >> (2 * place) & LEVELS) * (255 // LEVELS)
    return out.reshape(count, side, side)


def pack_colours(pixels: np.ndarray) -> bytes:
    """Palette of `COLOURS` RGBA colours and an index a pixel, at half the side.

    Args:
        pixels: uint8 (S, S, 4).
    """
    half = Image.fromarray(pixels).resize((pixels.shape[1] // 2, pixels.shape[0] // 2), Image.Resampling.BOX)
    few = half.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    palette = np.zeros((COLOURS, 4), np.uint8)
    used = np.frombuffer(few.palette.tobytes(), np.uint8).reshape(-1, 4)[:COLOURS]
    palette[: len(used)] = used
    return palette.tobytes() + np.asarray(few).tobytes()


def unpack_colours(data: bytes, count: int, side: int) -> np.ndarray:
    """Many coloured pictures, uint8 (count, side, side, 4).

    Args:
        data: Result of `pack_colours`, one after another.
        count: Number of pictures.
        side: Their full side in pixels.
    """
    half = side // 2
    out = np.empty((count, side, side, 4), np.uint8)
    rows = np.frombuffer(data, np.uint8).reshape(count, COLOURS * 4 + half * half)
    for number, row in enumerate(rows):
        palette = row[: COLOURS * 4].reshape(COLOURS, 4)
        small = Image.fromarray(palette[row[COLOURS * 4 :].reshape(half, half)])
        out[number] = np.asarray(small.resize((side, side), Image.Resampling.BILINEAR))
    return out


def open_bank(folder: str | Path) -> PictureBank | EncodedPictures:
    """Pictures of a data set in memory, from either form; those of the compact form are decoded.

    Args:
        folder: Folder of the data set.
    """
    folder = Path(folder)
    if not (folder / SHAPE).is_file():
        table = parquet.read_table(folder / "pictures.parquet", columns=["image", "mask"])
        return EncodedPictures(table["image"], table["mask"].to_pylist())
    counts = json.loads((folder / SHAPE).read_text(encoding="utf-8"))
    side = counts["side"]
    masks = unpack_masks(lzma.decompress((folder / MASKS).read_bytes()), counts["masks"], side)
    colours = unpack_colours(lzma.decompress((folder / COLOURED).read_bytes()), counts["colours"], side)
    flags = np.asarray(parquet.read_table(folder / "pictures.parquet", columns=["mask"])["mask"].to_pylist(), bool)
    places = np.empty(len(flags), np.int64)
    places[flags], places[~flags] = np.arange(len(masks)), -1 - np.arange(len(colours))
    return PictureBank(masks, colours, places)
