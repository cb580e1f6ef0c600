"""A tiny model with random weights and its processor."""

import pytest
import torch

from clippo import ClippoConfig, ClippoModel, ClippoProcessor


@pytest.fixture
def tiny():
    """(model, processor) for a canvas of 32 x 32 pixels, the same weights every time."""
    torch.manual_seed(0)
    config = ClippoConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        projection_dim=24,
        skip_blank_patches=True,
    )
    return ClippoModel(config), ClippoProcessor.from_size(32)
