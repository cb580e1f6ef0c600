"""The renderer: bit-exact with the official one, total on Python strings, the same alone and in a batch."""

import json
import pickle

import numpy as np
import pytest
from datasets.fingerprint import Hasher
from hypothesis import given, settings
from hypothesis import strategies as st

from clippo.processing import FontChain, TextRenderer

VARIANTS = {
    "defaults": {},
    "nolower": {"lowercase": False},
    "monospace": {"monospace": True},
    "spacing2": {"spacing": 2},
    "spacing0": {"spacing": 0},
    "minwidth8": {"min_width": 8},
    "minwidth1": {"min_width": 1},
    "bg255": {"background": 255},
    "bg0_text255": {"background": 0, "ink": 255},
    "maxchars20": {"max_chars": 20},
    "maxcharsNone": {"max_chars": None},
}
any_text = st.text(st.characters(exclude_categories=()), max_size=60)  # surrogates and controls included


@pytest.fixture(scope="module")
def official(shared):
    return FontChain.from_source([shared("fonts", "unifont-9.0.06.hex"), shared("fonts", "unifont_upper-9.0.06.hex")])


@pytest.fixture(scope="module")
def strings(shared):
    return {s["name"]: s["text"] for s in json.loads(shared("goldens", "render_strings.json").read_text())}


@pytest.fixture(scope="module")
def packaged():
    return FontChain.from_source(None)


def unpack(packed):
    """Packed int64 (B, rows, W / 4) to pixels uint8 (B, 1, H, W), written without the code under test."""
    columns = packed.view("<u2")  # (B, rows, W)
    bits = columns[:, :, None, :] >> np.arange(16)[:, None] & 1  # (B, rows, 16, W)
    height = 16 * columns.shape[1]
    return np.where(bits, 0, 127).astype(np.uint8).reshape(len(packed), 1, height, columns.shape[2])


@pytest.mark.parametrize("size", [224, 384, 64])
def test_all_official_goldens(size, official, strings, shared):
    golden = np.load(shared("goldens", f"render_{size}.npz"))
    assert golden["names"].tolist() == list(strings)
    rendered = TextRenderer(official, canvas_size=size)(list(strings.values()))
    same = (rendered.canvases[:, 0] == golden["images"]).all(axis=(1, 2))
    assert [name for name, equal in zip(strings, same, strict=True) if not equal] == []
    assert len(same) == 147


def test_goldens_that_do_not_depend_on_the_font_version(strings, shared):
    listed = json.loads(shared("goldens", "render_224_debian15_compat.json").read_text())
    names = listed["identical_with_debian_15.0.01"]
    golden = dict(zip(strings, np.load(shared("goldens", "render_224.npz"))["images"], strict=True))
    rendered = TextRenderer()([strings[name] for name in names])
    wrong = [name for name, ours in zip(names, rendered.canvases[:, 0], strict=True) if (ours != golden[name]).any()]
    assert not wrong and len(names) == 102


@pytest.mark.parametrize("variant", VARIANTS)
def test_official_option_variants(variant, official, shared):
    texts = json.loads(shared("goldens", "render_variants.json").read_text())["texts"]
    golden = np.load(shared("goldens", "render_variants_224.npz"))[variant]
    np.testing.assert_array_equal(TextRenderer(official, **VARIANTS[variant])(texts).canvases[:, 0], golden)


def test_malformed_utf8_bytes(official, shared):
    golden = np.load(shared("goldens", "render_invalid_utf8_224.npz"))
    rendered = TextRenderer(official)([bytes.fromhex(h) for h in golden["hex"].tolist()])
    np.testing.assert_array_equal(rendered.canvases[:, 0], golden["images"])


def test_packaged_font_draws_these_pixels_on_every_machine(packaged):
    """Needs no reference data: a caption, row by row."""
    canvas = TextRenderer(packaged)(["A cat"]).canvases[0, 0]
    assert ["".join(".#"[int(pixel == 0)] for pixel in row[:32]) for row in canvas[4:15]] == [
        "............................#...",
        "............................#...",
        "..####.......####...####....#...",
        ".#....#.....#....#.#....#.#####.",
        "......#.....#...........#...#...",
        "..#####.....#.......#####...#...",
        ".#....#.....#......#....#...#...",
        ".#....#.....#......#....#...#...",
        ".#...##.....#....#.#...##...#...",
        "..###.#......####...###.#....##.",
        "................................",
    ]
    assert (canvas[16:] == 127).all()


