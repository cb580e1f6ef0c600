"""Goldens of the tiny official model: parameters, inputs, outputs and gradients, from tests/goldens."""

import numpy as np
import pytest
import torch

from clippo.conversion import model_from_params

from ..conftest import ROOT

GOLDENS = ROOT / "tests" / "goldens"


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / f"{name}.npz") as archive:
        return dict(archive)


@pytest.fixture(scope="session")
def golden_params():
    return load("tiny_params")


@pytest.fixture(scope="session")
def golden_io():
    return load("tiny_io")


@pytest.fixture(scope="session")
def golden_grads():
    return load("tiny_grads")


@pytest.fixture
def tiny_model(golden_params):
    """A fresh ClippoModel with the official tiny parameters, in float32 and eval mode."""
    return model_from_params(golden_params)


@pytest.fixture(scope="session")
def tiny_inputs(golden_io):
    """Images (6, 3, 64, 64) and one-channel texts (6, 1, 64, 64), both uint8."""
    images = torch.from_numpy(golden_io["images_uint8"]).permute(0, 3, 1, 2)
    texts = torch.from_numpy(golden_io["texts_uint8"]).permute(0, 3, 1, 2)[:, :1]
    return {"pixel_values": images, "text_pixel_values": texts}
