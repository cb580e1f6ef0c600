"""The builder: what it takes, what it leaves out, that it repeats itself, and that held-out pairs stay out."""

import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from clippo.emoji.build import build_emoji_dataset, is_held_out
from clippo.emoji.cldr import find_cldr
from clippo.emoji.font import find_font

# Where the packages were unpacked, if not installed.
FONT = Path(os.environ.get("CLIPPO_EMOJI_FONT", find_font()))
CLDR = Path(os.environ.get("CLIPPO_CLDR", find_cldr()))


def test_what_is_taken_and_what_is_left_out(build, tmp_path):
    info = build(tmp_path)
    pictures = parquet.read_table(tmp_path / "pictures.parquet").to_pylist()
    assert [row["emoji"] for row in pictures] == sorted(row["emoji"] for row in pictures)
    assert len(pictures) == info["statistics"]["pictures"] == 45
    swiss = next(row for row in pictures if row["emoji"] == "🇨🇭")
    assert (swiss["id"], swiss["code_points"], swiss["name"]) == ("1f1e8-1f1ed", "U+1F1E8 U+1F1ED", "flag: CH")
    assert {reason: value["examples"] for reason, value in info["pictures_left_out"].items()} == {
        "plain ASCII character": ["#"],
        "not one glyph of the font": ["₫"],
        "skin tone or hair variant": ["✋🏽"],
        "same picture as another emoji": ["🇱🇮"],
    }
    assert info["languages_left_out"] == {
        "regional file": ["de_CH"],
        "names fewer than 10% of the pictures": ["sr_Latn"],
    }
    assert info["statistics"]["language_script"] == {"de": "Latin", "en": "Latin", "ru": "Cyrillic"}
    assert json.loads((tmp_path / "dataset_info.json").read_text(encoding="utf-8")) == info


def test_skin_tones_are_an_option(build, tmp_path):
    assert build(tmp_path, skin_tones=True)["statistics"]["pictures"] == 46


def test_pictures_survive_the_file(build, tmp_path):
    build(tmp_path)
    rows = Dataset.from_parquet(str(tmp_path / "pictures.parquet"), cache_dir=str(tmp_path / "cache"))
    image = np.asarray(rows[0]["image"])
    assert image.shape == (24, 24, 4)
    assert (image[0, 0] == 0).all(), "transparent ground"
    assert image[12, 12, 3] == 255


def test_building_twice_gives_the_same_bytes(build, tmp_path):
    first, second = build(tmp_path / "a"), build(tmp_path / "b")
    assert first == second
    for name in ("pictures.parquet", "annotations.parquet", "dataset_info.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_data_hash_sees_the_split(build, tmp_path):
    assert build(tmp_path, held_out=0.1)["data_hash"] != build(tmp_path, held_out=0.4)["data_hash"]


def test_name_in_train_marks_words_shared_between_languages(emoji_folder):
    rows = parquet.read_table(emoji_folder / "annotations.parquet").to_pylist()
    held_out = [row for row in rows if row["split"] == "held_out"]
    assert held_out
    for row in held_out:
        training = [other for other in rows if other["split"] == "train" and other["id"] == row["id"]]
        texts = {text.lower() for other in training for text in [other["name"], *other["keywords"]]}
        assert row["name_in_train"] == (row["name"].lower() in texts)
        assert all(other["language"] != row["language"] for other in training), "a pair is held out as a whole"


@given(st.text(max_size=3), st.sampled_from(["en", "zh_Hant"]), st.lists(st.floats(0, 0.99), min_size=2, max_size=2))
def test_a_larger_share_keeps_what_a_smaller_one_held_out(text, language, shares):
    low, high = sorted(shares)
    assert is_held_out(text, language, low) <= is_held_out(text, language, high)
    assert not is_held_out(text, language, 0)


def test_the_share_is_held_out():
    share = np.mean([is_held_out(chr(0x1F300 + i), language, 0.1) for i in range(1000) for language in ("en", "ja")])
    assert share == pytest.approx(0.1, abs=0.02)


def test_missing_font_names_the_package(tmp_path, cldr_folder):
    with pytest.raises(FileNotFoundError, match="apt-get install fonts-noto-color-emoji"):
        build_emoji_dataset(tmp_path, tmp_path / "none.ttf", cldr_folder)


@pytest.mark.parametrize("held_out", [-0.1, 1.0])
def test_held_out_is_a_share(build, tmp_path, held_out):
    with pytest.raises(ValueError, match=r"held_out must lie in \[0, 1\)"):
        build(tmp_path, held_out=held_out)


@pytest.mark.slow
def test_debian_sources(tmp_path):
    pytest.importorskip("uharfbuzz")
    if not FONT.is_file():
        pytest.skip("fonts-noto-color-emoji is not installed (set CLIPPO_EMOJI_FONT to its NotoColorEmoji.ttf)")
    if not CLDR.is_dir():
        pytest.skip("unicode-cldr-core is not installed (set CLIPPO_CLDR to its `common` folder)")
    statistics = build_emoji_dataset(tmp_path, FONT, CLDR)["statistics"]
    assert statistics["pictures"] > 1400
    assert statistics["languages"] > 100
    assert statistics["language_script"]["ja"] == "Japanese"
    assert len(statistics["languages_by_script"]) > 20
    assert statistics["held_out_pairs"] / statistics["pairs"] == pytest.approx(0.1, abs=0.01)