def test_formats_agree():
    texts = ["a photo of a dog", "", "汉字 и кириллица 😀", "x" * 900]
    renderer = TextRenderer()
    pixels, floats, packed = (renderer(texts, f).canvases for f in ("uint8", "float", "packed"))
    assert (pixels.dtype, floats.dtype, packed.dtype) == (np.uint8, np.float32, np.int64)
    assert (pixels.shape, floats.shape, packed.shape) == ((4, 1, 224, 224), (4, 1, 224, 224), (4, 14, 56))
    np.testing.assert_array_equal(unpack(packed), pixels)
    np.testing.assert_array_equal(floats, pixels.astype(np.float32) / np.float32(255) * 2 - 1)
    assert set(np.unique(pixels)) == {0, 127} and floats.min() == -1


@given(st.lists(any_text, max_size=4))
@settings(max_examples=60, deadline=None)
def test_any_strings_render_alone_as_in_a_batch(texts):
    renderer = TextRenderer(canvas_size=(48, 64), max_chars=40)
    batch = renderer(texts, boxes=True)
    packed = renderer(texts, "packed")
    np.testing.assert_array_equal(unpack(packed.canvases), batch.canvases)
    assert batch.chars_total.tolist() == [len(text) for text in texts]
    assert (batch.chars_drawn <= batch.chars_total).all() and (batch.chars_drawn <= 40).all()
    for i, text in enumerate(texts):
        alone = renderer([text], boxes=True)
        np.testing.assert_array_equal(alone.canvases[0], batch.canvases[i])
        np.testing.assert_array_equal(alone.boxes[0], batch.boxes[i])
        assert alone.rows_used[0] == batch.rows_used[i] <= 3
        boxes, canvas = batch.boxes[i], batch.canvases[i, 0]
        assert len(boxes) == batch.chars_drawn[i]
        assert (batch.rows_used[i] == 0) == (text == "")
        if len(boxes):
            assert boxes[-1, 3] == batch.rows_used[i] * 16
            assert boxes.min() >= 0 and boxes[:, 2].max() <= 64 and boxes[:, 3].max() <= 48
            inside = np.zeros_like(canvas, bool)
            for x0, y0, x1, y1 in boxes:
                assert not inside[y0:y1, x0:x1].any(), "boxes do not overlap"
                inside[y0:y1, x0:x1] = True
            assert (canvas[~inside] == 127).all(), "all ink is in some box"
        else:
            assert (canvas == 127).all()


def test_boxes_follow_the_characters():
    rendered = TextRenderer()(["aw.", "i"], boxes=True)
    assert rendered.boxes[0].tolist() == [[0, 0, 7, 16], [7, 0, 15, 16], [15, 0, 19, 16]]
    assert rendered.boxes[1].tolist() == [[0, 0, 6, 16]]


def test_overflow_is_reported_by_limit_and_by_canvas():
    long = "w" * 1000
    rendered = TextRenderer(canvas_size=224)([long, "fits", long[:377]])
    assert rendered.chars_total.tolist() == [1000, 4, 377]
    assert rendered.chars_drawn.tolist() == [377, 4, 377], "377 w fill the official canvas"
    assert rendered.rows_used.tolist() == [14, 1, 14]
    assert TextRenderer(max_chars=3)([long]).chars_drawn.tolist() == [3]
    assert TextRenderer(max_chars=None)(["i" * 600]).chars_drawn.tolist() == [508]


def test_row_breaks_depend_on_the_widest_glyph_anywhere():
    narrow, wide = TextRenderer()(["i" * 100, "i" * 100 + "汉"], boxes=True).boxes
    assert np.flatnonzero(np.diff(narrow[:, 1]))[0] > np.flatnonzero(np.diff(wide[:, 1]))[0]


def test_only_ascii_is_lowered():
    renderer = TextRenderer()
    same = renderer(["ABC xyz", "abc xyz"]).canvases
    np.testing.assert_array_equal(same[0], same[1])
    for upper, lower in (("Ä", "ä"), ("Ж", "ж"), ("Ω", "ω"), ("\u212a", "k")):  # the last is the Kelvin sign
        drawn = renderer([upper, lower]).canvases
        assert (drawn[0] != drawn[1]).any()


def test_blank_characters_take_four_pixels():
    for char in ("\ue000", "\uffff", "\U000e1000", "\u3000", "\u00a0", " "):
        rendered = TextRenderer()([char + "a"], boxes=True)
        assert rendered.boxes[0].tolist() == [[0, 0, 4, 16], [4, 0, 11, 16]], ascii(char)


@pytest.mark.parametrize("shaping", [False, True])
def test_lone_surrogates_are_drawn_as_malformed_bytes_are(shaping):
    if shaping:
        pytest.importorskip("uharfbuzz")
    renderer = TextRenderer(shaping=shaping)
    expected = renderer(["a\ufffdb", "a\ufffd\ufffd"])
    for texts in (["a\ud800b", "a\ud83d\ude00"], [b"a\xffb", b"a\xff\xff"]):
        rendered = renderer(texts)
        np.testing.assert_array_equal(rendered.canvases, expected.canvases)
        np.testing.assert_array_equal(rendered.chars_drawn, expected.chars_drawn)
    assert (renderer(["\ud800"]).canvases == 0).any()


