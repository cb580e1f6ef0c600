"""Growing: every common tensor is copied, new ones are filled, nothing is lost without a word."""

import pytest
import torch

import clippo
from clippo.growth import FILLERS
from clippo.surgery import grow, resize_canvas

from ..tiny import tiny_model


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("image_tower", ["separate", "locked"])
def test_a_tower_for_images_starts_as_the_shared_one(images, image_tower):
    model = tiny_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grown = grow(model, image_tower=image_tower)
    state = grown.state_dict()
    for name, tensor in before.items():
        assert torch.equal(model.state_dict()[name], tensor) and torch.equal(state[name], tensor)
        twin = name.replace("vision_model.", "image_model.").replace("projection.", "image_projection.")
        assert twin == name or "logit" in name or torch.equal(state[twin], tensor)
    with torch.no_grad():
        vectors = [m.get_image_features(images).pooler_output for m in (model, grown)]
    torch.testing.assert_close(*vectors, atol=5e-6, rtol=0)  # PyTorch picks other kernels for frozen weights
    assert grown.config.image_tower == image_tower and model.config.image_tower == "shared"
    assert grown.image_model.post_layernorm.weight.requires_grad == (image_tower == "separate")


def test_adding_a_language_keeps_the_image_vectors(images):
    """The text side learns, and the images of the index do not move."""
    grown = grow(tiny_model(skip_blank_patches=True), image_tower="locked").train()
    before = grown.get_image_features(images).pooler_output
    texts = clippo.ClippoTokenizer(canvas_size=64)(["один", "два", "три"], return_tensors="pt")
    old_text = grown.get_text_features(**texts).pooler_output
    optimizer = torch.optim.AdamW(grown.parameters(), lr=0.1, weight_decay=0.1)
    grown(pixel_values=images, **texts).loss.backward()
    optimizer.step()
    assert torch.equal(grown.get_image_features(images).pooler_output, before)
    assert not torch.allclose(grown.get_text_features(**texts).pooler_output, old_text, atol=1e-3)


def test_vectors_of_another_model_get_a_new_projection_of_texts():
    model = tiny_model()
    grown = grow(model, image_tower="some/model", project_images=False, projection_dim=40)
    assert grown.projection.weight.shape == (40, 32)
    assert torch.equal(grown.vision_model.head.probe, model.vision_model.head.probe)
    with_head = grow(model, image_tower="some/model", image_embed_dim=32)  # as wide as the tower by chance
    assert not torch.equal(with_head.image_projection.weight, model.projection.weight)


def test_growing_to_another_canvas_is_resizing_it():
    model, resized = tiny_model(), tiny_model()
    resize_canvas(resized, [32, 128])
    grown = grow(model, image_size=[32, 128])
    positions = [m.vision_model.embeddings.position_embedding for m in (resized, grown)]
    assert torch.equal(*positions)


def test_another_class_takes_the_tower():
    model = tiny_model()
    grown = grow(model, clippo.ClippoForImageClassification, num_labels=5)
    assert type(grown) is clippo.ClippoForImageClassification and grown.classifier.out_features == 5
    assert torch.equal(grown.vision_model.head.probe, model.vision_model.head.probe)


def test_type_mode_backend_and_loss_are_kept():
    model = tiny_model(attention="eager").to(torch.bfloat16).eval()
    grown = grow(model, loss_type="sigmoid", logit_bias_init_value=-5.0)
    assert grown.dtype == torch.bfloat16 and not grown.training and grown.logit_bias.item() == -5
    assert grown.config._attn_implementation == "eager"


def test_a_line_of_the_table_fills_a_tensor(monkeypatch):
    monkeypatch.setattr("clippo.growth.FILLERS", [(r"logit_bias", lambda gap: torch.full(gap.shape, 7.0)), *FILLERS])
    assert grow(tiny_model(), logit_bias_init_value=-5.0).logit_bias.item() == 7


def test_what_has_no_place_is_named(log_messages):
    shared = grow(tiny_model(image_tower="separate"), image_tower="shared")
    assert not any(name.startswith("image_") for name in shared.state_dict())
    assert any("tensors have no place in the new model, image_model." in message for message in log_messages)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(image_towr="locked"), TypeError, "no field 'image_towr'; did you mean 'image_tower'"),
        (dict(hidden_size=64), ValueError, "would change from .* and no rule fills it"),
        (dict(project_images=False), Exception, "project_images=False leaves image vectors 32 wide"),
    ],
)
def test_refusals(changes, error, message):
    with pytest.raises(error, match=message):
        grow(tiny_model(), **changes)


def test_joint_blocks_start_as_the_last_ones_of_the_tower(images):
    model = tiny_model(clippo.ClippoForVisualQuestionAnswering, num_labels=3, num_hidden_layers=3)
    grown = grow(model, num_fusion_layers=2)
    tower, fusion = grown.vision_model, grown.fusion
    for block, source in zip(fusion.encoder.layers, tower.encoder.layers[1:], strict=True):
        assert all(torch.equal(p, q) for p, q in zip(block.parameters(), source.parameters(), strict=True))
    assert torch.equal(fusion.head.probe, tower.head.probe)
    assert torch.equal(grown.classifier.weight, model.classifier.weight)
    assert fusion.source_embedding.std() > 0.01
    deeper = grow(tiny_model(clippo.ClippoForVisualQuestionAnswering, num_hidden_layers=1), num_fusion_layers=2)
    assert len(deeper.fusion.encoder.layers) == 2  # the only block of the tower fills both
    foreign = grow(grown, image_grid_shape=[2, 2, 8])
    assert torch.equal(foreign.fusion.source_embedding, fusion.source_embedding)
    assert foreign.fusion.grid_projection.linear.in_features == 8


def test_tensors_that_live_on_in_copies_are_not_reported_as_lost(log_messages):
    grow(tiny_model(), num_experts=2, modality_norms=True)
    assert not any("have no place" in message for message in log_messages)
