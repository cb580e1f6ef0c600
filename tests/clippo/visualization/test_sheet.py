"""The sheet shows the inputs pixel by pixel and the scores as colours; shapes that do not match are errors."""

import numpy as np
import pytest

from clippo.visualization.sheet import GAP, PATCH_GAP, RIGHT, color_of, draw_sheet, percent, softmax, tile

SIZE, PATCH = 80, 16


@pytest.fixture
def canvases():
    """Three images of noise, and two texts with one inked patch each."""
    images = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    texts = np.full((2, SIZE, SIZE, 1), 127, dtype=np.uint8)
    texts[:, 3, 20] = 0
    return images, texts


def untile(image, zoom):
    """Inverse of `tile`: the canvas of a tiled image."""
    pixels = np.asarray(image)
    step = PATCH * zoom + PATCH_GAP
    keep = np.concatenate([np.arange(start, start + PATCH * zoom, zoom) for start in range(0, pixels.shape[0], step)])
    return pixels[np.ix_(keep, keep)]


@pytest.mark.parametrize("zoom", [1, 2, 3])
def test_a_tiled_picture_keeps_every_pixel(canvases, zoom):
    np.testing.assert_array_equal(untile(tile(canvases[0][0], PATCH, zoom), zoom), canvases[0][0])


def test_only_patches_without_ink_are_dimmed(canvases):
    text = canvases[1][0]
    shown = untile(tile(text, PATCH, 2, blank=127), 2)
    inked = np.zeros((SIZE, SIZE), dtype=bool)
    inked[:16, 16:32] = True
    np.testing.assert_array_equal(shown[inked], np.broadcast_to(text, (SIZE, SIZE, 3))[inked])
    assert (shown[~inked] > 200).all()
    np.testing.assert_array_equal(untile(tile(text, PATCH, 2), 2), np.broadcast_to(text, (SIZE, SIZE, 3)))


def find(sheet, part):
    """Top left corner (x, y) of the image `part` in the image `sheet`, or None."""
    large, small = np.asarray(sheet).astype(np.int32), np.asarray(part).astype(np.int32)
    key = 256 * 256 * large[..., 0] + 256 * large[..., 1] + large[..., 2]
    want = 256 * 256 * small[..., 0] + 256 * small[..., 1] + small[..., 2]
    for y, x in np.argwhere(key == want[0, 0]):
        if np.array_equal(key[y : y + want.shape[0], x : x + want.shape[1]], want):
            return int(x), int(y)
    return None


def test_inputs_stand_on_the_sheet_in_order_and_fields_have_their_colours(canvases):
    images, texts = canvases
    texts[1, 40, 40] = 0  # so that the two differ
    cosines = np.array([[0.9, 0.1, -0.2], [0.1, 0.9, -0.2]])
    sheet = draw_sheet(images, texts, cosines, 10.0, "A title", right={(0, 0)}, blank=127)
    columns = [find(sheet, tile(image, PATCH, 2)) for image in images]
    rows = [find(sheet, tile(text, PATCH, 2, blank=127)) for text in texts]
    assert None not in columns + rows
    assert [x for x, _ in columns] == sorted(x for x, _ in columns) and len({y for _, y in columns}) == 1
    assert rows[0][1] < rows[1][1] and rows[0][0] == rows[1][0]

    probabilities = softmax(10.0 * cosines)
    for row, (_, y) in enumerate(rows):
        for column, (x, _) in enumerate(columns):
            assert sheet.getpixel((x + 20, y + 20)) == color_of(probabilities[row, column])
    frame = tuple(int(RIGHT[i : i + 2], 16) for i in (1, 3, 5))
    (x, y), (other_x, other_y) = (columns[0][0], rows[0][1]), (columns[1][0], rows[1][1])
    assert sheet.getpixel((x + 60, y - 3)) == frame
    assert sheet.getpixel((other_x + 60, other_y - 3)) != frame
    assert columns[1][0] - columns[0][0] == tile(images[0], PATCH, 2).width + GAP


def test_notes_make_room_for_themselves(canvases):
    plain = draw_sheet(*canvases, np.zeros((2, 3)), 1.0, "t")
    noted = draw_sheet(*canvases, np.zeros((2, 3)), 1.0, "t", notes=[("German", "held out"), ("Thai", "trained")])
    assert noted.width > plain.width and noted.height == plain.height


def test_the_same_input_gives_the_same_sheet(canvases):
    sheets = [draw_sheet(*canvases, np.eye(2, 3), 5.0, "t") for _ in range(2)]
    assert sheets[0].tobytes() == sheets[1].tobytes()


def test_columns_of_the_softmax_sum_to_one_even_for_large_logits():
    probabilities = softmax(np.array([[1000.0, -3.0], [999.0, -3.0]]))
    np.testing.assert_allclose(probabilities, [[1 / (1 + np.exp(-1)), 0.5], [1 / (1 + np.exp(1)), 0.5]])


def test_darker_means_more_probable():
    lightness = [sum(color_of(p)) for p in np.linspace(0, 1, 50)]
    assert lightness == sorted(lightness, reverse=True) and lightness[0] > lightness[-1]
    assert color_of(-1) == color_of(0) and color_of(2) == color_of(1)


@pytest.mark.parametrize(
    ("probability", "text"),
    [(0, "0%"), (0.001, "<1%"), (0.0051, "1%"), (0.5, "50%"), (0.994, "99%"), (0.996, ">99%"), (1, "100%")],
)
def test_percent_never_rounds_to_certainty(probability, text):
    assert percent(probability) == text


def test_shapes_that_do_not_go_together(canvases):
    images, texts = canvases
    with pytest.raises(ValueError, match=r"3 images and 2 texts need .* got an array of shape \(3, 2\)"):
        draw_sheet(images, texts, np.zeros((3, 2)), 1.0, "t")
    with pytest.raises(ValueError, match="at least one each"):
        draw_sheet(images[:0], texts, np.zeros((2, 0)), 1.0, "t")
    with pytest.raises(ValueError, match="not of one canvas size"):
        draw_sheet(images, texts[:, :64], np.zeros((2, 3)), 1.0, "t")
    with pytest.raises(ValueError, match="2 texts need as many notes, got 1"):
        draw_sheet(images, texts, np.zeros((2, 3)), 1.0, "t", notes=[("a", "b")])