def test_canvases_of_any_shape():
    wide = TextRenderer(canvas_size=(32, 448))(["wide canvas " * 20]).canvases
    assert wide.shape == (1, 1, 32, 448)
    tall, partial = TextRenderer(canvas_size=(48, 100)), TextRenderer(canvas_size=(40, 100))
    text = ["a partial last row shows the upper half of its letters"]
    np.testing.assert_array_equal(tall(text).canvases[:, :, :40], partial(text).canvases)
    assert partial(text, boxes=True).boxes[0][:, 3].max() == 40
    assert partial(text).chars_drawn == tall(text).chars_drawn
    np.testing.assert_array_equal(partial(text, "float").canvases, tall(text, "float").canvases[:, :, :40])


def test_empty_batch_and_inputs_other_than_lists():
    assert TextRenderer()([], boxes=True).canvases.shape == (0, 1, 224, 224)
    assert TextRenderer()([], "packed").canvases.shape == (0, 14, 56)
    one = TextRenderer()(["été"]).canvases
    for texts in ("été", "été".encode(), ("été",), iter(["été"]), np.array(["été"])):
        np.testing.assert_array_equal(TextRenderer()(texts).canvases, one)


def test_antialiased_grey(packaged):
    matplotlib = pytest.importorskip("matplotlib.font_manager", reason="its DejaVu Sans is the test's outline font")
    font = FontChain.from_source([matplotlib.findfont("DejaVu Sans"), "unifont"])
    renderer = TextRenderer(font, antialias_font=True)
    canvas = renderer(["Grey edges, 汉"]).canvases
    assert len(np.unique(canvas)) > 10 and canvas.min() == 0 and canvas.max() == 127
    np.testing.assert_array_equal(
        renderer(["Grey edges, 汉"], "float").canvases, canvas.astype(np.float32) / np.float32(255) * 2 - 1
    )
    with pytest.raises(ValueError, match="antialiased glyphs have grey values"):
        renderer(["x"], "packed")
    # A bitmap font has no edges to soften: grey drawing is the same drawing.
    text = ["汉字 and letters " * 9]
    np.testing.assert_array_equal(
        TextRenderer(packaged, antialias_font=True)(text).canvases, TextRenderer(packaged)(text).canvases
    )


def test_font_advances(packaged):
    boxes = TextRenderer(packaged, advances="font")(["iw汉"], boxes=True).boxes[0]
    assert (boxes[:, 2] - boxes[:, 0]).tolist() == [8, 8, 16]


def test_renderer_pickles_and_calls_leave_it_unchanged():
    renderer = TextRenderer(canvas_size=(32, 64))
    before = pickle.dumps(renderer), Hasher.hash(renderer)
    canvas = renderer(["state 状態"]).canvases
    assert (pickle.dumps(renderer), Hasher.hash(renderer)) == before
    np.testing.assert_array_equal(pickle.loads(before[0])(["state 状態"]).canvases, canvas)
    assert Hasher.hash(TextRenderer(canvas_size=(32, 64))) == before[1]
    assert Hasher.hash(TextRenderer(canvas_size=(32, 64), spacing=2)) != before[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canvas_size": 8}, r"canvas_size 8 x 8 is too small"),
        ({"canvas_size": (224, 16)}, r"canvas_size 224 x 16 is too small"),
        ({"max_chars": 0}, r"max_chars is 0; give a positive number, or None"),
        ({"min_width": 0}, r"min_width 0 in 1\.\.16"),
        ({"spacing": -1}, r"spacing -1 must be in 0\.\.16"),
        ({"background": 300}, r"background 300"),
        ({"advances": "wide"}, r"advances='wide' is not known; choose one of 'ink', 'font'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        TextRenderer(**options)


def test_bad_calls_name_the_value():
    renderer = TextRenderer()
    with pytest.raises(TypeError, match=r"Text 1 is of type float \(nan\)"):
        renderer(["ok", float("nan")])
    with pytest.raises(TypeError, match=r"Text 0 is of type NoneType"):
        renderer([None])
    with pytest.raises(ValueError, match=r"canvas_format='png' is not known; choose one of 'uint8', 'float', 'packed'"):
        renderer(["x"], "png")
    with pytest.raises(ValueError, match=r"ink 0 on background 127, not 255 on 0"):
        TextRenderer(background=0, ink=255)(["x"], "packed")
    with pytest.raises(ValueError, match=r"height divisible by 16 .* not 40 x 64"):
        TextRenderer(canvas_size=(40, 64))(["x"], "packed")
    with pytest.raises(TypeError, match=r"texts is of type int \(3\); give a list of strings"):
        renderer(3)
