"""Roll-out equals the published product, and the map shows the patches in the pooled vector."""

import pytest
import torch

import clippo
from clippo.visualization.rollout import patch_relevance, rollout

from ...tiny import tiny_model


def make_tower(attention="sdpa", **fields):
    return tiny_model(clippo.ClippoVisionModel, attention=attention, **fields)


@pytest.fixture(scope="module")
def pictures():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_rollout_is_the_product_of_the_paper():
    torch.manual_seed(0)
    first, second = torch.randn(2, 5, 4, 6, 6).softmax(-1)
    eye = torch.eye(6)
    expected = (0.5 * second.mean(1) + 0.5 * eye) @ (0.5 * first.mean(1) + 0.5 * eye)
    got = rollout([first, second])
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(got.sum(-1), torch.ones(5, 6))
    assert not torch.allclose(rollout([first, second], fusion="max"), expected)
    torch.testing.assert_close(rollout([eye.expand(1, 2, 6, 6)] * 3)[0], eye)  # nothing moves


def test_the_map_is_pooling_times_rollout(pictures):
    tower = make_tower("eager")
    weights = {}
    hook = tower.head.attention.register_forward_hook(lambda module, args, output: weights.update(pool=output[1]))
    with torch.no_grad():
        attentions = tower(pictures, output_attentions=True).attentions
    hook.remove()
    expected = (weights["pool"].mean(1) @ rollout(attentions))[:, 0].reshape(3, 4, 4)
    got = patch_relevance(tower, pictures)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(got.sum((1, 2)), torch.ones(3))
    assert got.std() > 1e-3


def test_backend_mode_and_hooks_are_put_back(pictures):
    tower = make_tower("sdpa").train()
    patch_relevance(tower, pictures)
    assert tower.config._attn_implementation == "sdpa" and tower.training and tower.encoder.training
    assert not any(module._forward_hooks for module in (tower.head.attention, tower.embeddings))


def test_a_head_gives_the_map_of_its_tower(pictures):
    tower = make_tower()
    model = clippo.ClippoForImageClassification(tower.config)
    model.vision_model.load_state_dict(tower.state_dict())
    torch.testing.assert_close(patch_relevance(model, pictures), patch_relevance(tower, pictures))


@pytest.mark.parametrize("canvas_format", ["uint8", "packed"])
def test_skipped_patches_of_text_get_nothing(canvas_format):
    tower = make_tower(skip_blank_patches=True)
    texts = ["a cat", "a longer text that fills several rows", ""]
    processor = clippo.ClippoProcessor.from_size(64, canvas_format=canvas_format)
    drawn = processor(text=texts, return_tensors="pt")["text_pixel_values"]
    together = patch_relevance(tower, drawn, modality="text")
    assert together.shape == (3, 4, 4)
    torch.testing.assert_close(together.sum((1, 2)), torch.ones(3))
    inked = clippo.ClippoTokenizer(canvas_size=64).render(texts).canvases[:, 0].reshape(3, 4, 16, 4, 16) != 127
    assert (together[:2][torch.from_numpy(~inked.any((2, 4)))[:2]] == 0).all()
    assert together[2, 0, 0] == 1  # the empty text keeps its first patch
    alone = patch_relevance(tower, drawn[:1], modality="text")
    torch.testing.assert_close(together[:1], alone)  # neighbours in the batch only pad


def test_other_canvas_sizes(pictures):
    wide = torch.nn.functional.pad(pictures, (0, 32))
    assert patch_relevance(make_tower(), wide, interpolate_pos_encoding=True).shape == (3, 4, 6)


def test_what_cannot_be_rolled_out_is_said():
    with pytest.raises(ValueError, match="output_attentions=True"):
        rollout([])
    with pytest.raises(ValueError, match=r"got \(1, 2, 1, 4\)"):
        rollout([torch.rand(1, 2, 1, 4)])
    with pytest.raises(ValueError, match="fusion='median' is not known"):
        rollout([torch.rand(1, 2, 4, 4)], fusion="median")
