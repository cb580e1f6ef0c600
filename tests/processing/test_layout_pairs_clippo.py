"""Sentence pairs on canvas: where each text goes, who is cut, what is reported."""

import datasets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, DataCollatorWithPadding

import clippo
from clippo.processing.layout_pairs_clippo import RULE_ROWS, share_rows
from clippo.processing.tokenization_clippo import TextMeasure

SIDE, ROWS = 96, 6
WORDS = "a word and another "
PAIRS = [
    ("a cat", "a dog"),
    ("", "снег"),
    ("犬の写真", ""),
    ("", ""),
    ("مرحبا", "🐈 สวัสดี"),
    (WORDS * 9, "b"),
    ("b", WORDS * 9),
]


@pytest.fixture(scope="module")
def rows():
    return clippo.ClippoTokenizer(canvas_size=SIDE, pair_layout="rows", overflow="ignore")


@pytest.fixture(scope="module")
def two():
    return clippo.ClippoTokenizer(canvas_size=SIDE, pair_layout="two_canvas", overflow="ignore")


def draw(tokenizer, pairs, **options):
    firsts, seconds = zip(*pairs, strict=True)
    return tokenizer(list(firsts), list(seconds), return_tensors="np", **options)["text_pixel_values"]


def lines(canvases):
    """uint8 (B, 1, H, W) -> (B, rows, 16, W)"""
    return canvases[:, 0].reshape(len(canvases), -1, 16, canvases.shape[-1])


def is_rule(line) -> bool:
    ink = line == 0
    return bool(ink[list(RULE_ROWS), : SIDE // 4].all()) and int(ink.sum()) == len(RULE_ROWS) * (SIDE // 4)


def test_rows_are_first_text_rule_second_text(rows):
    for (first, second), canvas in zip(PAIRS[:5], lines(draw(rows, PAIRS[:5])), strict=True):
        alone = lines(rows([first, second], return_tensors="np")["text_pixel_values"])
        above, below = (measure.rows_used for measure in rows.measure([first, second]))
        np.testing.assert_array_equal(canvas[:above], alone[0][:above])
        assert is_rule(canvas[above])
        np.testing.assert_array_equal(canvas[above + 1 : above + 1 + below], alone[1][:below])
        assert (canvas[above + 1 + below :] == 127).all()


def test_two_canvases_are_the_texts_alone(two):
    got = draw(two, PAIRS)
    assert got.shape == (len(PAIRS), 1, 2 * SIDE, SIDE)
    for part, texts in enumerate(zip(*PAIRS, strict=True)):
        alone = two(list(texts), return_tensors="np")["text_pixel_values"]
        np.testing.assert_array_equal(got[:, :, part * SIDE : (part + 1) * SIDE], alone)


@pytest.mark.parametrize("layout", ["rows", "two_canvas"])
def test_three_formats_hold_the_same_picture(layout):
    tokenizer = clippo.ClippoTokenizer(canvas_size=SIDE, pair_layout=layout, overflow="ignore")
    grey = draw(tokenizer, PAIRS)
    as_float = draw(tokenizer, PAIRS, canvas_format="float")
    np.testing.assert_array_equal(as_float, grey.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1))
    columns = draw(tokenizer, PAIRS, canvas_format="packed").view("<u2")  # (B, rows, W)
    bits = columns[:, :, None, :] >> np.arange(16, dtype=np.uint16)[:, None] & 1
    np.testing.assert_array_equal(bits.reshape(grey.shape) == 1, grey == 0)


def test_colours_and_a_partial_last_row_are_kept():
    tokenizer = clippo.ClippoTokenizer(
        canvas_size=[72, 64], pair_layout="rows", background=200, ink=10, overflow="ignore"
    )
    canvas = draw(tokenizer, [(WORDS * 5, WORDS * 5)])[0, 0]
    assert set(np.unique(canvas)) == {10, 200} and (canvas[64:] == 200).all() and (canvas[48:64] == 10).any()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(2, 30))
def test_rows_are_shared_out_fairly(first, second, available):
    ((a, b),) = share_rows(np.array([[first, second]]), available).tolist()
    assert a <= first and b <= second and a + b == min(first + second, available)
    half = available // 2
    assert a >= min(first, half) and b >= min(second, half)  # nobody loses a row of its half
    if first <= half:
        assert a == first  # the longer one is cut first
    if second <= half:
        assert b == second
    if first > available and second > available:
        assert a - b in (0, 1)


def test_who_is_cut_is_measured(rows, two):
    long, short = WORDS * 9, "b"
    (alone,) = rows.measure([long])
    (got,) = rows.measure([(long, short)])
    assert got.rows_used == ROWS and got.chars_total == len(long) + 1
    assert got.cut_of_pair == (got.chars_cut, 0) and got.chars_cut > alone.chars_cut > 0
    (turned,) = rows.measure(short, long)[:1]
    assert turned.cut_of_pair == (0, got.chars_cut)
    first, second = rows.measure([(long, long)])[0].cut_of_pair
    assert 0 < got.chars_cut < first < second  # 5 rows: three and two
    assert two.measure([(long, short)]) == [TextMeasure(ROWS + 1, len(long) + 1, alone.chars_cut, (alone.chars_cut, 0))]
    assert rows.measure("a cat")[0].cut_of_pair is None


