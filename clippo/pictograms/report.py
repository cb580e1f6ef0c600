"""Report of a build: counts, licences and attributions, and a sheet of samples."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from PIL import Image

from clippo.pictograms.drawing import decode
from clippo.pictograms.licences import IconSet
from clippo.pictograms.packages import PACKAGES, package_version
from clippo.pictograms.rows import LeftOut, Row
from clippo.pictograms.splits import share_of

EXAMPLES = 8
SHEET = (24, 16)  # columns and rows of the sheet of samples
CELL, MARGIN = 48, 6  # pixels
INK = ("#1d3557", "#2a9d8f", "#e76f51", "#6d597a", "#264653", "#bc4749")


def data_set_info(
    rows: list[Row],
    texts: list[dict],
    sets: list[IconSet],
    packages: dict[str, Path],
    left_out: LeftOut,
    left_out_sets: LeftOut,
    side: int,
) -> dict:
    """Content of `dataset_info.json` but for the hash.

    Args:
        rows: Pictures.
        texts: Rows of the annotations.
        sets: Sets of the data set.
        packages: Name -> folder of the packages.
        left_out: Pictures that are left out, by reason.
        left_out_sets: Sets and languages that are left out, by reason.
        side: Side of the pictures in pixels.
    """
    return {
        "packages": {
            package.name: {
                "version": package_version(packages[package.name]) if package.name in packages else "absent",
                "pinned": package.version,
                "licence": package.licence,
                "attribution": package.attribution,
                "content": package.content,
            }
            for package in PACKAGES
        },
        "options": {"side": side},
        "statistics": statistics(rows, texts, sets),
        "pictures_left_out": {
            reason: {"count": len(names), "examples": names[:EXAMPLES]} for reason, names in sorted(left_out.items())
        },
        "sets_left_out": {reason: list(names) for reason, names in sorted(left_out_sets.items())},
    }


def statistics(rows: list[Row], texts: list[dict], sets: list[IconSet]) -> dict:
    """Counts of pictures, sets, concepts, languages and texts.

    Args:
        rows: Pictures.
        texts: Rows of the annotations.
        sets: Sets of the data set.
    """
    licences = {one.prefix: one.licence for one in sets}
    scripts = {row["language"]: row["script"] for row in texts}
    return {
        "pictures": len(rows),
        "sets": len({row.set_name for row in rows}),
        "concepts": len({row.concept for row in rows}),
        "linked_concepts": len({row.concept for row in rows if row.link}),
        "linked_pictures": sum(bool(row.link) for row in rows),
        "languages": len(scripts),
        "pairs": len(texts),
        "texts": len(texts) + sum(len(row["keywords"]) for row in texts) + sum(1 + len(row.texts) for row in rows),
        "masks": sum(row.mask for row in rows),
        "pictures_by_licence": dict(Counter(licences[row.set_name] for row in rows).most_common()),
        "pictures_by_style": dict(Counter(row.style for row in rows).most_common()),
        "pictures_by_link": dict(Counter(row.link or "none" for row in rows).most_common()),
        "pictures_by_split": dict(Counter(row.split for row in rows).most_common()),
        "pairs_by_split": dict(Counter(row["split"] for row in texts).most_common()),
        "languages_by_script": dict(Counter(scripts.values()).most_common()),
        "pictures_by_set": dict(sorted(Counter(row.set_name for row in rows).items())),
    }


def attributions(sets: list[IconSet], rows: list[Row]) -> str:
    """Markdown page with every set that has a picture, its authors and its licence.

    Args:
        sets: Sets of the data set.
        rows: Pictures.
    """
    counts = Counter(row.set_name for row in rows)
    lines = [
        "# Attributions",
        "",
        "Drawings come from the icon sets of the npm package `@iconify/json`; each set keeps its licence. They were",
        "redrawn as pixels and not changed otherwise. Words come from the packages of the second table.",
        "",
        "| set | title | authors | licence | pictures | page |",
        "|---|---|---|---|---|---|",
    ]
    for one in sorted(sets, key=lambda one: one.prefix):
        if counts[one.prefix]:
            cells = (one.prefix, one.title, one.author, one.licence, counts[one.prefix], one.url)
            lines.append("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
    lines += ["", "| package | version | licence | authors | content |", "|---|---|---|---|---|"]
    for package in PACKAGES:
        cells = (package.name, package.version, package.licence, package.attribution, package.content)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def draw_sheet(pictures: str | Path) -> Image.Image:
    """Sheet of samples: pictures that a hash chooses, masks in several inks.

    Args:
        pictures: `pictures.parquet`.

    Returns:
        RGB image.
    """
    table = parquet.read_table(pictures, columns=["id", "image", "mask"])
    identifiers = table["id"].to_pylist()
    columns, lines = SHEET
    chosen = sorted(range(len(identifiers)), key=lambda i: share_of(identifiers[i]))[: columns * lines]
    step = CELL + 2 * MARGIN
    height = -(-len(chosen) // columns) * step
    sheet = Image.new("RGB", (columns * step, height), "white")
    for number, row in enumerate(chosen):
        picture = thumbnail(decode(table["image"][row].as_py()), CELL, INK[number % len(INK)])
        place = (number % columns * step + MARGIN, number // columns * step + MARGIN)
        sheet.paste(picture, place, picture)
    return sheet


def thumbnail(pixels: np.ndarray, side: int, ink: str | None = None) -> Image.Image:
    """Small RGBA picture; a mask takes the colour `ink`.

    Args:
        pixels: uint8 (S, S, 4).
        side: Side in pixels.
        ink: Colour of a picture of one colour; None keeps black.
    """
    picture = Image.fromarray(pixels)
    if ink is not None and not pixels[..., :3].any():
        coloured = Image.new("RGBA", picture.size, ink)
        coloured.putalpha(picture.getchannel("A"))
        picture = coloured
    return picture.resize((side, side), Image.Resampling.LANCZOS)
