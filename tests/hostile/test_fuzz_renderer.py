"""Fuzz target: any strings and any options, against an independent renderer that places one character at a time."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clippo.processing import FontChain, RenderOptions, TextRenderer
from clippo.processing.canvas_clippo import unpack_columns

FONTS = FontChain.from_source(None)
# Half of the characters are those that trip renderers up: controls, marks, joiners, surrogates, the ends of the planes.
ODD = "\0\t\n\r\x7f\x85\u200b\u200d\u200f\u202e\u2028\u2066\ufe0f\ufeff\ufffd\uffff\ud800\udfff\U0001f468\U0010ffff"
TEXTS = st.lists(st.text(st.one_of(st.characters(), st.sampled_from(ODD), st.characters(codec="ascii"))), max_size=5)
OPTIONS = st.fixed_dictionaries(
    dict(
        canvas_size=st.tuples(st.integers(16, 80), st.integers(32, 120)),
        max_chars=st.one_of(st.none(), st.integers(1, 60)),
        lowercase=st.booleans(),
        monospace=st.booleans(),
        spacing=st.integers(0, 16),
        min_width=st.integers(1, 16),
        background=st.integers(0, 255),
        ink=st.integers(0, 255),
        advances=st.sampled_from(["ink", "font"]),
    )
)


def glyph(char: str, options: RenderOptions) -> np.ndarray:
    """Columns bool (width, 16) of one character, by the rules as the documentation states them."""
    code = 0xFFFD if 0xD800 <= ord(char) < 0xE000 else ord(char)
    found = FONTS.bitmap(code + 32 if options.lowercase and "A" <= char <= "Z" else code)
    bits = unpack_columns(found.columns).astype(bool) if found else np.zeros((16, 16), bool)
    advance = found.advance if found else options.min_width
    inked = [column for column in range(len(bits)) if bits[column].any()]
    first, last = (inked[0], inked[-1]) if inked else (0, 0)
    if options.monospace:
        return bits
    if options.advances == "font":
        return bits[: max(advance, last + 1)]
    start = max(first - options.spacing, 0)
    return bits[start : max(last + options.spacing, start + options.min_width)]


def draw(text: str, options: RenderOptions) -> tuple[np.ndarray, int, list]:
    """Canvas uint8 (H, W), characters drawn and their boxes, one character after another."""
    glyphs = [glyph(char, options) for char in text[: options.max_chars]]
    widest = max(map(len, glyphs), default=0)
    room = np.float32(max(options.width - widest, 1))
    rows = -(-options.height // 16)
    canvas = np.full((rows * 16, options.width), options.background, np.uint8)
    used, row_before, x, boxes = 0, -1, 0, []
    for columns in glyphs:
        used += len(columns)
        row = int(np.float32(used) / room)
        x = x if row == row_before else 0
        if row < rows:
            area = canvas[16 * row : 16 * row + 16, x : x + len(columns)]
            area[columns.T] = options.ink
            boxes.append([x, 16 * row, x + len(columns), min(16 * row + 16, options.height)])
        row_before, x = row, x + len(columns)
    return canvas[: options.height], len(boxes), boxes


def check(texts, fields):
    options = RenderOptions(**fields)
    renderer = TextRenderer(FONTS, options)
    rendered = renderer(texts, boxes=True)
    assert rendered.canvases.shape == (len(texts), 1, options.height, options.width)
    assert rendered.chars_total.tolist() == [len(text) for text in texts]
    for i, text in enumerate(texts):
        canvas, drawn, boxes = draw(text, options)
        np.testing.assert_array_equal(rendered.canvases[i, 0], canvas)
        assert rendered.chars_drawn[i] == drawn and rendered.boxes[i].tolist() == boxes
        assert rendered.rows_used[i] == max((box[1] // 16 + 1 for box in boxes), default=0)
    scaled = renderer(texts, "float").canvases
    expected = rendered.canvases.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1)
    np.testing.assert_array_equal(scaled, expected)


@settings(max_examples=60, deadline=None)
@given(TEXTS, OPTIONS)
def test_renderer_against_one_character_at_a_time(texts, fields):
    check(texts, fields)


@pytest.mark.slow
@settings(max_examples=20000, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS, OPTIONS)
def test_renderer_against_one_character_at_a_time_for_long(texts, fields):
    check(texts, fields)


def check_shaping(texts):
    pytest.importorskip("uharfbuzz", reason="needs the extra `shaping`")
    renderer = TextRenderer(FONTS, canvas_size=(48, 96), shaping=True)
    batch = renderer(texts, boxes=True)
    for i, text in enumerate(texts):
        alone = renderer([text], boxes=True)
        np.testing.assert_array_equal(alone.canvases[0], batch.canvases[i])
        np.testing.assert_array_equal(alone.boxes[0], batch.boxes[i])
        assert 0 <= alone.chars_drawn[0] <= alone.chars_total[0] == len(text)
        left, top, right, bottom = alone.boxes[0].T
        assert (left >= 0).all() and (right <= 96).all() and (top >= 0).all() and (bottom <= 48).all()


@settings(max_examples=40, deadline=None)
@given(TEXTS)
def test_shaping_of_any_strings(texts):
    check_shaping(texts)


@pytest.mark.slow
@settings(max_examples=20000, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXTS)
def test_shaping_of_any_strings_for_long(texts):
    check_shaping(texts)
