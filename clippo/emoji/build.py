"""Builder of the emoji data set: colour emoji with their names and keywords in about a hundred languages.

The images come from Noto Color Emoji (SIL OFL 1.1) and the texts from Unicode CLDR (Unicode licence). Both may be
redistributed; `font.py` and `cldr.py` name the Debian and npm packages that hold them. The result is a folder with

* `pictures.parquet`: id, emoji, code_points, name (English), image (PNG, RGBA with straight alpha, square);
* `annotations.parquet`: id, language, script, name, keywords, split ("train" or "held_out"), name_in_train;
* `dataset_info.json`: counts, versions, licences, left-out emoji and languages with the reasons, and the data hash.

The data hash covers the decoded pixels and the text, not the file bytes. It does not depend on the PNG or parquet
library that wrote the files.
"""

import hashlib
import io
import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage

from clippo.data.writing_systems import dominant_script
from clippo.emoji.cldr import Annotation, cldr_version, find_cldr, list_languages, read_annotations
from clippo.emoji.font import EmojiFont, find_font
from clippo.processing.rendering_clippo import TextRenderer

# Canvas sizes for which the statistics count the names that do not fit.
CANVAS_SIZES = (64, 80, 96, 112, 128)
# Modifiers for skin (five tones) and hair (four styles): 1,800 images that differ from others by a shade.
VARIANT_MARKS = frozenset(map(chr, [*range(0x1F3FB, 0x1F400), *range(0x1F9B0, 0x1F9B4)]))

PICTURE_FEATURES = Features(
    {
        "id": Value("string"),
        "emoji": Value("string"),
        "code_points": Value("string"),
        "name": Value("string"),
        "image": Image(),
    }
)
ANNOTATION_FEATURES = Features(
    {
        "id": Value("string"),
        "language": Value("string"),
        "script": Value("string"),
        "name": Value("string"),
        "keywords": List(Value("string")),
        "split": Value("string"),
        "name_in_train": Value("bool"),
    }
)


@dataclass
class Picture:
    """One emoji of the data set."""

    emoji: str
    name: str
    pixels: np.ndarray  # (S, S, 4) uint8

    @property
    def id(self) -> str:
        return "-".join(f"{ord(char):x}" for char in self.emoji)


def collect_pictures(
    font: EmojiFont, english: dict[str, Annotation], skin_tones: bool = False
) -> tuple[list[Picture], dict[str, list[str]]]:
    """Images in code point order, and the emoji that are left out by reason.

    The font draws some emoji alike: the flag of Norway is also the flag of Bouvet Island. The one with the shortest
    English name stays, since no model could tell two rows with one image apart.

    Args:
        font: Source of the images.
        english: English annotations by emoji.
        skin_tones: Also take variants by skin tone and hair.
    """
    left_out: dict[str, list[str]] = defaultdict(list)
    by_pixels: dict[bytes, list[Picture]] = defaultdict(list)
    for emoji, annotation in sorted(english.items()):
        if emoji.isascii():
            left_out["plain ASCII character"].append(emoji)
        elif not skin_tones and not VARIANT_MARKS.isdisjoint(emoji):
            left_out["skin tone or hair variant"].append(emoji)
        elif (pixels := font.picture(emoji)) is None:
            left_out["not one glyph of the font"].append(emoji)
        else:
            by_pixels[pixels.tobytes()].append(Picture(emoji, annotation.name, pixels))
    pictures = []
    for same in by_pixels.values():
        keep, *others = sorted(same, key=lambda picture: (len(picture.name), picture.emoji))
        pictures.append(keep)
        left_out["same picture as another emoji"].extend(picture.emoji for picture in others)
    return sorted(pictures, key=lambda picture: picture.emoji), dict(left_out)


def is_held_out(emoji: str, language: str, fraction: float) -> bool:
    """True when a pair is kept from training. A hash decides, so new languages and images change no answer.

    Args:
        emoji: Character or sequence.
        language: CLDR code.
        fraction: Share of the pairs to hold out.
    """
    digest = hashlib.sha256(f"{emoji}\t{language}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def collect_annotations(
    pictures: list[Picture], cldr: Path, held_out: float = 0.1, min_coverage: float = 0.1
) -> tuple[list[dict], dict[str, list[str]]]:
    """One row for each (image, language), ordered by language, then image; and the language files left out, by reason.

    A pair is held out as a whole, name and keywords, so none of its texts reaches training in this language. Its name
    may still be a training text of the same image in another language ("pizza"); `name_in_train` marks that.

    Args:
        pictures: Images of the data set.
        cldr: CLDR folder.
        held_out: Share of the pairs kept from training.
        min_coverage: Share of the images that a language must name.
    """
    languages, regional = list_languages(cldr)
    left_out = {"regional file": regional, f"names fewer than {min_coverage:.0%} of the pictures": []}
    rows = []
    for language in languages:
        annotations = read_annotations(cldr, language)
        found = [(picture, annotations[picture.emoji]) for picture in pictures if picture.emoji in annotations]
        if not found or len(found) < min_coverage * len(pictures):
            left_out[f"names fewer than {min_coverage:.0%} of the pictures"].append(language)
            continue
        script = dominant_script([annotation.name for _, annotation in found])
        for picture, annotation in found:
            split = "held_out" if is_held_out(picture.emoji, language, held_out) else "train"
            rows.append(
                {
                    "id": picture.id,
                    "language": language,
                    "script": script,
                    "name": annotation.name,
                    "keywords": list(annotation.keywords),
                    "split": split,
                }
            )
    training = [row for row in rows if row["split"] == "train"]
    in_training = {(row["id"], text.casefold()) for row in training for text in [row["name"], *row["keywords"]]}
    for row in rows:
        row["name_in_train"] = (row["id"], row["name"].casefold()) in in_training
    return rows, left_out


