"""The token grid before pooling: its definition, its places, and every model that offers it."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import clippo

from ..tiny import tiny_model

IMAGES = torch.rand(2, 3, 32, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(
    "model_class", [clippo.ClippoModel, clippo.ClippoVisionModel, clippo.ClippoForVisualQuestionAnswering]
)
@torch.no_grad()
def test_every_model_has_the_grid_of_its_tower(model_class):
    model = tiny_model(model_class, image_size=[32, 64])
    grid = model.get_grid_features(IMAGES)
    output = model.base_model(IMAGES, output_hidden_states=True)
    assert grid.shape == (2, 2, 4, 32)
    assert torch.equal(grid, model.base_model(IMAGES).last_hidden_state.view(2, 2, 4, 32))
    torch.testing.assert_close(grid.flatten(1, 2), model.base_model.post_layernorm(output.hidden_states[-1]))


@torch.no_grad()
def test_cells_are_in_the_places_of_their_patches():
    model = tiny_model(clippo.ClippoVisionModel, image_size=[32, 64], num_hidden_layers=1)
    before = model.get_grid_features(IMAGES)
    for row, column in ((0, 1), (1, 3), (1, 0)):
        changed = IMAGES.clone()
        changed[:, :, row * 16 : row * 16 + 16, column * 16 : column * 16 + 16] *= -1
        distance = (model.get_grid_features(changed) - before).norm(dim=-1)  # (2, 2, 4)
        assert (distance.flatten(1).argmax(1) == row * 4 + column).all()


@torch.no_grad()
def test_other_canvases_and_texts():
    model = tiny_model(clippo.ClippoModel, image_size=[32, 64], skip_blank_patches=True)
    wide = torch.rand(1, 3, 64, 64)
    with pytest.raises(ValueError, match="A canvas of 64x64 pixels was given"):
        model.get_grid_features(wide)
    grid = model.get_grid_features(wide, interpolate_pos_encoding=True)
    assert grid.shape == (1, 4, 4, 32)
    positions = model.vision_model.embeddings.positions_for(4, 4)  # resampled, and not constant
    assert positions.std(1).min() > 1e-3
    texts = clippo.ClippoTokenizer(canvas_size=[32, 64], canvas_format="packed")(["i"], return_tensors="pt")
    grid = model.get_grid_features(texts["text_pixel_values"], modality="text")
    assert grid.shape == (1, 2, 4, 32) and (grid.abs().sum(-1) > 0).flatten().tolist() == [True] + [False] * 7
    with pytest.raises(ValueError, match="modality='audio' is not known"):
        model.get_grid_features(IMAGES, modality="audio")
    with pytest.raises(TypeError, match="not a tensor"):
        model.get_grid_features([1])


@torch.no_grad()
def test_images_have_the_grid_of_the_image_tower():
    model = tiny_model(clippo.ClippoModel, image_size=[32, 64], image_tower="separate")
    expected = model.image_model(IMAGES).last_hidden_state
    assert torch.equal(model.get_grid_features(IMAGES).flatten(1, 2), expected)
    texts = model.get_grid_features(IMAGES[:, :1], modality="text")
    assert torch.equal(texts.flatten(1, 2), model.vision_model(IMAGES[:, :1], modality="text").last_hidden_state)


@torch.no_grad()
def test_the_grid_is_taken_where_clip_vil_takes_it(shared):
    """All patches of the last block after a LayerNorm, without pooling and projection.

    The recording has no parameters that belong to its outputs, so scale and shift of the LayerNorm are fitted to the
    first image and tried on the second.
    """
    with np.load(shared("goldens", "seeds", "clipvil_grid.npz")) as archive:
        last_block, grid = (torch.from_numpy(x[:, 1:]) for x in (archive["layers"][-1], archive["grid_with_cls"]))
        caption = torch.from_numpy(archive["grid_caption"])
    normal = F.layer_norm(last_block, last_block.shape[-1:], eps=1e-5)  # (2, 16, 48), no class token
    scale = grid[0].std(0) / normal[0].std(0)
    scale = scale * ((grid[0] - grid[0].mean(0)) * (normal[0] - normal[0].mean(0))).sum(0).sign()
    shift = grid[0].mean(0) - scale * normal[0].mean(0)
    torch.testing.assert_close(normal[1] * scale + shift, grid[1], atol=5e-6, rtol=1e-5)
    assert torch.equal(caption, last_block)  # captioning alone leaves the LayerNorm out
    tower = tiny_model(clippo.ClippoVisionModel, image_size=[32, 64])
    states = tower(IMAGES, output_hidden_states=True).hidden_states[-1]
    expected = F.layer_norm(states, (32,), tower.post_layernorm.weight, tower.post_layernorm.bias, 1e-6)
    torch.testing.assert_close(tower.get_grid_features(IMAGES).flatten(1, 2), expected, atol=5e-6, rtol=1e-5)
