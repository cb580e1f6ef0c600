"""Hostile drawings: each is refused with a reason, none ends the build."""

import json
import time

import numpy as np
import pytest

from clippo.pictograms.drawing import decode, draw, encode, is_mask
from clippo.pictograms.duplicates import digest, near_pairs, shape
from clippo.pictograms.iconify import MAX_BYTES, Icon, read_set

pytest.importorskip("resvg")


@pytest.mark.parametrize(
    "body",
    ["<path", "<circle r='6'", "</svg><svg>", "&undefined;", "\x00", '<path d="M0 0h16"/></g>'],
)
def test_a_broken_drawing_has_a_reason(body):
    assert draw(Icon("x", body), side=24) == (None, "broken SVG")


@pytest.mark.parametrize(
    "body",
    ['<path d="nonsense"/>', '<image href="file:///etc/passwd" width="16" height="16"/>', "<text>abc</text>", "<g/>"],
)
def test_a_drawing_without_ink_has_a_reason(body):
    assert draw(Icon("x", body), side=24) == (None, "blank drawing")


@pytest.mark.parametrize("view_box", ["0 0 0 0", "0 0 -1 5", "a b c d", "0 0 1e30 1e-30"])
def test_a_strange_view_box_is_never_fatal(view_box):
    pixels, reason = draw(Icon("x", '<circle cx="8" cy="8" r="6"/>', view_box), side=24)
    assert (pixels is None) == (reason is not None)


@pytest.mark.parametrize(("opening", "closing"), [("<g>", "</g>"), ('<g id="x">', "</g >"), ("<a><g>", "</g></a>")])
def test_elements_nested_ten_thousand_deep_are_refused(opening, closing):
    """The renderer itself would end the process."""
    body = opening * 10_000 + '<path d="M0 0h16v16z"/>' + closing * 10_000
    assert draw(Icon("x", body), side=24) == (None, "elements nested more than 100 deep")
    assert draw(Icon("x", '<path d="M0 0h16v16z"/>' * 1000), side=24)[1] is None, "many elements are not deep"


def test_a_drawing_of_many_paths_is_left_out_before_it_is_drawn(tmp_path):
    paths = '<path d="M0 0h1v1z"/>' * 100_000
    assert len(paths) > MAX_BYTES
    file = tmp_path / "huge.json"
    file.write_text(json.dumps({"icons": {"huge": {"body": paths}}}), encoding="utf-8")
    begun = time.monotonic()
    content = read_set(file)
    assert content.icons == [] and content.left_out == {"drawing of more than 500,000 bytes": ["huge"]}
    assert time.monotonic() - begun < 5


def test_encoding_is_lossless():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 20, 4), np.uint8)
    assert np.array_equal(decode(encode(pixels)), pixels)


def test_a_mask_is_a_picture_of_one_colour():
    black, _ = draw(Icon("x", '<circle cx="8" cy="8" r="6" fill="currentColor"/>'), side=24)
    red, _ = draw(Icon("x", '<circle cx="8" cy="8" r="6" fill="red"/>'), side=24)
    assert is_mask(black) and not is_mask(red)


def test_wide_drawings_keep_their_proportions():
    pixels, _ = draw(Icon("x", '<path d="M0 0h32v16H0z"/>', "0 0 32 16"), side=32)
    assert pixels[..., 3].any(axis=1).sum() == 16 and pixels[..., 3].any(axis=0).sum() == 32


def test_shapes_find_the_same_drawing_in_another_size_and_no_other():
    small, large, other = (
        draw(Icon("x", body), side=96)[0]
        for body in (
            '<path d="M5 5h6v6H8z"/>',
            '<path d="M1 1h14v14H8z"/>',
            '<path fill="none" stroke="#000" d="M2 8h12M8 2v12"/>',
        )
    )
    shapes = np.stack([np.frombuffer(shape(one), np.uint8) for one in (small, large, other)])
    assert near_pairs(shapes[:1], shapes[1:]).tolist() == [0]
    assert near_pairs(shapes[2:], shapes[:2]).tolist() == [-1]
    assert near_pairs(shapes, shapes[:0]).tolist() == [-1, -1, -1]
    assert digest(small) != digest(large)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"icons": 3}', "null"])
def test_a_file_without_icons_is_refused(tmp_path, content):
    file = tmp_path / "set.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"set\.json does not hold an Iconify set"):
        read_set(file)


def test_aliases_in_a_circle_are_left_alone(tmp_path):
    file = tmp_path / "set.json"
    file.write_text('{"icons": {"a": {"body": "<g/>"}}, "aliases": {"b": {"parent": "c"}, "c": {"parent": "b"}}}')
    assert [icon.aliases for icon in read_set(file).icons] == [()]
