"""The tiny model as a saved folder."""

import pytest

from ..tiny import save_tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """Checkpoint folder of random weights for a canvas of 48 x 48 pixels."""
    folder = tmp_path_factory.mktemp("tiny")
    processor = {"overflow": "ignore"}
    save_tiny(folder, noise=0, processor=processor, num_hidden_layers=1, image_size=48, skip_blank_patches=True)
    return folder
