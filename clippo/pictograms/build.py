"""Builder of the pictogram data set: icons and emoji of some two hundred sets, with words in 116 languages.

The result is a folder with

* `pictures.parquet`, one row a picture: id, set, name, style, style_words, licence, attribution, words (of the name),
  texts (further English texts), concept, link, split, mask, image (WebP, RGBA with straight alpha);
* `annotations.parquet`, one row a (concept, language) pair: id (of the concept), language, script, name, keywords,
  split, name_in_train;
* `dataset_info.json`: counts, packages, licences, what was left out and why, and the data hash;
* `ATTRIBUTIONS.md`: every set with its authors and licence; `sheet.png`: samples;
* `parts/`: the drawn sets, which a second build uses again.

The data hash covers the decoded pixels and the texts, not the bytes of the files.
"""

import hashlib
import json
import logging
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
from tqdm.auto import tqdm

from clippo.emoji.cldr import read_annotations
from clippo.pictograms.annotations import read_concept_texts
from clippo.pictograms.concepts import Concepts
from clippo.pictograms.drawing import SIDE
from clippo.pictograms.licences import IconSet, read_sets
from clippo.pictograms.packages import ICONIFY, find_packages
from clippo.pictograms.parts import draw_sets
from clippo.pictograms.report import attributions, data_set_info, draw_sheet
from clippo.pictograms.rows import (
    LeftOut,
    Row,
    brand_names,
    flag_sets,
    link_concepts,
    merge_equal,
    read_rows,
    split_rows,
)
from clippo.pictograms.splits import HELD_OUT_SETS
from clippo.pictograms.tags import read_emojibase, read_tags

logger = logging.getLogger(__name__)

PICTURE_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "set", "name", "style", "style_words", "licence", "attribution")),
        ("words", pa.string()),
        ("texts", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("concept", "link", "split")),
        ("mask", pa.bool_()),
        ("image", pa.binary()),
    ]
)
ANNOTATION_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("id", "language", "script", "name")),
        ("keywords", pa.list_(pa.string())),
        ("split", pa.string()),
        ("name_in_train", pa.bool_()),
    ]
)


