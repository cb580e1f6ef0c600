"""Builder of the emoji data set: colour emoji pictures with their names and keywords in about a hundred languages.

Sources are two Debian packages that anyone may redistribute: `fonts-noto-color-emoji` (pictures, SIL OFL 1.1) and
`unicode-cldr-core` (texts, Unicode-DFS-2016). The result is a folder with

* `pictures.parquet`: id, emoji, code_points, name (English), image (PNG, RGBA with straight alpha, square);
* `annotations.parquet`: id, language, script, name, keywords, split ("train" or "held_out"), name_in_train;
* `dataset_info.json`: counts, versions, licences, what was left out and why, and the data hash.

The data hash covers the decoded pixels and the text, not the file bytes, so it does not depend on the PNG or parquet
library that wrote them.
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
from clippo.emoji.cldr import Annotation, cldr_version, list_languages, read_annotations
from clippo.processing.rendering_clippo import TextRenderer

DEFAULT_FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
DEFAULT_CLDR = Path("/usr/share/unicode/cldr/common")
# Sides of the canvases for which the statistics say how many names would not fit.
CANVAS_SIZES = (64, 80, 96, 112, 128)
# Modifiers for skin (five tones) and hair (four styles): 1,800 pictures that differ from others by a shade.
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


class EmojiFont:
    """Pictures of emoji, sequences included, from a bitmap colour font such as NotoColorEmoji.ttf.

    HarfBuzz maps a sequence to its glyph and hands out the glyph's PNG: the FreeType inside freetype-py's wheels is
    built without PNG support and cannot load these bitmaps.
    """

    def __init__(self, path: Path):
        if not path.is_file():
            raise FileNotFoundError(
                f"No emoji font at {path}: install it with `apt-get install fonts-noto-color-emoji`, or point "
                "font_path at a NotoColorEmoji.ttf that holds bitmaps (CBDT)."
            )
        try:
            import uharfbuzz
        except ImportError as error:
            raise ImportError("Building the emoji data set needs uharfbuzz: `pip install clippo[shaping]`.") from error
        self._harfbuzz = uharfbuzz
        self._face = uharfbuzz.Face(uharfbuzz.Blob.from_file_path(str(path)))
        self._font = uharfbuzz.Font(self._face)
        self.sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        if not self._face.has_color_png:
            raise ValueError(f"{path} holds no colour bitmaps: use the CBDT build of Noto Color Emoji.")

    def picture(self, emoji: str) -> np.ndarray | None:
        """The emoji as uint8 (S, S, 4), straight alpha, centred; None unless the font draws it as exactly one glyph."""
        buffer = self._harfbuzz.Buffer()
        buffer.add_str(emoji)
        buffer.guess_segment_properties()
        self._harfbuzz.shape(self._font, buffer)
        glyphs = [info.codepoint for info in buffer.glyph_infos]
        if len(glyphs) != 1 or glyphs[0] == 0:
            return None
        blob = self._font.get_glyph_color_png(glyphs[0])
        if blob is None or not blob.data:
            return None
        with PILImage.open(io.BytesIO(blob.data)) as image:
            pixels = np.asarray(image.convert("RGBA"))
        height, width = pixels.shape[:2]
        side = max(height, width)
        square = np.zeros((side, side, 4), dtype=np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = pixels
        square[square[..., 3] == 0] = 0  # colour under full transparency is noise that only costs bytes
        return square


@dataclass
class Picture:
    """One emoji the data set holds."""

    emoji: str
    name: str
    pixels: np.ndarray  # (S, S, 4) uint8

    @property
    def id(self) -> str:
        return "-".join(f"{ord(char):x}" for char in self.emoji)


def collect_pictures(
    font: EmojiFont, english: dict[str, Annotation], skin_tones: bool = False
) -> tuple[list[Picture], dict[str, list[str]]]:
    """Pictures in code point order, and what was left out: reason -> emoji.

    Where the font draws several emoji with the same picture (Norway's flag is also Bouvet Island's) the one with the
    shortest English name stays: two rows with one picture could not be told apart by any model.
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
    """Whether this pair is kept from training: by a hash, so that the answer survives new languages and pictures."""
    digest = hashlib.sha256(f"{emoji}\t{language}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def collect_annotations(
    pictures: list[Picture], cldr: Path, held_out: float = 0.1, min_coverage: float = 0.1
) -> tuple[list[dict], dict[str, list[str]]]:
    """One row per (picture, language), ordered by language, then picture; and the language files left out, by reason.

    A held-out pair is held out as a whole, name and keywords, so no text of it can reach training under this language.
    Its name may still be a training text of the same picture in another language ("pizza"): `name_in_train` says so.
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
    """sha256 over pixels and texts in order."""
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
    font_path: str | Path = DEFAULT_FONT,
    cldr_folder: str | Path = DEFAULT_CLDR,
    skin_tones: bool = False,
    held_out: float = 0.1,
    min_coverage: float = 0.1,
) -> dict:
    """Writes the data set to `output_dir` and returns the content of its `dataset_info.json`.

    Args:
        font_path: a colour bitmap font (CBDT), by default where Debian's fonts-noto-color-emoji puts it.
        cldr_folder: the `common` folder of a CLDR release, by default where Debian's unicode-cldr-core puts it.
        skin_tones: also take the variants by skin tone and hair, which about double the number of pictures.
        held_out: share of the (picture, language) pairs kept from training, in [0, 1).
        min_coverage: a language must name at least this share of the pictures.

    Raises:
        FileNotFoundError: a source is missing; the message names the Debian package.
        ValueError: `held_out` out of range, or the font draws none of the emoji that CLDR names.
    """
    if not 0 <= held_out < 1:
        raise ValueError(f"held_out must lie in [0, 1), got {held_out}.")
    font, cldr, output = EmojiFont(Path(font_path)), Path(cldr_folder), Path(output_dir)
    list_languages(cldr)  # before any work: complains if the folder is not there
    pictures, pictures_left_out = collect_pictures(font, read_annotations(cldr, "en"), skin_tones)
    if not pictures:
        raise ValueError(f"The font {font_path} draws none of the characters that {cldr}/annotations/en.xml names.")
    rows, languages_left_out = collect_annotations(pictures, cldr, held_out, min_coverage)

    output.mkdir(parents=True, exist_ok=True)
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
    Dataset.from_list(table, features=PICTURE_FEATURES).to_parquet(output / "pictures.parquet")
    Dataset.from_list(rows, features=ANNOTATION_FEATURES).to_parquet(output / "annotations.parquet")

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
    (output / "dataset_info.json").write_text(json.dumps(info, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return info


def statistics(pictures: list[Picture], rows: list[dict]) -> dict:
    """Counts a reader of the data set asks for first."""
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
    """Share of the names that lose a character on a square canvas, drawn with the packaged font."""
    rendered = TextRenderer(canvas_size=canvas_size)(names, format="packed")
    return round(float((rendered.chars_drawn < rendered.chars_total).mean()), 5)
