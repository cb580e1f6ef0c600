"""The demo's pictures: built the same every time, asked about by rule, and those in the repository are complete."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from clippo.emoji.build import ANNOTATION_FEATURES, PICTURE_FEATURES
from clippo.emoji.gallery import EMOJI, LANGUAGES, SHEET, build_gallery, choose_queries, on_ground

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "docs" / "pictures"


def row(picture, language="de", split="train", name=None, name_in_train=False):
    name = name or f"{language} {picture}"
    return {"id": picture, "language": language, "name": name, "split": split, "name_in_train": name_in_train}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A data set of plain squares with the demo's emoji; every tenth pair held out."""
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    pictures, annotations = [], []
    for i, emoji in enumerate(EMOJI):
        buffer = io.BytesIO()
        Image.new("RGBA", (20, 20), tuple(random.integers(0, 256, 4).tolist())).save(buffer, "PNG")
        image = {"bytes": buffer.getvalue(), "path": None}
        pictures.append({"id": f"{ord(emoji):x}", "emoji": emoji, "code_points": "", "name": f"n {i}", "image": image})
        for j, language in enumerate(LANGUAGES):
            split = "train" if (i + j) % 10 else "held_out"
            annotations.append({**row(pictures[-1]["id"], language, split), "script": "Latin", "keywords": []})
    Dataset.from_list(pictures, features=PICTURE_FEATURES).to_parquet(folder / "pictures.parquet")
    Dataset.from_list(annotations, features=ANNOTATION_FEATURES).to_parquet(folder / "annotations.parquet")
    return folder


def test_build(data_dir, tmp_path):
    queries = build_gallery(data_dir, tmp_path / "a")
    assert queries == build_gallery(data_dir, tmp_path / "b")
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert len(files) == len(EMOJI) + 1 and "n_0.webp" in files
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert json.loads((tmp_path / "a" / "queries.json").read_text(encoding="utf-8")) == queries
    assert len(queries) == 2 * len(LANGUAGES) and sum(query["held_out"] for query in queries) == len(LANGUAGES)
    assert len({query["picture"] for query in queries}) == len(queries)
    assert len({query["language"] for query in queries[:SHEET]}) == SHEET


def test_missing_data_set(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No pictures.parquet in .*build_emoji_dataset.py"):
        build_gallery(tmp_path, tmp_path / "out")


def test_queries_leave_out_what_would_not_be_fair():
    held_out = [
        row("1", split="held_out", name_in_train=True),  # spelled as in another language
        row("2", split="held_out", name="sehr " * 40),  # would be cut
        row("3", split="held_out"),
    ]
    queries = choose_queries([row("4"), *held_out], {str(i): f"p{i}" for i in range(1, 5)})
    assert [(query["picture"], query["held_out"]) for query in queries] == [("p4", False), ("p3", True)]
    assert queries[0]["text"] == "de 4" and queries[0]["language"] == "German"


def test_a_ground_is_opaque_and_shows_the_whole_picture():
    picture = Image.new("RGBA", (100, 100), "red")
    for seed in range(5):
        pixels = np.asarray(on_ground(picture, "#0000ff", seed))
        assert (pixels == (255, 0, 0)).all(-1).sum() == 80 * 80
        assert (pixels == (0, 0, 255)).all(-1).sum() == 100 * 100 - 80 * 80


def test_the_committed_pictures_are_complete():
    queries = json.loads((COMMITTED / "queries.json").read_text(encoding="utf-8"))
    files = {path.stem: path for path in COMMITTED.glob("*.webp")}
    assert len(files) == len(EMOJI) and {query["picture"] for query in queries} <= set(files)
    assert sum(path.stat().st_size for path in files.values()) <= 300_000
    for path in files.values():
        with Image.open(path) as image:
            assert image.size == (136, 136) and image.mode == "RGB"  # a pipeline would show transparency as black


def test_the_committed_pictures_are_what_the_builder_makes(tmp_path):
    data = ROOT / "data" / "emoji"
    if not (data / "pictures.parquet").is_file():
        pytest.skip("the emoji data set is not built here (scripts/build_emoji_dataset.py)")
    build_gallery(data, tmp_path)
    assert (tmp_path / "queries.json").read_bytes() == (COMMITTED / "queries.json").read_bytes()
    for path in tmp_path.glob("*.webp"):
        with Image.open(path) as built, Image.open(COMMITTED / path.name) as committed:
            assert built.tobytes() == committed.tobytes(), path.name
