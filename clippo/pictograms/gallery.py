"""A small gallery of pictograms as one sheet of thumbnails, with the attribution of each."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as parquet
from PIL import Image

from clippo.pictograms.compact import open_bank
from clippo.pictograms.pairs import check_folder
from clippo.pictograms.splits import share_of

COLUMNS, SIDE = 45, 64
QUALITY = 80  # a lossless sheet is three times as large
SHEET, LIST = "sheet.webp", "gallery.json"
LEAST_SETS = 6  # a concept of English words alone is in the gallery if that many sets draw it
NEAR, HELD_OUT_CONCEPT = "near_held_out", "held_out_concept"


class Gallery(NamedTuple):
    """Pictures of a gallery and their facts.

    Attributes:
        pictures: RGB images on white.
        rows: {"id", "words", "concept", "set", "split"} of each.
        sets: Set -> attribution.
    """

    pictures: list[Image.Image]
    rows: list[dict]
    sets: dict[str, str]


def build_gallery(data_dir: str | Path, output_dir: str | Path, most: int = 2025) -> dict:
    """Write `sheet.webp` and `gallery.json`: one picture of each concept, in the order of a hash.

    The hash chooses among all pictures of a concept, held-out ones first, so nothing is picked because it works well.
    Flags of countries are left out: they would be a tenth of the sheet.

    Args:
        data_dir: Folder of the data set.
        output_dir: Folder to write.
        most: Most pictures.

    Returns:
        {"pictures", "sets", "bytes"}.

    Raises:
        FileNotFoundError: The data set is missing.
    """
    check_folder(Path(data_dir))
    names = ["id", "set", "words", "concept", "link", "split", "attribution"]
    rows = parquet.read_table(Path(data_dir) / "pictures.parquet", columns=names).to_pylist()
    chosen = choose(rows)[:most]
    bank, output = open_bank(data_dir), Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    lines = -(-len(chosen) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * SIDE, lines * SIDE), "white")
    for place, number in enumerate(chosen):
        picture = Image.fromarray(bank.picture(number)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        sheet.paste(picture, (place % COLUMNS * SIDE, place // COLUMNS * SIDE), picture)
    sheet.save(output / SHEET, quality=QUALITY, method=6)
    content = {
        "columns": COLUMNS,
        "side": SIDE,
        "sets": {rows[i]["set"]: rows[i]["attribution"] for i in sorted(chosen)},
        "pictures": [{key: rows[i][key] for key in ("id", "words", "concept", "set", "split")} for i in chosen],
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace('{"id"', '\n{"id"')
    (output / LIST).write_text(text + "\n", encoding="utf-8")
    size = sum((output / name).stat().st_size for name in (SHEET, LIST))
    return {"pictures": len(chosen), "sets": len(content["sets"]), "bytes": size}


def choose(rows: Sequence[dict]) -> list[int]:
    """Numbers of the pictures of a gallery: linked concepts first, then English ones that many sets draw.

    Args:
        rows: Rows of `pictures.parquet`.
    """
    by_concept: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        by_concept.setdefault(row["concept"], []).append(number)
    linked, others = [], []
    for concept, members in by_concept.items():
        if rows[members[0]]["link"]:
            if not is_flag(concept):
                linked.append(members)
        elif len({rows[i]["set"] for i in members}) >= LEAST_SETS:
            others.append(members)
    order = {"held_out_style": 0}
    best = [
        min(members, key=lambda i: (order.get(rows[i]["split"], 1), share_of(rows[i]["id"])))
        for group in (linked, others)
        for members in sorted(group, key=lambda members: share_of(rows[members[0]]["concept"]))
    ]
    return best


def is_flag(concept: str) -> bool:
    """True for a sequence of two regional indicators.

    Args:
        concept: Identifier of a concept.
    """
    parts = concept.split("-")
    return len(parts) == 2 and all(part.startswith("1f1") for part in parts)


def read_gallery(folder: str | Path) -> Gallery:
    """Pictures of a gallery on white.

    Args:
        folder: Folder that `build_gallery` wrote.

    Raises:
        FileNotFoundError: A file is missing.
    """
    folder = Path(folder)
    for name in (SHEET, LIST):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"No {name} in {folder}: make it with `clippo build pictogram_gallery`.")
    content = json.loads((folder / LIST).read_text(encoding="utf-8"))
    columns, side = content["columns"], content["side"]
    with Image.open(folder / SHEET) as sheet:
        pixels = np.asarray(sheet.convert("RGB"))
    cells = []
    for place in range(len(content["pictures"])):
        y, x = place // columns * side, place % columns * side
        cells.append(Image.fromarray(pixels[y : y + side, x : x + side]))
    return Gallery(cells, content["pictures"], content["sets"])
