"""Questions on the canvas of their image: exact text rows, exact images, and every odd input."""

import logging

import numpy as np
import pytest
import torch
from PIL import Image

from clippo.processing import ClippoProcessor, canvas_clippo
from clippo.processing.layout_question_clippo import QuestionLayout

QUESTIONS = ["what?", "is there a red chair on the left side of the table?", ""]
DRAW = np.random.default_rng(0)
PICTURES = [
    Image.fromarray(DRAW.integers(0, 256, (h, w, 3), dtype=np.uint8)) for h, w in ((40, 90), (70, 30), (64, 64))
]
HEIGHT, WIDTH = 128, 96


@pytest.fixture(scope="module")
def processor():
    return ClippoProcessor.from_size([HEIGHT, WIDTH])


def header(processor, questions, canvas_format="float"):
    """The text renderer's own canvases and rows."""
    drawn = processor.tokenizer.render(questions, canvas_format=canvas_format)
    return drawn.canvases, drawn.rows_used


def picture(processor, image, height, width):
    return processor.image_processor(image, size=[int(height), int(width)], return_tensors="np")["pixel_values"][0]


@pytest.mark.parametrize("place", ["top", "bottom"])
def test_text_and_picture_are_those_of_the_two_parts_bit_for_bit(processor, place):
    got = processor(images=PICTURES, questions=QUESTIONS, question_layout=place, return_tensors="np")["pixel_values"]
    assert got.shape == (3, 3, HEIGHT, WIDTH) and got.dtype == np.float32
    text, rows = header(processor, QUESTIONS)
    assert rows.tolist() == [1, 4, 0]
    for canvas, lines, count, image in zip(got, text, rows * 16, PICTURES, strict=True):
        parts = (canvas[:, :count], canvas[:, count:])
        if place == "bottom":
            parts = (canvas[:, HEIGHT - count :], canvas[:, : HEIGHT - count])
        np.testing.assert_array_equal(parts[0], lines[:, :count].repeat(3, 0))
        np.testing.assert_array_equal(parts[1], picture(processor, image, HEIGHT - count, WIDTH))
    assert set(np.unique(text)) == {np.float32(-1), np.float32(127) / 255 * 2 - 1}


def test_side_gives_the_text_its_own_column(processor):
    got = processor(images=PICTURES, questions=QUESTIONS, question_layout="side", return_tensors="np")["pixel_values"]
    column = ClippoProcessor.from_size([HEIGHT, 48]).tokenizer.render(QUESTIONS, canvas_format="float").canvases
    np.testing.assert_array_equal(got[..., :48], column.repeat(3, 1))
    for canvas, image in zip(got, PICTURES, strict=True):
        np.testing.assert_array_equal(canvas[..., 48:], picture(processor, image, HEIGHT, 48))


def test_overlay_covers_only_what_the_text_stands_on(processor):
    got = processor(images=PICTURES, questions=QUESTIONS, question_layout="overlay", return_tensors="np")[
        "pixel_values"
    ]
    text, _ = header(processor, QUESTIONS)
    for canvas, lines, image in zip(got, text, PICTURES, strict=True):
        whole = picture(processor, image, HEIGHT, WIDTH)
        ink = np.broadcast_to(lines == -1, canvas.shape)
        assert (canvas[ink] == -1).all()
        covered = (canvas != whole).any(0)
        assert not covered[:, np.flatnonzero(ink.any((0, 1))).max(initial=-1) + 1 :].any()
        assert (canvas[:, 64:] == whole[:, 64:]).all()
    np.testing.assert_array_equal(got[2], picture(processor, PICTURES[2], HEIGHT, WIDTH))  # nothing asked


def test_fixed_rows_give_every_picture_the_same_place(processor):
    layout = {"min_rows": 4, "max_rows": 4}
    got = processor(images=PICTURES[0], questions=QUESTIONS, question_layout=layout, return_tensors="np")[
        "pixel_values"
    ]
    expected = picture(processor, PICTURES[0], 64, WIDTH)
    assert all((canvas[:, 64:] == expected).all() for canvas in got)
    assert len(np.unique(got[2, :, :64])) == 1  # the empty question leaves background


def test_fit_keeps_the_proportions_on_text_background(processor):
    layout = {"picture": "fit", "min_rows": 4, "max_rows": 4}
    got = processor(images=PICTURES[:2], questions="what?", question_layout=layout, return_tensors="np")["pixel_values"]
    background = np.float32(127) / 255 * 2 - 1
    wide = got[0, :, 64:]  # 40 x 90 into 64 x 96: 43 x 96, centred
    np.testing.assert_array_equal(wide[:, 10:53], picture(processor, PICTURES[0], 43, 96))
    assert (wide[:, :10] == background).all() and (wide[:, 53:] == background).all()
    tall = got[1, :, 64:]  # 70 x 30 into 64 x 96: 64 x 27
    np.testing.assert_array_equal(tall[:, :, 34:61], picture(processor, PICTURES[1], 64, 27))
    assert (tall[:, :, :34] == background).all() and (tall[:, :, 61:] == background).all()


