"""The builder: what it takes, what it leaves out and names, that it repeats itself and goes on after a stop."""

import json

import numpy as np
import pyarrow.parquet as parquet
import pytest

from clippo.pictograms import build_pictograms
from clippo.pictograms.drawing import decode
from clippo.pictograms.packages import PACKAGES, find_packages
from clippo.pictograms.parts import part_facts


@pytest.fixture(scope="module")
def rows(pictograms):
    folder, _ = pictograms
    return {row["id"]: row for row in parquet.read_table(folder / "pictures.parquet").to_pylist()}


def test_sets_are_left_out_by_name_and_reason(pictograms):
    _, info = pictograms
    assert {reason: info["sets_left_out"][reason] for reason in info["sets_left_out"] if "language" not in reason} == {
        "no licence": ["nolicence"],
        "licence CC-BY-SA-4.0": ["sharealike"],
        "brand logos": ["marks"],
        "not a set of icons": ["damaged"],
    }


def test_icons_are_left_out_by_name_and_reason(pictograms):
    _, info = pictograms
    assert {reason: one["examples"] for reason, one in info["pictures_left_out"].items()} == {
        "another size of one picture": ["plain:home-20-filled", "plain:home-28-filled"],
        "blank drawing": ["plain:invisible"],
        "brand logos": ["plain:github-logo", "plain:acme-box"],
        "broken SVG": ["plain:broken"],
        "hidden in its set": ["plain:secret"],
        "name without words": ["plain:12345"],
        "skin tone or hair variant": ["faces:elf-light-skin-tone", "faces:elf-medium"],
        "no drawing": ["plain:empty"],
        "same picture as another": ["banners:bl", "copies:refuse"],
    }


def test_a_picture_has_set_style_licence_attribution_and_words(rows):
    row = rows["plain:trash-outline"]
    assert (row["style"], row["licence"], row["attribution"]) == ("outline", "MIT", "Plain by Ann, MIT")
    assert (row["words"], row["style_words"]) == ("trash", "outline")
    assert row["texts"] == ["bin", "refuse"], "an alias, and the name of an equal picture of another set"
    assert rows["plain:trash-filled"]["style"] == "filled"
    assert rows["faces:brain"]["style"] == "colour" and not rows["faces:brain"]["mask"]


def test_icons_reach_the_concepts_of_cldr(rows):
    assert {name: (row["concept"], row["link"]) for name, row in rows.items()} == {
        "plain:trash-outline": ("1f5d1", "hand"),
        "plain:trash-filled": ("1f5d1", "hand"),
        "plain:rubbish-outline": ("en:rubbish", ""),
        "plain:arrow-left-outline": ("2b05", "name"),
        "plain:arrow-left-filled": ("2b05", "name"),
        "plain:arrow-up": ("en:arrow up", ""),
        "plain:clever-outline": ("en:clever", ""),
        "plain:home-24-filled": ("1f3e0", "hand"),
        "faces:wastebasket": ("1f5d1", "code points"),
        "faces:brain": ("1f9e0", "code points"),
        "faces:rocket": ("1f680", "code points"),
        "banners:fr": ("1f1eb-1f1f7", "region"),
        "banners:zz": ("en:zz", ""),
        "copies:lonely-thing": ("en:lonely thing", ""),
        "copies:rocket": ("1f680", "name"),
    }


def test_the_split_holds_whole_sets_out(rows):
    assert {row["set"] for row in rows.values() if row["split"] == "held_out_style"} == {"copies"}


def test_annotations_have_every_language_of_a_linked_concept(pictograms):
    folder, info = pictograms
    texts = parquet.read_table(folder / "annotations.parquet").to_pylist()
    assert {(row["language"], row["name"]) for row in texts if row["id"] == "1f5d1"} == {
        ("en", "wastebasket"),
        ("de", "Papierkorb"),
        ("ru", "корзина"),
    }
    assert info["statistics"]["languages"] == 3
    assert all(row["split"] != "held_out" for row in texts if row["language"] == "en")


def test_pictures_survive_the_file(rows):
    pixels = decode(rows["faces:brain"]["image"])
    assert pixels.shape == (48, 48, 4)
    assert pixels[20, 20].tolist() == [0xD6, 0x28, 0x28, 255]
    assert pixels[0, 0].tolist() == [0, 0, 0, 0]


def test_a_turned_alias_is_a_turned_picture(rows):
    left, up = (decode(rows[f"plain:{name}"]["image"]) for name in ("arrow-left-outline", "arrow-up"))
    assert np.array_equal(np.rot90(left, -1), up) and not np.array_equal(left, up)


def test_building_twice_gives_the_same_hash(pictograms, packages, tmp_path):
    folder, info = pictograms
    again = build_pictograms(tmp_path, packages, side=48, workers=2, held_out_sets=("copies",))
    assert again == info
    assert (tmp_path / "annotations.parquet").read_bytes() == (folder / "annotations.parquet").read_bytes()
    smaller = build_pictograms(tmp_path, packages, side=32, workers=1, held_out_sets=("copies",))
    assert smaller["data_hash"] != info["data_hash"], "the hash sees the pixels"


def test_a_stopped_build_goes_on_with_the_sets_that_are_missing(pictograms, packages, tmp_path):
    _, info = pictograms
    build_pictograms(tmp_path, packages, ["faces"], side=48, workers=1)
    part = tmp_path / "parts" / "faces.parquet"
    drawn = part.stat().st_mtime_ns
    (tmp_path / "parts" / "plain.parquet").write_bytes(b"half a file")
    assert build_pictograms(tmp_path, packages, side=48, workers=1, held_out_sets=("copies",)) == info
    assert part.stat().st_mtime_ns == drawn, "a finished part is not drawn again"
    assert part_facts(tmp_path / "parts" / "plain.parquet")["source"]


def test_every_set_and_package_is_attributed(pictograms):
    folder, info = pictograms
    page = (folder / "ATTRIBUTIONS.md").read_text(encoding="utf-8")
    for name in info["statistics"]["pictures_by_set"]:
        assert f"| {name} |" in page
    assert all(package.licence and package.attribution for package in PACKAGES)
    assert json.loads((folder / "dataset_info.json").read_text(encoding="utf-8")) == info


def test_missing_packages_are_named_with_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No @iconify/json, cldr-.*run `npm install @iconify/json@"):
        find_packages(tmp_path)


def test_an_unusable_set_is_refused_with_the_reason(packages, tmp_path):
    with pytest.raises(ValueError, match=r"'sharealike' cannot be used: licence CC-BY-SA-4\.0"):
        build_pictograms(tmp_path, packages, ["sharealike"])
    with pytest.raises(ValueError, match="'nothing' cannot be used: the package has no such set"):
        build_pictograms(tmp_path, packages, ["nothing"])
