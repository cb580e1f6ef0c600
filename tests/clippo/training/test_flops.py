"""FLOPs by formula against the products that PyTorch counts while the model runs."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from clippo import ClippoConfig, ClippoModel
from clippo.training.flops import flops_per_image, training_flops_per_pair

SHAPE = dict(hidden_size=32, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4, projection_dim=24)


def make(**fields) -> ClippoModel:
    config = ClippoConfig(**{**SHAPE, "image_size": [32, 64], **fields})
    return ClippoModel._from_config(config, attn_implementation="eager")  # the counter does not know SDPA on the CPU


def counted(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("fields", [{}, {"image_size": 48, "patch_size": 8, "num_channels": 1}])
def test_forward_is_counted_exactly(fields):
    model = make(**fields)
    pixels = torch.zeros(1, model.config.num_channels, *model.config.canvas_size)
    assert counted(lambda: model.get_image_features(pixels)) == flops_per_image(model.config)


def test_a_text_costs_its_inked_patches():
    model = make(skip_blank_patches=True)
    packed = torch.zeros(1, 2, 16, dtype=torch.int64)
    packed[0, 0, [0, 4, 8]] = 1  # one dot in three patches of the first row
    assert counted(lambda: model.get_text_features(packed)) == flops_per_image(model.config, 3)
    assert flops_per_image(model.config, 3) < flops_per_image(model.config) / 2


def test_training_is_three_times_that_but_for_the_gradient_of_the_pixels():
    """Pixels need no gradient, so the patch projection costs two products, not three: the convention overstates it."""
    model = make()
    pixels = torch.zeros(1, 3, 32, 64)
    patch_projection = 2 * 8 * 3 * 16**2 * 32
    measured = counted(lambda: model.get_image_features(pixels).pooler_output.sum().backward())
    assert measured == 3 * flops_per_image(model.config) - patch_projection
    assert training_flops_per_pair(model.config) == 6 * flops_per_image(model.config)


def test_the_published_cost_of_b16():
    """timm counts 17.58 G multiply-adds for ViT-B/16 and 17.73 G for SigLIP's, which pools by MAP as well."""
    assert flops_per_image(ClippoConfig()) / 2 == pytest.approx(17.73e9, rel=0.01)


@pytest.mark.parametrize("number", [1, 2])
def test_experts_count_as_often_as_a_token_visits_one(number):
    """Grouped products are not counted by the counter, so one expert a token is compared with the dense model."""
    dense, sparse = ClippoConfig(**SHAPE), ClippoConfig(**SHAPE, num_experts=8, num_experts_per_tok=number)
    mlp, router = 4 * 196 * 32 * 80, 2 * 196 * 32 * 8
    assert flops_per_image(sparse) - flops_per_image(dense) == (number - 1) * mlp + router
