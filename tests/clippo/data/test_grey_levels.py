"""Images travel as uint8, and the model sees the bits of the image processor."""

import numpy as np
import pytest
import torch
from PIL import Image

from clippo.data.grey_levels import images_as_levels, round_to_levels
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
