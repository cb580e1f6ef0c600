"""Grad-CAM equals its definition, for images, rendered text and packed text."""

import pytest
import torch

from clippo import ClippoProcessor
from clippo.visualization.grad_cam import grad_cam

from ...tiny import tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model(skip_blank_patches=True)


def test_it_is_mean_gradient_times_activation(model):
    torch.manual_seed(1)
    pictures = torch.rand(2, 3, 64, 64) * 2 - 1
    targets = torch.nn.functional.normalize(torch.randn(2, 24), dim=1)
    got = grad_cam(model, pictures, targets)
    assert got.shape == (2, 4, 4) and (got >= 0).all()
    tower = model.eval().vision_model
    # One by one and from the last hidden states on, written out.
    for i in range(2):
        hidden = tower(pictures[i : i + 1], output_hidden_states=True).hidden_states[-1].detach().requires_grad_()
        vector = model.projection(tower.head(tower.post_layernorm(hidden)))
        torch.nn.functional.cosine_similarity(vector, targets[i : i + 1]).sum().backward()
        expected = (hidden.grad.mean(1, keepdim=True) * hidden).sum(-1).relu().detach().view(4, 4)
        torch.testing.assert_close(got[i], expected / expected.max().clamp(min=1e-12), atol=1e-4, rtol=1e-4)
    assert all(parameter.grad is None for parameter in model.vision_model.embeddings.parameters())
    model.zero_grad(set_to_none=True)


def test_blank_patches_are_zero_and_packed_text_is_the_same(model):
    processor = ClippoProcessor.from_size(64)
    target = torch.nn.functional.normalize(torch.randn(1, 24, generator=torch.Generator().manual_seed(2)), dim=1)
    maps = [
        grad_cam(
            model,
            processor(text=["abc", "a longer text"], return_tensors="pt", canvas_format=form)["text_pixel_values"],
            target,
            modality="text",
        )
        for form in ("uint8", "packed")
    ]
    torch.testing.assert_close(*maps)
    assert maps[0].shape == (2, 4, 4)
    assert maps[0][0, 1:].eq(0).all() and maps[0][0, 0, 2:].eq(0).all()  # "abc" is in the first two patches
    alone = grad_cam(model, processor(text=["abc"], return_tensors="pt")["text_pixel_values"], target, modality="text")
    torch.testing.assert_close(alone[0], maps[0][0], atol=1e-5, rtol=1e-5)


def test_the_mode_stays_and_works_without_gradients(model):
    model.train()
    with torch.no_grad():
        grad_cam(model, torch.zeros(1, 3, 64, 64), torch.ones(1, 24))
    assert model.training
