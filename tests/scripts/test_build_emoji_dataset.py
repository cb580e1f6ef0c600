"""The script hands its options to the builder and turns the builder's errors into one sentence."""

import functools
import json
import os
from pathlib import Path

import pytest


@pytest.fixture
def run(run_script):
    return functools.partial(run_script, "build_emoji_dataset.py")


def test_missing_sources_are_one_sentence(run, tmp_path):
    done = run("--font_path", tmp_path / "none.ttf", "--output_dir", tmp_path / "out")
    assert done.returncode == 1
    assert "apt-get install fonts-noto-color-emoji" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_builds_from_a_small_cldr(run, tmp_path):
    font = Path(os.environ.get("CLIPPO_EMOJI_FONT", "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"))
    if not font.is_file():
        pytest.skip("fonts-noto-color-emoji is not installed (set CLIPPO_EMOJI_FONT to its NotoColorEmoji.ttf)")
    for folder in ("annotations", "annotationsDerived"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "en.xml").write_text(
            '<ldml><annotations><annotation cp="🚀" type="tts">rocket</annotation></annotations></ldml>',
            encoding="utf-8",
        )
    done = run("--font_path", font, "--cldr_folder", tmp_path, "--output_dir", tmp_path / "out", "--held_out", 0)
    assert done.returncode == 0, done.stderr
    info = json.loads(done.stdout)
    assert info["statistics"]["pictures"] == info["statistics"]["pairs"] == 1
    assert info["options"] == {"skin_tones": False, "held_out": 0.0, "min_coverage": 0.1}
    assert (tmp_path / "out" / "pictures.parquet").is_file()
