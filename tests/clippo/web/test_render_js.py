"""The browser's renderer draws the bytes of the Python one: golden, random and long texts."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import clippo
from clippo.web.build import page_folder
from clippo.web.glyphs import glyph_files

SCRIPT = Path(__file__).with_name("render_texts.mjs")


def random_texts(count: int) -> list[str]:
    """Strings of up to 400 characters: ASCII, the first planes, lone surrogates and any code point."""
    random = np.random.default_rng(0)
    ranges = [(32, 127), (32, 0x530), (0x530, 0x3000), (0x3000, 0x10000), (0x1F300, 0x1FAFF), (0, 0x110000)]
    texts = []
    for number in range(count):
        low, high = ranges[number % len(ranges)]
        length = int(random.integers(0, 400 if number % 7 == 0 else 60))
        points = random.integers(low, high, length)
        # JavaScript reads a high surrogate before a low one as one character, so all surrogates here are low.
        points = np.where((points >= 0xD800) & (points < 0xDC00), points + 0x400, points)
        texts.append("".join(map(chr, points)))
    return texts


def draw_in_node(tokenizer: clippo.ClippoTokenizer, texts: list[str], folder: Path) -> list[tuple[str, int]]:
    """(hash of the canvas, number of characters that fit) of each text."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    files = glyph_files(tokenizer)
    (folder / "first.bin").write_bytes(files.first)
    (folder / "rest.bin").write_bytes(files.rest)
    (folder / "texts.json").write_text(json.dumps({"options": files.settings, "texts": texts}), encoding="utf-8")
    command = [node, str(SCRIPT), str(page_folder() / "render.js"), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return [tuple(row) for row in json.loads(done.stdout)]


def assert_the_same_bytes(options: dict, texts: list[str], folder: Path) -> None:
    tokenizer = clippo.ClippoTokenizer(**options, overflow="ignore")
    rendered = tokenizer.render(texts, canvas_format="uint8")
    expected = [
        (hashlib.sha256(canvas.tobytes()).hexdigest(), int(drawn))
        for canvas, drawn in zip(rendered.canvases, rendered.chars_drawn, strict=True)
    ]
    got = draw_in_node(tokenizer, texts, folder)
    wrong = [text for text, one, other in zip(texts, got, expected, strict=True) if one != other]
    assert not wrong, f"{len(wrong)} of {len(texts)} texts differ: {wrong[:3]!r}"


@pytest.mark.parametrize("options", [{"canvas_size": 80}, {"canvas_size": (48, 200), "max_chars": None}], ids=str)
def test_random_texts(tmp_path, options):
    assert_the_same_bytes(options, [*random_texts(2000), "", "x" * 2000, "Ａ" * 300], tmp_path)


def test_the_golden_strings(tmp_path, shared):
    strings = json.loads(shared("goldens", "render_strings.json").read_text(encoding="utf-8"))
    assert_the_same_bytes({"canvas_size": 224}, [string["text"] for string in strings], tmp_path)


def test_options_that_a_table_cannot_hold_are_refused():
    with pytest.raises(ValueError, match="antialias_font=True cannot be drawn in the browser"):
        glyph_files(clippo.ClippoTokenizer(canvas_size=64, antialias_font=True))