def data_hash(pictures: list[Picture], rows: list[dict]) -> str:
    """sha256 over pixels and texts in order.

    Args:
        pictures: Images of the data set.
        rows: Annotations of the data set.
    """
    digest = hashlib.sha256()
    for picture in pictures:
        digest.update(json.dumps([picture.id, picture.name, picture.pixels.shape]).encode())
        digest.update(picture.pixels.tobytes())
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PILImage.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def build_emoji_dataset(
    output_dir: str | Path,
    font_path: str | Path | None = None,
    cldr_folder: str | Path | None = None,
    skin_tones: bool = False,
    held_out: float = 0.1,
    min_coverage: float = 0.1,
) -> dict:
    """Write the data set to a folder and return the content of its `dataset_info.json`.

    Args:
        output_dir: Folder to write.
        font_path: Colour bitmap font (CBDT); by default `find_font` searches it.
        cldr_folder: CLDR `common` folder or folder of the npm packages; by default `find_cldr` searches it.
        skin_tones: Also take variants by skin tone and hair, which about double the number of images.
        held_out: Share of the (image, language) pairs kept from training, in [0, 1).
        min_coverage: Share of the images that a language must name.

    Raises:
        FileNotFoundError: A source is missing; the message names the packages that hold it.
        ValueError: `held_out` is out of range, or the font draws none of the emoji that CLDR names.
    """
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out must lie in [0, 1), got {held_out}.")
    font, cldr = EmojiFont(Path(font_path or find_font())), Path(cldr_folder or find_cldr())
    list_languages(cldr)  # before any work: raises if the folder is missing
    pictures, pictures_left_out = collect_pictures(font, read_annotations(cldr, "en"), skin_tones)
    if not pictures:
        raise ValueError(f"The font {font_path} draws none of the characters that {cldr} names in English.")
    rows, languages_left_out = collect_annotations(pictures, cldr, held_out, min_coverage)
    info = {
        "data_hash": data_hash(pictures, rows),
        "sources": {
            "fonts-noto-color-emoji": {"file_sha256": font.sha256, "licence": "OFL-1.1"},
            "unicode-cldr-core": {"cldr_version": cldr_version(cldr), "licence": "Unicode-DFS-2016"},
        },
        "options": {"skin_tones": skin_tones, "held_out": held_out, "min_coverage": min_coverage},
        "statistics": statistics(pictures, rows),
        "pictures_left_out": {
            reason: {"count": len(emoji), "examples": emoji[:12]} for reason, emoji in pictures_left_out.items()
        },
        "languages_left_out": languages_left_out,
    }
    _write(Path(output_dir), pictures, rows, info)
    return info


def _write(folder: Path, pictures: list[Picture], rows: list[dict], info: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    table = [
        {
            "id": picture.id,
            "emoji": picture.emoji,
            "code_points": " ".join(f"U+{ord(char):04X}" for char in picture.emoji),
            "name": picture.name,
            "image": {"bytes": _png(picture.pixels), "path": None},
        }
        for picture in pictures
    ]
    Dataset.from_list(table, features=PICTURE_FEATURES).to_parquet(folder / "pictures.parquet")
    Dataset.from_list(rows, features=ANNOTATION_FEATURES).to_parquet(folder / "annotations.parquet")
    (folder / "dataset_info.json").write_text(json.dumps(info, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def statistics(pictures: list[Picture], rows: list[dict]) -> dict:
    """Counts of images, languages, pairs and texts.

    Args:
        pictures: Images of the data set.
        rows: Annotations of the data set.
    """
    names = [row["name"] for row in rows]
    lengths = [len(name) for name in names]
    language_script = {row["language"]: row["script"] for row in rows}
    held_out = [row for row in rows if row["split"] == "held_out"]
    return {
        "pictures": len(pictures),
        "picture_size": list(pictures[0].pixels.shape[:2]),
        "languages": len(language_script),
        "pairs": len(rows),
        "held_out_pairs": len(held_out),
        "held_out_pairs_whose_name_is_in_train": sum(row["name_in_train"] for row in held_out),
        "texts": len(rows) + sum(len(row["keywords"]) for row in rows),
        "distinct_texts": len({text for row in rows for text in [row["name"], *row["keywords"]]}),
        "name_length_percentiles": {str(p): float(np.percentile(lengths, p)) for p in (5, 25, 50, 75, 90, 95, 99, 100)},
        "names_cut_by_canvas_size": {str(size): names_cut(names, size) for size in CANVAS_SIZES},
        "languages_by_script": dict(Counter(language_script.values()).most_common()),
        "language_script": language_script,
        "pairs_by_language": dict(sorted(Counter(row["language"] for row in rows).items())),
    }


def names_cut(names: list[str], canvas_size: int) -> float:
    """Share of the names that lose a character on a square canvas, drawn with the packaged font.

    Args:
        names: Texts to draw.
        canvas_size: Side of the canvas in pixels.
    """
    rendered = TextRenderer(canvas_size=canvas_size)(names, format="packed")
    return round(float((rendered.chars_drawn < rendered.chars_total).mean()), 5)
