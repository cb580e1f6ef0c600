"""The gallery and the demo that searches it."""

import json

import numpy as np
import pytest
from PIL import Image

from clippo.pictograms import demo
from clippo.pictograms.command import main_gallery
from clippo.pictograms.gallery import build_gallery, choose, is_flag, read_gallery


@pytest.fixture(scope="module")
def gallery(pictograms, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gallery")
    build_gallery(pictograms[0], folder)
    return folder


def test_a_gallery_has_one_picture_of_each_concept_with_its_attribution(gallery):
    read = read_gallery(gallery)
    concepts = [row["concept"] for row in read.rows]
    assert sorted(set(concepts)) == sorted(concepts) == sorted(["1f5d1", "2b05", "1f3e0", "1f9e0", "1f680"])
    assert all(read.sets[row["set"]] for row in read.rows)
    assert all(picture.size == (64, 64) and picture.mode == "RGB" for picture in read.pictures)
    rocket = read.pictures[concepts.index("1f680")]
    assert np.asarray(rocket)[0, 0].min() > 250 and np.asarray(rocket).min() < 100


def test_held_out_pictures_come_first_and_flags_are_left_out():
    def row(name, concept, link="name", split="train", kind="a"):
        return {"id": name, "concept": concept, "link": link, "split": split, "set": kind}

    rows = [
        row("a:x", "1f5d1"),
        row("b:x", "1f5d1", split="held_out_style"),
        row("c:fr", "1f1eb-1f1f7", "region"),
        *(row(f"{kind}:save", "en:save", "", kind=kind) for kind in "defghi"),
        *(row(f"{kind}:odd", "en:odd", "", kind="z") for kind in "defghi"),
    ]
    chosen = choose(rows)
    assert rows[chosen[0]]["id"] == "b:x"
    assert [rows[i]["concept"] for i in chosen] == ["1f5d1", "en:save"]
    assert is_flag("1f1eb-1f1f7") and not is_flag("1f5d1") and not is_flag("1f468-200d-1f33e")


def test_the_demo_prints_and_draws(gallery, save_tiny, tmp_path, capsys):
    model = save_tiny(image_size=96, canvas_format="packed")
    output = tmp_path / "found.png"
    demo.main(["--model", model, "--gallery", str(gallery), "--output", str(output)])
    printed = capsys.readouterr().out
    assert all(text in printed for _, text, _ in demo.QUERIES)
    with Image.open(output) as image:
        assert image.width > 1000 and len(image.getcolors(1 << 20)) > 2
    demo.main(["--model", model, "--gallery", str(gallery), "--output", str(output), "--queries", "rocket"])
    assert "(copies)" in capsys.readouterr().out


def test_the_queries_are_twenty_in_as_many_languages():
    assert len({language for language, _, _ in demo.QUERIES}) == len({text for _, text, _ in demo.QUERIES}) == 20


def test_missing_folders_are_one_sentence(tmp_path, save_tiny):
    with pytest.raises(SystemExit, match=r"error: No sheet.webp in .*clippo build pictogram_gallery"):
        demo.main(["--model", save_tiny(), "--gallery", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"error: No pictures.parquet in .*clippo build pictograms"):
        main_gallery(["--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "out")])


def test_the_command_writes_the_gallery(pictograms, tmp_path, capsys):
    main_gallery(["--data_dir", str(pictograms[0]), "--output_dir", str(tmp_path), "--most", "2"])
    assert json.loads(capsys.readouterr().out)["pictures"] == 2
    assert len(read_gallery(tmp_path).rows) == 2
