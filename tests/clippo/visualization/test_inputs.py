"""Images for figures equal the processor's output, to the grey level."""

import numpy as np
import pytest
from PIL import Image

from clippo import ClippoProcessor
from clippo.visualization.inputs import image_pixels


def test_pictures_of_the_canvas_size_come_back_unchanged():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    inputs = ClippoProcessor.from_size(32)(images=[Image.fromarray(p) for p in pixels], return_tensors="pt")
    np.testing.assert_array_equal(image_pixels(inputs["pixel_values"]), pixels)


@pytest.mark.parametrize("canvas_format", ["uint8", "float"])
def test_texts_of_either_form(canvas_format):
    processor = ClippoProcessor.from_size(32)
    expected = processor.tokenizer.render(["猫 a"]).canvases[:, 0, :, :, None]
    shown = image_pixels(
        processor(text=["猫 a"], return_tensors="np", canvas_format=canvas_format)["text_pixel_values"]
    )
    np.testing.assert_array_equal(shown, expected)


def test_what_is_no_picture_is_refused():
    with pytest.raises(ValueError, match=r"must have the shape \(B, C, H, W\), got"):
        image_pixels(np.zeros((3, 32, 32), dtype=np.uint8))
    with pytest.raises(ValueError, match=r"lie in \[-1, 1\], got 0.0 to 7.0"):
        image_pixels(np.full((1, 1, 4, 4), 7.0))
