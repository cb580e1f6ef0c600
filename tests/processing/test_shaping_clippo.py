"""Shaping: joined forms, right-to-left order and marks on their base, from plain bitmaps."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clippo.processing import FontChain, TextRenderer
from clippo.processing import shaping_clippo as shaping

ARABIC = "\u0645\u0631\u062d\u0628\u0627"  # marhaba, "hello"
HEBREW = "\u05e9\u05dc\u05d5\u05dd"  # shalom


@pytest.fixture(scope="module", autouse=True)
def libraries():
    pytest.importorskip("uharfbuzz")
    pytest.importorskip("bidi")


@pytest.fixture(scope="module")
def fonts():
    return FontChain.from_source(None)


@pytest.fixture(scope="module")
def shaped(fonts):
    return TextRenderer(fonts, canvas_size=(32, 224), shaping=True)


@pytest.fixture(scope="module")
def plain(fonts):
    return TextRenderer(fonts, canvas_size=(32, 224))


def test_plain_text_is_drawn_as_without_shaping(shaped, plain):
    texts = [
        "",
        "A photo of a dog!",
        "Größe Übermut",
        "Привет, мир",
        "我能吞下玻璃 かな 안녕",
        "a\tb\nc\0",
        "\ud800 \ufffe",
    ]
    ours, theirs = shaped(texts, boxes=True), plain(texts, boxes=True)
    np.testing.assert_array_equal(ours.canvases, theirs.canvases)
    for a, b in zip(ours.boxes, theirs.boxes, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(ours.rows_used, theirs.rows_used)


def test_arabic_is_joined_and_runs_right_to_left(shaped, plain):
    """The forms that Unicode names: initial meem, final reh, initial hah, medial beh, final alef."""
    forms = "\ufee3\ufeae\ufea3\ufe92\ufe8e"
    np.testing.assert_array_equal(shaped([ARABIC]).canvases, plain([forms[::-1]]).canvases)
    x = shaped([ARABIC], boxes=True).boxes[0][:, 0]
    assert (np.diff(x) < 0).all(), "boxes keep the order of the text: each further left"


def test_lam_alef_is_one_glyph_for_two_characters(shaped, plain):
    rendered = shaped(["\u0644\u0627"], boxes=True)
    np.testing.assert_array_equal(rendered.canvases, plain(["\ufefb"]).canvases)
    assert rendered.chars_drawn == 2 and (rendered.boxes[0][0] == rendered.boxes[0][1]).all()


def test_forms_missing_from_the_font_are_not_chosen(tmp_path, fonts):
    glyph = "{:04X}:" + "00" * 5 + "7E" * 6 + "00" * 5 + "\n"
    path = tmp_path / "letters.hex"
    path.write_text("".join(glyph.format(ord(c)) for c in ARABIC))
    only_letters = TextRenderer(path, canvas_size=(16, 64), shaping=True)
    assert (only_letters([ARABIC]).canvases == 0).sum() == 5 * 36


def test_mixed_directions(shaped, plain):
    # Left-to-right sentence, right-to-left word; and the reverse, with a number that stays left to right.
    np.testing.assert_array_equal(shaped([f"say {HEBREW} now"]).canvases, plain([f"say {HEBREW[::-1]} now"]).canvases)
    np.testing.assert_array_equal(shaped([f"{HEBREW} 123"]).canvases, plain([f"123 {HEBREW[::-1]}"]).canvases)
    np.testing.assert_array_equal(shaped([f"({HEBREW})"]).canvases, plain([f"({HEBREW[::-1]})"]).canvases)


def test_right_to_left_text_breaks_into_rows_from_the_top(fonts):
    renderer = TextRenderer(fonts, canvas_size=(64, 64), shaping=True)
    boxes = renderer([HEBREW * 8], boxes=True).boxes[0]
    assert (np.diff(boxes[:, 1]) >= 0).all() and boxes[-1, 1] >= 32
    for top in np.unique(boxes[:, 1]):
        row = boxes[boxes[:, 1] == top]
        assert (np.diff(row[:, 0]) < 0).all() and row[-1, 0] == 0


def test_letters_with_marks_are_composed(shaped, plain):
    np.testing.assert_array_equal(shaped(["Tie\u0302\u0301ng u\u0308"]).canvases, plain(["tiếng ü"]).canvases)
    np.testing.assert_array_equal(shaped(["\u1112\u1161\u11ab"]).canvases, plain(["\ud55c"]).canvases)


@pytest.mark.parametrize("mark", ["\u0301", "\u0308", "\u0327", "\u0331", "\u20dd", "\u0302\u0301", "\u034f\u0301"])
def test_canonically_equal_texts_look_the_same(shaped, mark):
    """A capital that composes with its marks stays one, as the composed letter does; others become small."""
    for letter in "AEGKXz":
        text = f"{letter}{mark} {letter}{mark}x"
        composed = unicodedata.normalize("NFC", text)
        np.testing.assert_array_equal(shaped([text]).canvases, shaped([composed]).canvases, err_msg=ascii(text))
    np.testing.assert_array_equal(shaped(["A\u0301"]).canvases, shaped(["\u00c1"]).canvases)
    np.testing.assert_array_equal(shaped(["X\u0301 AB"]).canvases, shaped(["x\u0301 ab"]).canvases)


def test_other_marks_are_stacked_on_their_base(shaped, plain):
    rendered = shaped(["x\u0301", "x\u0301\u0304", "x\u0323", "x"], boxes=True)
    ink = rendered.canvases[:, 0, :16] == 0
    bare = ink[3]
    for marked in ink[:3]:
        assert (marked & bare == bare).all() and marked.sum() > bare.sum(), "the base is whole, the mark is there"
    one, two, below = (np.flatnonzero(i.any(axis=1)) for i in ink[:3])
    top, bottom = np.flatnonzero(bare.any(axis=1))[[0, -1]]
    assert two[0] < one[0] < top and below[-1] > bottom
    assert (rendered.boxes[0] == rendered.boxes[3][0]).all(), "mark and base share the base's box"
    assert rendered.chars_drawn.tolist() == [2, 3, 2, 1]


def test_marks_move_clear_of_tall_letters():
    base = np.zeros((8, 16), np.uint8)
    base[2:6, 3:14] = 1
    mark = np.zeros((16, 16), np.uint8)
    mark[3, 3:5] = 1
    composed = shaping.compose(base.copy(), [(0x301, mark)])
    assert np.flatnonzero(composed.any(axis=0)).tolist() == [0, 1, *range(3, 14)], "one blank row between them"
    fixed = shaping.compose(base.copy(), [(0x338, mark)])
    np.testing.assert_array_equal(fixed, base, err_msg="an overlay stays where it was drawn, here inside the ink")


def test_a_mark_wider_than_its_base_widens_it():
    base, mark = np.ones((2, 16), np.uint8), np.zeros((16, 16), np.uint8)
    mark[4:12, 8] = 1
    composed = shaping.compose(base, [(0x488, mark)])
    assert composed.shape == (8, 16) and composed[:, 8].all() and composed[3:5].all()


def test_invisible_controls_work_and_are_not_drawn(shaped, plain):
    controls, without = shaped(["so\u00adft a\u200bb \u2764\ufe0f"]), plain(["soft ab \u2764"])
    np.testing.assert_array_equal(controls.canvases, without.canvases)
    joined, apart = shaped(["\u0628\u0628", "\u0628\u200c\u0628"]).canvases
    assert (joined != apart).any(), "a non-joiner keeps two letters from joining"
    only = shaped(["\u200d\u200e"], boxes=True)
    assert only.rows_used == 0 and only.chars_drawn == 2 and (only.boxes[0] == 0).all()


def test_many_scripts_leave_no_mark_alone(shaped, plain):
    for text in ("สวัสดีครับ", "בְּרֵאשִׁית", "बिंदु", "ཨོཾ"):
        assert shaped([text], boxes=True).boxes[0][:, 2].max() < plain([text], boxes=True).boxes[0][:, 2].max(), text


@given(st.lists(st.text(st.characters(exclude_categories=()), max_size=40), max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_strings_render_alone_as_in_a_batch(texts):
    renderer = TextRenderer(canvas_size=(48, 64), max_chars=30, shaping=True)
    batch = renderer(texts, boxes=True)
    assert (batch.chars_drawn <= batch.chars_total).all()
    for i, text in enumerate(texts):
        alone = renderer([text], boxes=True)
        np.testing.assert_array_equal(alone.canvases[0], batch.canvases[i])
        boxes = batch.boxes[i]
        assert len(boxes) == batch.chars_drawn[i]
        np.testing.assert_array_equal(alone.boxes[0], boxes)
        if len(boxes):
            assert boxes.min() >= 0 and boxes[:, 2].max() <= 64 and boxes[:, 3].max() <= 48


@given(st.text(st.sampled_from("aב\u0627\u0628 1(.)\u0301\u200f\u202b\u202e\u202c\u2067\u2069\u0661"), max_size=30))
@settings(max_examples=200, deadline=None)
def test_directional_text_keeps_every_unit_once(text):
    result = shaping.shape_text(text, FontChain.from_source(None), lowercase=True)
    assert len(result.levels) == len(result.units) and len(result.unit_of_char) == len(text)
    order = shaping.visual_order(result.levels)
    assert sorted(order.tolist()) == list(range(len(result.units)))
    assert (np.diff(result.unit_of_char) >= 0).all() and result.unit_of_char.max(initial=-1) < len(result.units)


def test_visual_order_of_nested_levels():
    assert shaping.visual_order(np.array([0, 1, 1, 2, 2, 1, 0], np.uint8)).tolist() == [0, 5, 3, 4, 2, 1, 6]
    assert shaping.visual_order(np.zeros(0, np.uint8)).tolist() == []


def test_missing_libraries_name_the_extra(monkeypatch):
    monkeypatch.setattr(shaping, "hb", None)
    with pytest.raises(ImportError, match=r"pip install clippo\[shaping\]"):
        TextRenderer(shaping=True)
    assert TextRenderer()(["works without"]).chars_drawn == 13
