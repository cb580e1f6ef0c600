"""Images and queries of the demo: a small, fixed part of the emoji data set.

They are in the repository, so the demo runs without the emoji font and the data set. The images were fixed before the
first checkpoint, and a hash chooses the queries: nothing was picked because it works well.
"""

import hashlib
import io
import json
from pathlib import Path

import pyarrow.parquet as parquet
from PIL import Image

from clippo.emoji.pairs import check_folder
from clippo.processing.rendering_clippo import TextRenderer

EMOJI = (
    "🐕🐈🐎🐄🐖🐘🦁🐒🐇🐟🐋🐙🦋🐝🐌🦉🐓🐍🐢🍎🍌🍇🍓🍋🍉🍅🥕🌽🍄🍞🧀🥚🍕🍔🍣☕🍺🎂☀☁🌈❄🔥🌊🌙⭐🌋🌵🌹🌲"
    "🚗🚌🚲🚂✈🚀🚁⛵🚑🚜⚓⌚📷📚💡🔑🔒🔔✂🌂🎈🎁🚪🪑🛏🔨💻📺👑👓🧦🧲⚽🏀🎾🎸🥁🎻🏠🏰⛺❤👍🤖👻😀"
)
# CLDR code -> name: the languages of recipes/emoji.yaml. Scripts take turns, so that the first few look different.
LANGUAGES = {
    "de": "German",
    "ja": "Japanese",
    "ar": "Arabic",
    "hi": "Hindi",
    "ru": "Russian",
    "ko": "Korean",
    "fr": "French",
    "zh": "Chinese",
    "en": "English",
    "es": "Spanish",
    "pt": "Portuguese",
    "id": "Indonesian",
}
SHEET = 8  # queries that also label the zero-shot part
GROUNDS = ("#f4c95d", "#8ecae6", "#b5e48c", "#ffafcc", "#cdb4db", "#90a4ae")


def build_gallery(data_dir: str | Path, output_dir: str | Path) -> list[dict]:
    """Write one WebP file for each image, and `queries.json`.

    Every third image lies, smaller and off centre, on a coloured ground, the others on white. None is transparent:
    the pipelines of transformers drop transparency when they open a file, which would put the emoji on black.

    Args:
        data_dir: Folder of the emoji data set.
        output_dir: Folder to write; files are named after the English names.

    Returns:
        The queries, one trained and one held out for each language: {"text", "language", "picture" (stem of a file),
        "held_out"}. No image is asked for twice. The first `SHEET` queries have different languages.

    Raises:
        FileNotFoundError: The data set is missing.
    """
    data, output = Path(data_dir), Path(output_dir)
    check_folder(data)
    pictures = {row["emoji"]: row for row in parquet.read_table(data / "pictures.parquet").to_pylist()}
    chosen = [pictures[emoji] for emoji in EMOJI]
    stems = {row["id"]: row["name"].replace(" ", "_") for row in chosen}

    output.mkdir(parents=True, exist_ok=True)
    for i, row in enumerate(chosen):
        with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
            emoji = image.convert("RGBA")
        if i % 3 == 2:
            picture = on_ground(emoji, GROUNDS[i // 3 % len(GROUNDS)], i)
        else:
            picture = Image.alpha_composite(Image.new("RGBA", emoji.size, "white"), emoji).convert("RGB")
        picture.save(output / f"{stems[row['id']]}.webp", lossless=True, quality=100, method=6)

    columns = ["id", "language", "name", "split", "name_in_train"]
    annotations = parquet.read_table(data / "annotations.parquet", columns=columns).to_pylist()
    queries = choose_queries([row for row in annotations if row["id"] in stems], stems)
    text = json.dumps(queries, ensure_ascii=False, indent=1)
    (output / "queries.json").write_text(text + "\n", encoding="utf-8")
    return queries


def on_ground(picture: Image.Image, color: str, seed: int) -> Image.Image:
    """RGBA image on a plain ground of the same size, at 80 % and shifted by up to a tenth of the side.

    Args:
        picture: Square RGBA image.
        color: Colour of the ground.
        seed: Decides the shift.

    Returns:
        RGB image.
    """
    side = picture.width
    small = picture.resize((side * 4 // 5, side * 4 // 5), Image.Resampling.LANCZOS)
    ground = Image.new("RGBA", picture.size, color)
    shift = [side // 10 + (seed * factor % 5 - 2) * side // 20 for factor in (1, 3)]
    ground.alpha_composite(small, tuple(shift))
    return ground.convert("RGB")


def choose_queries(annotations: list[dict], stems: dict[str, str]) -> list[dict]:
    """First trained and first held-out name of each language, in the order of a hash.

    A held-out name must not be spelled like a training text of the same image in another language. All names must fit
    on the canvas of the small checkpoint.

    Args:
        annotations: Rows of the data set about the images in `stems`.
        stems: File stem by image id.

    Returns:
        Trained queries, then held-out ones: the sheet shows trained names, retrieval shows both.
    """
    fits = TextRenderer(canvas_size=80)
    order = sorted(annotations, key=lambda row: hashlib.sha256(f"{row['language']} {row['id']}".encode()).digest())
    asked: set[str] = set()
    by_split: dict[str, list[dict]] = {"train": [], "held_out": []}

    def may_ask(row: dict) -> bool:
        if row["id"] in asked or (row["split"] == "held_out" and row["name_in_train"]):
            return False
        rendered = fits([row["name"]])
        return rendered.chars_drawn[0] == rendered.chars_total[0]

    for language, label in LANGUAGES.items():
        for split, queries in by_split.items():
            rows = (row for row in order if row["language"] == language and row["split"] == split)
            row = next(filter(may_ask, rows), None)
            if row is not None:
                asked.add(row["id"])
                query = {"text": row["name"], "language": label, "picture": stems[row["id"]]}
                queries.append({**query, "held_out": split == "held_out"})
    return by_split["train"] + by_split["held_out"]
