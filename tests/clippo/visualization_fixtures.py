"""A saved tiny model, as the demo takes it."""

import pytest
import torch

from clippo import ClippoConfig, ClippoModel, ClippoProcessor


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """Checkpoint folder of random weights for a canvas of 48 x 48 pixels."""
    torch.manual_seed(0)
    config = ClippoConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=48,
        projection_dim=24,
        skip_blank_patches=True,
    )
    folder = tmp_path_factory.mktemp("tiny")
    ClippoModel(config).save_pretrained(folder)
    ClippoProcessor.from_size(48, overflow="ignore").save_pretrained(folder)
    return folder