def build_pictograms(
    output_dir: str | Path,
    packages_dir: str | Path = "node_modules",
    sets: list[str] | None = None,
    side: int = SIDE,
    workers: int | None = None,
    held_out_sets: tuple[str, ...] = HELD_OUT_SETS,
) -> dict:
    """Draw the sets, write the data set to a folder and return the content of its `dataset_info.json`.

    A build that was stopped goes on with the sets that are not drawn yet.

    Args:
        output_dir: Folder to write.
        packages_dir: Folder of the npm packages; `packages.py` names them.
        sets: Only these sets; None takes all whose licence allows it.
        side: Side of the pictures in pixels.
        workers: Processes that draw; by default one a processor core.
        held_out_sets: Sets that training never sees.

    Raises:
        FileNotFoundError: A required package is missing; the message holds the npm command.
        ValueError: A set is unknown or left out, or no picture is drawn.
    """
    output, packages = Path(output_dir), find_packages(packages_dir)
    left_out, left_out_sets = LeftOut(), LeftOut()
    chosen = _choose_sets(packages[ICONIFY], sets, left_out_sets)
    files = {one.prefix: packages[ICONIFY] / "json" / f"{one.prefix}.json" for one in chosen}
    drawn = draw_sets(files, output / "parts", side, workers or os.cpu_count() or 1)
    for name, failure in tqdm(drawn, total=len(files), desc="drawing sets", unit="set"):
        if failure is not None:
            left_out_sets.add(failure, name)
            chosen = [one for one in chosen if one.prefix != name]

    cldr = packages["cldr-annotations-full"].parent
    concepts = Concepts(read_annotations(cldr, "en"))
    brands = brand_names(packages[ICONIFY] / "json" / "simple-icons.json", concepts)
    rows = read_rows(chosen, output / "parts", read_tags(packages), left_out, brands)
    if not rows:
        raise ValueError(f"No picture of {len(chosen)} sets has words; {packages_dir} holds no usable set.")
    link_concepts(rows, concepts, flag_sets(chosen))
    rows = merge_equal(rows, left_out, concepts.titles())
    split_rows(rows, held_out_sets)
    linked = sorted({row.concept for row in rows if row.link})
    texts = read_concept_texts(linked, cldr, read_emojibase(packages.get("emojibase-data")), left_out_sets)

    info = data_set_info(rows, texts, chosen, packages, left_out, left_out_sets, side)
    info = {"data_hash": data_hash(rows, texts), **info}
    write(output, rows, texts, chosen)
    (output / "dataset_info.json").write_text(json.dumps(info, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (output / "ATTRIBUTIONS.md").write_text(attributions(chosen, rows), encoding="utf-8")
    draw_sheet(output / "pictures.parquet").save(output / "sheet.png", optimize=True)
    return info


def _choose_sets(iconify: Path, wanted: list[str] | None, left_out: LeftOut) -> list[IconSet]:
    used, others = read_sets(json.loads((iconify / "collections.json").read_text(encoding="utf-8")))
    if wanted is not None:
        known = {one.prefix for one in used}
        reasons = {name: reason for reason, names in others.items() for name in names}
        for name in wanted:
            if name not in known:
                raise ValueError(
                    f"The set {name!r} cannot be used: {reasons.get(name, 'the package has no such set')}; choose from "
                    f"{', '.join(sorted(known)[:8])} and {max(0, len(known) - 8)} others."
                )
        return [one for one in used if one.prefix in wanted]
    left_out.update(others)
    return used


def data_hash(rows: list[Row], texts: list[dict]) -> str:
    """sha256 over the digests of the pixels and all texts, in order.

    Args:
        rows: Pictures.
        texts: Rows of the annotations.
    """
    digest = hashlib.sha256()
    for row in rows:
        content = [row.id, row.digest.hex(), row.words, row.texts, row.style, row.concept, row.link, row.split]
        digest.update(json.dumps(content).encode())
    for text in texts:
        digest.update(json.dumps(text, sort_keys=True).encode())
    return digest.hexdigest()


def write(folder: Path, rows: list[Row], texts: list[dict], sets: list[IconSet]) -> None:
    """Write `pictures.parquet` and `annotations.parquet`, set by set.

    Args:
        folder: Folder to write.
        rows: Pictures in the order of their identifiers.
        texts: Rows of the annotations.
        sets: Sets of the data set.
    """
    by_set: dict[str, list[Row]] = {}
    for row in rows:
        by_set.setdefault(row.set_name, []).append(row)
    licences = {one.prefix: one for one in sets}
    unfinished = folder / "pictures.tmp"
    with parquet.ParquetWriter(unfinished, PICTURE_SCHEMA, compression="zstd") as writer:
        for name, members in by_set.items():
            images = parquet.read_table(folder / "parts" / f"{name}.parquet", columns=["image"])["image"]
            records = [_record(row, licences[name], images[row.place].as_py()) for row in members]
            writer.write_table(pa.Table.from_pylist(records, PICTURE_SCHEMA))
    os.replace(unfinished, folder / "pictures.parquet")
    parquet.write_table(
        pa.Table.from_pylist(texts, ANNOTATION_SCHEMA), folder / "annotations.parquet", compression="zstd"
    )


def _record(row: Row, icon_set: IconSet, image: bytes) -> dict:
    return {
        "id": row.id,
        "set": row.set_name,
        "name": row.name,
        "style": row.style,
        "style_words": " ".join(row.style_words),
        "licence": icon_set.licence,
        "attribution": icon_set.attribution,
        "words": " ".join(row.words),
        "texts": row.texts,
        "concept": row.concept,
        "link": row.link,
        "split": row.split,
        "mask": row.mask,
        "image": image,
    }
