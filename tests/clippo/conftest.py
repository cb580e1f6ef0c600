"""What tests of the library share: a tiny random CLIPPO as users meet it, a folder on disk; a miniature data set."""

import numpy as np
import pytest
import torch
from PIL import Image

import clippo

from .emoji_miniature import build, cldr_folder, emoji_folder  # noqa: F401 - fixtures
from .evaluation_fixtures import captioned, labelled, oracle, tiny  # noqa: F401 - fixtures
from .visualization_fixtures import tiny_folder  # noqa: F401 - fixtures

TINY = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, projection_dim=24)
CANVAS = 64


@pytest.fixture(scope="session")
def tiny_config():
    """Function making a tiny `ClippoConfig`; keyword arguments win over its fields."""

    def make(**overrides):
        return clippo.ClippoConfig(**{**TINY, "image_size": CANVAS, **overrides})

    return make


@pytest.fixture(scope="session")
def save_tiny(tiny_config, tmp_path_factory):
    """Function saving a random model of the given class with its processor; returns the folder as a string."""

    def save(model_class=clippo.ClippoModel, canvas_format="uint8", font_file=None, dtype=None, **overrides):
        torch.manual_seed(0)
        model = model_class(tiny_config(**overrides))
        # Trained weights are no uniform noise around zero: without biases every picture would look alike to the model.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        folder = tmp_path_factory.mktemp("tiny")
        model.to(dtype or torch.float32).save_pretrained(folder)
        processor = clippo.ClippoProcessor.from_size(CANVAS, canvas_format=canvas_format, font_file=font_file)
        processor.save_pretrained(folder)
        return str(folder)

    return save


@pytest.fixture(scope="session")
def photos():
    """Three pictures of different sizes and modes."""
    draw = np.random.default_rng(0)
    colours = [draw.integers(0, 256, (side, 50, 3), dtype=np.uint8) for side in (40, 64, 90)]
    return [Image.fromarray(colours[0]), Image.fromarray(colours[1]).convert("L"), Image.fromarray(colours[2])]