def test_uint8_canvases_mean_the_same_to_the_model(processor):
    from clippo.modeling_clippo.pixels_clippo import as_pixels

    inputs = dict(images=PICTURES, questions=QUESTIONS, return_tensors="pt")
    small, full = processor(**inputs, canvas_format="uint8"), processor(**inputs)
    assert small["pixel_values"].dtype == torch.uint8
    assert torch.equal(as_pixels(small["pixel_values"], 3), full["pixel_values"])


def test_a_batch_is_its_canvases_one_by_one(processor):
    for layout in ("top", "bottom", "side", "overlay", {"picture": "fit"}):
        batch = processor(images=PICTURES, questions=QUESTIONS, question_layout=layout)["pixel_values"]
        for canvas, image, question in zip(batch, PICTURES, QUESTIONS, strict=True):
            alone = processor(images=image, questions=question, question_layout=layout)["pixel_values"]
            assert len(alone) == 1 and (alone[0] == canvas).all()


def test_several_questions_for_one_picture(processor, monkeypatch):
    seen = []
    resize = type(processor.image_processor).resize
    monkeypatch.setattr(
        type(processor.image_processor), "resize", lambda self, *args, **k: seen.append(1) or resize(self, *args, **k)
    )
    fixed = {"min_rows": 4, "max_rows": 4}
    several = processor(images=PICTURES[0], questions=QUESTIONS, question_layout=fixed)["pixel_values"]
    assert len(seen) == 1  # resized once for three questions
    nested = processor(images=PICTURES[:2], questions=[QUESTIONS[:2], QUESTIONS[2:]], question_layout=fixed)[
        "pixel_values"
    ]
    assert (nested[0] == several[0]).all() and (nested[1] == several[1]).all()
    other = processor(images=PICTURES[1], questions="", question_layout=fixed)["pixel_values"]
    assert (nested[2] == other[0]).all()


def test_a_question_that_fills_the_canvas(processor, caplog):
    long = "why " * 100
    with pytest.raises(
        ValueError, match=r"1 of 2 questions do not fit: the area of 4 rows of 96 pixels cuts \d+ of the 400 characters"
    ):
        processor(images=PICTURES[0], questions=["what?", long], overflow="raise")
    canvas_clippo._WARNED.clear()
    with caplog.at_level(logging.WARNING):
        cut = processor(images=PICTURES[0], questions=long, return_tensors="np")["pixel_values"]
        processor(images=PICTURES[0], questions=long)
    assert len([r for r in caplog.records if "do not fit" in r.getMessage()]) == 1
    text, _ = header(processor, [long])
    np.testing.assert_array_equal(cut[0, :, :64], text[0, :, :64].repeat(3, 0))
    np.testing.assert_array_equal(cut[0, :, 64:], picture(processor, PICTURES[0], 64, WIDTH))
    more = processor(
        images=PICTURES[0], questions=long, question_layout={"max_rows": 7}, overflow="ignore", return_tensors="np"
    )
    np.testing.assert_array_equal(more["pixel_values"][0, :, :112], text[0, :, :112].repeat(3, 0))


@pytest.mark.parametrize(
    "odd",
    [
        Image.fromarray(DRAW.integers(0, 256, (20, 30, 4), dtype=np.uint8), "RGBA"),
        PICTURES[0].convert("L"),
        PICTURES[0].convert("P"),
        Image.new("RGB", (1, 1), (9, 99, 200)),
        Image.new("RGB", (3000, 2000), (1, 2, 3)),
        DRAW.integers(0, 256, (5, 7, 3), dtype=np.uint8),
    ],
    ids=["rgba", "grey", "palette", "one pixel", "huge", "array"],
)
@pytest.mark.parametrize("fit", ["squash", "fit"])
def test_pictures_of_every_kind(processor, odd, fit):
    got = processor(images=odd, questions="what?", question_layout={"picture": fit}, return_tensors="np")[
        "pixel_values"
    ][0]
    assert got.shape == (3, HEIGHT, WIDTH) and np.isfinite(got).all()
    if fit == "squash":
        np.testing.assert_array_equal(got[:, 16:], picture(processor, odd, HEIGHT - 16, WIDTH))


