"""The tower as a backbone: its maps, its Auto class, and a segmentation head of transformers on it."""

import pytest
import torch
from transformers import AutoBackbone, UperNetConfig, UperNetForSemanticSegmentation

import clippo

from ..tiny import save_tiny, tiny_config, tiny_model

IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@torch.no_grad()
def test_maps_are_the_grids_of_the_blocks(tmp_path):
    folder = save_tiny(tmp_path)
    backbone = clippo.ClippoBackbone.from_pretrained(folder, out_indices=[1, -1])
    tower = clippo.ClippoModel.from_pretrained(folder).vision_model
    assert backbone.out_features == ["stage1", "stage2"]
    first, last = backbone(IMAGES).feature_maps
    states = tower(IMAGES, output_hidden_states=True).hidden_states
    assert torch.equal(first.flatten(2).transpose(1, 2), tower.post_layernorm(states[1]))
    assert torch.equal(last.permute(0, 2, 3, 1).flatten(1, 2), tower.post_layernorm(states[2]))
    torch.testing.assert_close(last.permute(0, 2, 3, 1), tower.get_grid_features(IMAGES), atol=5e-6, rtol=1e-5)
    wide = torch.rand(1, 3, 48, 96)
    expected = tower.get_grid_features(wide, interpolate_pos_encoding=True).permute(0, 3, 1, 2)
    torch.testing.assert_close(backbone(wide).feature_maps[1], expected, atol=5e-6, rtol=1e-5)
    assert backbone(IMAGES).hidden_states is None
    assert len(backbone(IMAGES, output_hidden_states=True).hidden_states) == 3


def test_the_auto_class_makes_it():
    backbone = AutoBackbone.from_config(tiny_config(out_indices=[0, 2]))
    assert type(backbone) is clippo.ClippoBackbone and backbone.out_features == ["stem", "stage2"]


def test_a_segmentation_head_of_transformers_trains_on_it():
    config = UperNetConfig(
        backbone_config=tiny_config(out_indices=[1, 2]), hidden_size=16, pool_scales=[1, 2], num_labels=3,
        use_auxiliary_head=False,
    )  # fmt: skip
    model = UperNetForSemanticSegmentation(config)
    output = model(IMAGES, labels=torch.randint(0, 3, (2, 64, 64)))
    output.loss.backward()
    assert output.logits.shape == (2, 3, 64, 64)
    assert model.backbone.vision_model.embeddings.patch_embedding.weight.grad.abs().max() > 0


def test_stages_that_do_not_exist():
    with pytest.raises(ValueError, match=r"out_indices=\[5\] names no stage; the stages are 0 to 2"):
        tiny_model(clippo.ClippoBackbone, out_indices=[5])
    assert tiny_model(clippo.ClippoBackbone).out_features == ["stage2"]
