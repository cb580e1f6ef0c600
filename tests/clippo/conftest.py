"""Fixtures of the library's tests: the tiny model as a saved folder, photographs, a miniature data set."""

import numpy as np
import pytest
import torch
from PIL import Image

import clippo

from ..tiny import save_tiny as save_tiny_folder
from ..tiny import tiny_config as make_tiny_config
from .emoji_miniature import build, cldr_folder, emoji_folder  # noqa: F401 - fixtures
from .evaluation_fixtures import captioned, labelled, oracle, tiny  # noqa: F401 - fixtures
from .pretraining_miniature import spoilt_photos  # noqa: F401 - fixtures
from .visualization_fixtures import tiny_folder  # noqa: F401 - fixtures


@pytest.fixture(scope="session")
def tiny_config():
    """The function `tests.tiny.tiny_config`."""
    return make_tiny_config


@pytest.fixture(scope="session")
def save_tiny(tmp_path_factory):
    """Function that saves a tiny model of the given class with its processor and returns the folder as a string."""

    def save(model_class=clippo.ClippoModel, canvas_format="uint8", font_file=None, dtype=None, **fields):
        options = {"canvas_format": canvas_format, "font_file": font_file}
        folder = tmp_path_factory.mktemp("tiny")
        return save_tiny_folder(folder, model_class, dtype=dtype or torch.float32, processor=options, **fields)

    return save


@pytest.fixture(scope="session")
def photos():
    """Three pictures of different sizes and modes."""
    draw = np.random.default_rng(0)
    colours = [draw.integers(0, 256, (side, 50, 3), dtype=np.uint8) for side in (40, 64, 90)]
    return [Image.fromarray(colours[0]), Image.fromarray(colours[1]).convert("L"), Image.fromarray(colours[2])]