def test_the_layout_is_saved_with_the_processor(tmp_path):
    made = ClippoProcessor.from_size(64)
    made = ClippoProcessor(made.image_processor, made.tokenizer, {"place": "bottom", "max_rows": 3})
    made.save_pretrained(tmp_path)
    loaded = ClippoProcessor.from_pretrained(tmp_path)
    assert loaded.question_layout == made.question_layout
    inputs = dict(images=PICTURES[0], questions=QUESTIONS[1], overflow="ignore", return_tensors="np")
    got = loaded(**inputs)["pixel_values"]
    plain = ClippoProcessor.from_size(64)(**inputs)["pixel_values"]
    assert (got == made(**inputs)["pixel_values"]).all() and (got != plain).any()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (dict(questions="what?"), "questions but no images"),
        (dict(images=PICTURES[0], text="a", questions="what?"), "do not go together"),
        (dict(images=PICTURES[0], questions="what?", size=64), "size cannot be chosen with questions"),
        (
            dict(images=PICTURES[0], questions="what?", images_kwargs={"size": 32}),
            "size cannot be chosen with questions",
        ),
        (dict(images=[PICTURES[:2]], questions=["what?"]), r"images\[0\] holds 2 images; a question is about one"),
        (dict(images=PICTURES[0], questions="what?", canvas_format="packed"), "'packed' cannot hold an image"),
        (dict(images=PICTURES, questions=["a", "b"]), "3 images and 2 questions"),
        (dict(images=PICTURES, questions=[["a"], ["b"]]), "3 images and 2 lists of questions"),
        (dict(images=PICTURES, questions=[]), "3 images and 0 questions"),
        (dict(images=PICTURES[0], questions="what?", question_layout="left"), "place='left' is not known"),
        (dict(images=PICTURES[0], questions="what?", question_layout={"rows": 2}), "no field 'rows'"),
        (dict(images=PICTURES[0], questions="what?", question_layout={"picture": "crop"}), "picture='crop'"),
        (dict(images=PICTURES[0], questions="what?", question_layout={"max_rows": 8}), "together with an image"),
        (dict(images=PICTURES[0], questions="a", question_layout={"min_rows": 3, "max_rows": 2}), "do not go together"),
        (dict(images=PICTURES[0], questions="a", question_layout={"place": "side", "column": 96}), "column of 96"),
    ],
)
def test_what_cannot_be_drawn_is_said(processor, inputs, message):
    with pytest.raises(ValueError, match=message):
        processor(**inputs)


def test_a_question_is_a_string(processor):
    with pytest.raises(TypeError, match="Question 1 is of type int"):
        processor(images=PICTURES[0], questions=["a", 7])


def test_places_and_fields_are_checked_once():
    assert QuestionLayout.from_options("side").place == "side"
    base = QuestionLayout("bottom", max_rows=3)
    assert QuestionLayout.from_options({"min_rows": 2}, base) == QuestionLayout("bottom", min_rows=2, max_rows=3)
    assert QuestionLayout.from_options(None, base) is base


def test_two_canvases_are_those_of_the_two_parts_bit_for_bit(processor):
    options = dict(question_layout="two_canvas", return_tensors="np")
    for canvas_format in ("uint8", "float", "packed"):
        got = processor(images=PICTURES, questions=QUESTIONS, canvas_format=canvas_format, **options)
        assert set(got) == {"pixel_values", "text_pixel_values"}
        text = processor.tokenizer.render(QUESTIONS, canvas_format=canvas_format).canvases
        np.testing.assert_array_equal(got["text_pixel_values"], text)
        values = got["pixel_values"] / np.float32(255) * 2 - 1 if canvas_format == "uint8" else got["pixel_values"]
        expected = processor.image_processor(PICTURES, return_tensors="np")["pixel_values"]
        np.testing.assert_allclose(values, expected, atol=1e-6)
        assert got["pixel_values"].dtype == (np.uint8 if canvas_format == "uint8" else np.float32)
    cropped = processor(images=PICTURES, questions=QUESTIONS, do_center_crop=True, crop_size=[HEIGHT, WIDTH], **options)
    assert cropped["pixel_values"].shape == (3, 3, HEIGHT, WIDTH)  # an image alone may be cropped
    floats = np.zeros((3, 20, 20), np.float32)
    with pytest.raises(ValueError, match="needs images of whole numbers"):
        processor(images=floats, questions="what?", canvas_format="uint8", **options)


def test_an_image_stands_once_for_all_its_questions(processor):
    options = dict(question_layout="two_canvas", return_tensors="np")
    got = processor(images=PICTURES[:2], questions=[["a?"], ["b?", "c?"]], **options)
    assert len(got["pixel_values"]) == 2 and len(got["text_pixel_values"]) == 3
    assert got["image_index"].tolist() == [0, 1, 1]
    same = processor(images=[PICTURES[0], PICTURES[1], PICTURES[1]], questions=["a?", "b?", "c?"], **options)
    assert all(np.array_equal(same[name], got[name]) for name in got)
    assert processor(images=PICTURES[0], questions=["a?", "b?"], **options)["image_index"].tolist() == [0, 0]
