"""The pictures of the demo and what is asked about them: a small, fixed part of the emoji data set.

They are in the repository, so that the demo runs where neither the emoji font nor the data set is. Which they are was
fixed before there was a checkpoint, and a hash decides which names stand for them: nothing was picked for working well.
"""

import hashlib
import io
import json
from pathlib import Path

import pyarrow.parquet as parquet
from PIL import Image

from clippo.processing.rendering_clippo import TextRenderer

EMOJI = (
    "🐕🐈🐎🐄🐖🐘🦁🐒🐇🐟🐋🐙🦋🐝🐌🦉🐓🐍🐢🍎🍌🍇🍓🍋🍉🍅🥕🌽🍄🍞🧀🥚🍕🍔🍣☕🍺🎂☀☁🌈❄🔥🌊🌙⭐🌋🌵🌹🌲"
    "🚗🚌🚲🚂✈🚀🚁⛵🚑🚜⚓⌚📷📚💡🔑🔒🔔✂🌂🎈🎁🚪🪑🛏🔨💻📺👑👓🧦🧲⚽🏀🎾🎸🥁🎻🏠🏰⛺❤👍🤖👻😀"
)
# CLDR code -> name: the languages of recipes/emoji.yaml, scripts in turn, so that the first few look different.
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
SHEET = 8  # queries that are also the labels of the zero-shot part
GROUNDS = ("#f4c95d", "#8ecae6", "#b5e48c", "#ffafcc", "#cdb4db", "#90a4ae")


def build_gallery(data_dir: str | Path, output_dir: str | Path) -> list[dict]:
    """Writes one WebP file a picture and `queries.json`.

    Every third picture lies, smaller and off centre, on a coloured ground, the others on white. None is transparent:
    transformers' pipelines drop transparency when they open a file, which would put the emoji on black.

    Args:
        data_dir: the emoji data set (scripts/build_emoji_dataset.py).
        output_dir: where the files go; they are named after the English names.

    Returns:
        The queries, one trained and one held out for each language: {"text", "language", "picture" (a file's stem),
        "held_out"}. No picture is asked for twice. The first `SHEET` of them are of different languages.

    Raises:
        FileNotFoundError: the data set is not there.
    """
    data, output = Path(data_dir), Path(output_dir)
    for file in ("pictures.parquet", "annotations.parquet"):
        if not (data / file).is_file():
            raise FileNotFoundError(f"No {file} in {data}: build it with scripts/build_emoji_dataset.py.")
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
    """An RGBA picture on a plain ground of its own size, at 80 % and shifted by up to a tenth of the side; RGB."""
    side = picture.width
    small = picture.resize((side * 4 // 5, side * 4 // 5), Image.Resampling.LANCZOS)
    ground = Image.new("RGBA", picture.size, color)
    shift = [side // 10 + (seed * factor % 5 - 2) * side // 20 for factor in (1, 3)]
    ground.alpha_composite(small, tuple(shift))
    return ground.convert("RGB")


def choose_queries(annotations: list[dict], stems: dict[str, str]) -> list[dict]:
    """For each language the first trained and the first held-out name in the order of a hash.

    A held-out name must not be spelled like a training text of the same picture in another language, and all must fit
    on the small checkpoint's canvas.

    Args:
        annotations: rows of the data set about the pictures in `stems`.
        stems: picture id -> file stem.
    """
    fits = TextRenderer(canvas_size=80)
    order = sorted(annotations, key=lambda row: hashlib.sha256(f"{row['language']} {row['id']}".encode()).digest())
    asked: set[str] = set()
    by_split: dict[str, list[dict]] = {"train": [], "held_out": []}
    for language, label in LANGUAGES.items():
        for split, queries in by_split.items():
            for row in order:
                if row["language"] != language or row["split"] != split or row["id"] in asked:
                    continue
                if split == "held_out" and row["name_in_train"]:
                    continue
                rendered = fits([row["name"]])
                if rendered.chars_drawn[0] < rendered.chars_total[0]:
                    continue
                asked.add(row["id"])
                query = {"text": row["name"], "language": label, "picture": stems[row["id"]]}
                queries.append({**query, "held_out": split == "held_out"})
                break
    # Trained ones first: the sheet shows what the model was taught, language by language; the retrieval shows both.
    return by_split["train"] + by_split["held_out"]
