"""ClippoProcessor: photos and strings in, the two inputs of the model out."""

import logging
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor, AutoTokenizer, BatchFeature
from transformers import processing_utils as transformers_processing_utils

from clippo.processing import ClippoImageProcessor, ClippoProcessor, ClippoTokenizer

PHOTO = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
TEXTS = ["a photo of a dog", "eine Katze", "犬"]


@pytest.fixture(scope="module")
def processor():
    return ClippoProcessor.from_size(64)


def test_both_modalities_are_those_of_the_parts(processor):
    inputs = processor(images=[PHOTO, Image.fromarray(PHOTO)], text=TEXTS, return_tensors="pt")
    assert isinstance(inputs, BatchFeature) and set(inputs) == {"pixel_values", "text_pixel_values"}
    assert inputs["pixel_values"].shape == (2, 3, 64, 64) and inputs["pixel_values"].dtype == torch.float32
    assert inputs["text_pixel_values"].shape == (3, 1, 64, 64) and inputs["text_pixel_values"].dtype == torch.uint8
    photos = processor.image_processor([PHOTO, PHOTO], return_tensors="pt")["pixel_values"]
    texts = processor.tokenizer(TEXTS, return_tensors="pt")["text_pixel_values"]
    assert torch.equal(inputs["pixel_values"], photos) and torch.equal(inputs["text_pixel_values"], texts)
    halved = inputs.to(torch.float16)
    assert halved["pixel_values"].dtype == torch.float16 and halved["text_pixel_values"].dtype == torch.uint8


def test_one_modality_alone(processor):
    assert list(processor(images=PHOTO, return_tensors="np")) == ["pixel_values"]
    assert list(processor(text="dog", return_tensors="np")) == ["text_pixel_values"]
    assert processor(text="dog")["text_pixel_values"].shape == (1, 64, 64)
    assert processor(PHOTO, TEXTS, return_tensors="np")["text_pixel_values"].shape == (3, 1, 64, 64)
    assert sorted(processor.model_input_names) == ["pixel_values", "text_pixel_values"]


@pytest.mark.parametrize("kwargs", [{}, {"images": None, "text": None}, {"return_tensors": "pt"}])
def test_nothing_to_process_is_an_error(processor, kwargs):
    with pytest.raises(ValueError, match=r"neither images nor text to process; pass images=, text= or both"):
        processor(**kwargs)


def test_errors_of_the_parts_come_through(processor):
    with pytest.raises(ValueError, match="has 2 channels"):
        processor(images=PHOTO[..., :2], text="dog")
    with pytest.raises(TypeError, match="Text 0 is of type int"):
        processor(images=PHOTO, text=7)


def test_options_reach_their_part(processor):
    inputs = processor(
        images=PHOTO, text=TEXTS, size=32, antialias=True, canvas_format="packed", padding="max_length", max_length=3,
        truncation=True, return_tensors="np",
    )  # fmt: skip
    assert inputs["pixel_values"].shape == (1, 3, 32, 32)
    assert inputs["text_pixel_values"].shape == (3, 4, 16) and inputs["text_pixel_values"].dtype == np.int64
    expected = ClippoImageProcessor(size=32, antialias=True)(PHOTO, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(inputs["pixel_values"], expected)
    nested = processor(
        images=PHOTO, text=TEXTS, return_tensors="np", images_kwargs={"size": 32, "antialias": True},
        text_kwargs={"canvas_format": "packed"},
    )  # fmt: skip
    for key, value in inputs.items():
        np.testing.assert_array_equal(nested[key], value)
    pair = processor(text="a dog", text_pair="a pet", return_tensors="np")["text_pixel_values"]
    np.testing.assert_array_equal(pair, processor(text="a dog | a pet", return_tensors="np")["text_pixel_values"])
    with pytest.raises(ValueError, match="do not fit"):
        processor(text="word " * 200, overflow="raise")


def test_an_unknown_option_is_named_in_a_warning(processor):
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    transformers_processing_utils.logger.addHandler(handler)
    try:
        processor(text="dog", canvas_fromat="packed")
    finally:
        transformers_processing_utils.logger.removeHandler(handler)
    assert len(messages) == 1 and "canvas_fromat" in messages[0]


def test_options_of_the_parts_do_not_leak_into_each_other():
    processor = ClippoProcessor(
        ClippoImageProcessor(size=48, antialias=True),
        ClippoTokenizer(canvas_size=[32, 64], antialias_font=True, canvas_format="float", overflow="ignore"),
    )
    inputs = processor(images=PHOTO, text=TEXTS, return_tensors="np")
    for key, part, value in (
        ("pixel_values", processor.image_processor, PHOTO),
        ("text_pixel_values", processor.tokenizer, TEXTS),
    ):
        np.testing.assert_array_equal(inputs[key], part(value, return_tensors="np")[key])


def test_saved_processor_gives_the_same_inputs(tmp_path):
    processor = ClippoProcessor(
        ClippoImageProcessor(size=80, do_center_crop=True, crop_size=64, antialias=True),
        ClippoTokenizer(canvas_size=64, canvas_format="packed", lowercase=False, overflow="raise"),
    )
    processor.save_pretrained(tmp_path)
    expected = processor(images=PHOTO, text=TEXTS, return_tensors="np")
    for door in (ClippoProcessor, AutoProcessor):
        loaded = door.from_pretrained(tmp_path)
        assert type(loaded) is ClippoProcessor
        got = loaded(images=PHOTO, text=TEXTS, return_tensors="np")
        for key in expected:
            np.testing.assert_array_equal(got[key], expected[key])
            assert got[key].dtype == expected[key].dtype
    # Pipelines ask for the parts, not for the processor.
    photos = AutoImageProcessor.from_pretrained(tmp_path)(PHOTO, return_tensors="np")["pixel_values"]
    np.testing.assert_array_equal(photos, expected["pixel_values"])
    texts = AutoTokenizer.from_pretrained(tmp_path)(TEXTS, return_tensors="np")["text_pixel_values"]
    np.testing.assert_array_equal(texts, expected["text_pixel_values"])


def test_from_size_makes_both_parts_of_one_size():
    processor = ClippoProcessor.from_size([32, 96], max_chars=12)
    inputs = processor(images=PHOTO, text="dog", return_tensors="np")
    assert inputs["pixel_values"].shape == (1, 3, 32, 96)
    assert inputs["text_pixel_values"].shape == (1, 1, 32, 96)
    assert processor.tokenizer.max_chars == 12


def test_pickled_processor_gives_the_same_inputs(processor):
    again = pickle.loads(pickle.dumps(processor))
    expected = processor(images=PHOTO, text=TEXTS, return_tensors="np")
    for key, value in again(images=PHOTO, text=TEXTS, return_tensors="np").items():
        np.testing.assert_array_equal(value, expected[key])


def test_parts_in_the_wrong_order_are_refused():
    with pytest.raises((TypeError, ValueError)):
        ClippoProcessor(ClippoTokenizer(canvas_size=64), ClippoImageProcessor(size=64))
