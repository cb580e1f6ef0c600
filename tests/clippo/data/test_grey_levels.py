"""Images travel as uint8, and the model sees the bits of the image processor."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from clippo.data import SourceSpec
from clippo.data.grey_levels import images_as_levels, round_to_levels
from clippo.data.samples import read_image
from clippo.modeling_clippo.pixels_clippo import as_pixels
from clippo.processing import ClippoImageProcessor


def photos(count=3):
    noise = np.random.default_rng(0).integers(0, 256, (count, 40, 56, 3), dtype=np.uint8)
    return [Image.fromarray(image) for image in noise]


def test_every_grey_level_is_normalised_to_the_same_bits():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    processor = ClippoImageProcessor(size=16)
    levels = images_as_levels(processor, [ramp])
    assert levels.dtype == torch.uint8 and levels.unique().numel() == 256
    assert torch.equal(as_pixels(levels, 3), processor([ramp], return_tensors="pt")["pixel_values"])


@pytest.mark.parametrize("options", [{}, {"size": 48, "do_center_crop": True, "crop_size": 32}, {"antialias": True}])
def test_photographs_of_any_form(options):
    processor = ClippoImageProcessor(size=32)
    forms = [*photos(), np.asarray(photos()[0]), Image.new("L", (20, 30), 7), Image.new("RGBA", (9, 9), (1, 2, 3, 90))]
    levels = images_as_levels(processor, forms, **options)
    assert levels.dtype == torch.uint8
    assert torch.equal(as_pixels(levels, 3), processor(forms, return_tensors="pt", **options)["pixel_values"])


@pytest.mark.parametrize("changed", [{"image_mean": [0.4, 0.5, 0.6]}, {"image_std": 0.25}, {"do_normalize": False}])
def test_another_normalisation_is_not_the_models(changed):
    processor = ClippoImageProcessor(size=32, **changed)
    values = images_as_levels(processor, photos())
    assert values.dtype == torch.float32
    assert torch.equal(values, processor(photos(), return_tensors="pt")["pixel_values"])


def test_float_images_are_not_rounded():
    processor, image = ClippoImageProcessor(size=32), np.full((32, 32, 3), 100.25, np.float32)
    values = images_as_levels(processor, [image])
    assert torch.equal(values, processor([image], return_tensors="pt")["pixel_values"])
    assert values[0, 0, 0, 0].item() == pytest.approx(100.25 / 127.5 - 1, abs=1e-6)


def test_rounding_is_to_the_nearest_level():
    assert round_to_levels(torch.tensor([-0.4, 0.6, 254.4, 255.7])).tolist() == [0, 1, 254, 255]


def jpeg(width, height):
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 / width, y * 255 / height, (x + y) % 256], -1).astype(np.uint8)
    Image.fromarray(pixels).save(stream := io.BytesIO(), "JPEG", quality=90)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("side", "size"), [(None, (640, 480)), (240, (320, 240)), (100, (160, 120)), (500, (640, 480))]
)
def test_a_jpeg_file_is_decoded_smaller_but_never_below_the_side(side, size):
    assert read_image({"bytes": jpeg(640, 480), "path": None}, side).size == size


def test_a_smaller_decoding_shows_the_same():
    whole, small = (read_image(jpeg(640, 480), side).convert("RGB") for side in (None, 120))
    whole = whole.resize(small.size, Image.Resampling.BOX)
    difference = np.abs(np.asarray(whole, float)[..., :2] - np.asarray(small, float)[..., :2])
    assert difference.mean() < 3


def test_other_files_ignore_the_side():
    Image.new("RGB", (64, 64), "red").save(stream := io.BytesIO(), "PNG")
    assert read_image(stream.getvalue(), 16).size == (64, 64)


def test_sources_that_have_no_jpeg_files():
    with pytest.raises(ValueError, match="photos: jpeg_side=0 is not a number of pixels"):
        SourceSpec("p", name="photos", caption_columns="c", jpeg_side=0)
    with pytest.raises(ValueError, match="jpeg_side"):
        SourceSpec("p", "text_text", caption_columns="c", jpeg_side=224)