def test_a_pair_of_five_thousand_characters(rows, two):
    for tokenizer in (rows, two):
        (report,) = tokenizer.measure([("word " * 1000, "снег " * 1000)])
        assert report.chars_total == 10_000 and sum(report.cut_of_pair) == report.chars_cut > 9000
        with pytest.raises(ValueError, match=r"1 of 1 pairs do not fit.* of the first text, \d+ of the second"):
            tokenizer("word " * 1000, "снег " * 1000, overflow="raise")


def test_boxes_follow_the_texts(rows, two):
    for pair in PAIRS:
        rendered = rows.render(*pair, boxes=True)
        (boxes,), (drawn,) = rendered.boxes, rendered.parts_drawn
        assert len(boxes) == drawn.sum() == rendered.chars_drawn[0]
        above = boxes[: drawn[0], 3].max(initial=0)
        assert is_rule(lines(rendered.canvases)[0][above // 16])
        assert (boxes[drawn[0] :, 1] >= above + 16).all()
        apart = two.render(*pair, boxes=True)
        assert (apart.boxes[0][apart.parts_drawn[0, 0] :, 1] >= SIDE).all()
        ink = np.zeros((SIDE, SIDE), bool)
        for x0, y0, x1, y1 in boxes:
            ink[y0:y1, x0:x1] = True
        ink[above : above + 16] = True
        assert (rendered.canvases[0, 0] != 127)[~ink].sum() == 0  # nothing stands outside the boxes and the rule


def test_shaped_pairs(shared):
    pytest.importorskip("uharfbuzz", reason="needs the extra `shaping`")
    tokenizer = clippo.ClippoTokenizer(canvas_size=SIDE, pair_layout="rows", shaping=True, overflow="ignore")
    rendered = tokenizer.render("سلام e\u0301", "مرحبا " * 60, boxes=True)
    assert rendered.parts_drawn[0, 0] == rendered.parts_total[0, 0] and rendered.parts_drawn[0, 1] > 0
    assert len(rendered.boxes[0]) == rendered.chars_drawn[0]
    above = tokenizer.measure("سلام e\u0301")[0].rows_used
    assert is_rule(lines(rendered.canvases)[0][above])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=80), st.text(max_size=80)), min_size=1, max_size=4))
def test_any_pair_renders_independently_of_its_batch(pairs):
    for layout in ("rows", "two_canvas"):
        tokenizer = clippo.ClippoTokenizer(canvas_size=64, pair_layout=layout, overflow="ignore")
        for pair, canvas in zip(pairs, draw(tokenizer, pairs), strict=True):
            np.testing.assert_array_equal(tokenizer(*pair)["text_pixel_values"], canvas)


@pytest.mark.parametrize("layout", ["concatenate", "rows", "two_canvas"])
def test_the_layout_is_saved(layout, tmp_path):
    clippo.ClippoTokenizer(canvas_size=SIDE, pair_layout=layout).save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert loaded.pair_layout == layout
    expected = clippo.ClippoTokenizer(canvas_size=SIDE, pair_layout=layout)
    np.testing.assert_array_equal(draw(loaded, PAIRS[:5]), draw(expected, PAIRS[:5]))


@pytest.mark.parametrize("canvas_format", ["uint8", "packed"])
def test_pairs_go_through_a_data_set_and_a_collator(rows, two, canvas_format):
    for tokenizer in (rows, two):
        data = datasets.Dataset.from_list([{"a": a, "b": b, "label": 0} for a, b in PAIRS])
        data = data.map(
            lambda row, draw=tokenizer: draw(row["a"], row["b"], canvas_format=canvas_format, truncation=True),
            batched=True, remove_columns=["a", "b"],
        )  # fmt: skip
        batch = DataCollatorWithPadding(tokenizer)([data[i] for i in range(len(data))])
        np.testing.assert_array_equal(batch["text_pixel_values"], draw(tokenizer, PAIRS, canvas_format=canvas_format))


def test_all_ways_to_pass_pairs_agree(rows):
    expected = draw(rows, PAIRS)
    np.testing.assert_array_equal(
        rows([list(pair) for pair in PAIRS], return_tensors="np")["text_pixel_values"], expected
    )
    split = [([*a.split()], [*b.split()]) for a, b in PAIRS[:2]]
    got = draw(rows, split, is_split_into_words=True)
    np.testing.assert_array_equal(got, expected[:2])


def test_bad_pairs_and_layouts_are_explained(rows):
    with pytest.raises(ValueError, match="pair_layout='columns' is not known; choose one of 'concatenate', 'rows'"):
        clippo.ClippoTokenizer(pair_layout="columns")
    with pytest.raises(ValueError, match="32 pixels high has no room for two texts"):
        clippo.ClippoTokenizer(canvas_size=[32, 64], pair_layout="rows")
    with pytest.raises(ValueError, match="Text 1 is not a pair, but others are"):
        rows([["a", "b"], "c"])
    with pytest.raises(TypeError, match="Text 0 is of type NoneType"):
        rows(["a"], [None])
    with pytest.raises(TypeError, match="Text 0 is of type float"):
        rows([["a", float("nan")]])
