"""Models with experts or with parameters of one modality under compilers, sharding, adapters and exporters."""

import pytest
import torch
from torch.distributed.fsdp import fully_shard

import clippo
from clippo.conversion import ConversionError, params_from_model

from ..processes import run_processes
from ..tiny import tiny_model, tiny_processor
from .test_export import IMAGES, Embedder, assert_close, pixels, run_onnx

EXPERTS = dict(num_experts=8, router_importance_coef=0.5, router_global_entropy_coef=0.5, router_min_text_experts=4)
SPLIT = dict(modality_norms=True, num_modality_layers=1, num_hidden_layers=3)
MODELS = [EXPERTS, SPLIT, {**SPLIT, **EXPERTS, "image_stem": "conv", "image_branch_layers": [1]}]
GRADIENTS = dict(rtol=1e-3, atol=3e-4)

every_model = pytest.mark.parametrize("fields", MODELS, ids=["experts", "split", "all"])


def inputs() -> dict[str, torch.Tensor]:
    texts = tiny_processor()(text=["a cat", "кошка", "鳥鳥鳥鳥", "i", "two words"], return_tensors="pt")
    return {"pixel_values": IMAGES, **texts}


def step(model, batch) -> list[torch.Tensor]:
    """Loss and gradients of a training step."""
    model.zero_grad()
    loss = model(**batch).loss
    loss.backward()
    return [loss.detach(), *(parameter.grad for parameter in model.parameters())]


@every_model
def test_compiled_blocks_have_the_same_step(fields):
    model = tiny_model(skip_blank_patches=True, **fields).train()
    expected = [tensor.clone() for tensor in step(model, inputs())]
    torch._dynamo.reset()
    model.compile_blocks(backend="aot_eager")
    torch.testing.assert_close(step(model, inputs()), expected, **GRADIENTS)


@every_model
def test_gradient_checkpointing_has_the_same_step(fields):
    model = tiny_model(skip_blank_patches=True, **fields).train()
    expected = [tensor.clone() for tensor in step(model, inputs())]
    model.gradient_checkpointing_enable()
    torch.testing.assert_close(step(model, inputs()), expected, **GRADIENTS)


def sharded_step(rank: int, fields: dict) -> list[torch.Tensor]:
    """An FSDP2 step in which the second process has texts only."""
    model = tiny_model(skip_blank_patches=True, **fields).train()
    for block in model.modules():
        if type(block).__name__ in model._no_split_modules:
            fully_shard(block)
    fully_shard(model.projection)
    fully_shard(model)
    batch = inputs()
    if rank:
        texts = batch["text_pixel_values"]
        batch = {"first_text_pixel_values": texts.flip(0), "text_pixel_values": texts}
    return [gradient.full_tensor() for gradient in step(model, batch)[1:]]


@pytest.mark.parametrize("fields", [MODELS[2]], ids=["all"])
def test_sharding_with_idle_experts_and_a_process_of_texts(fields, tmp_path):
    first, _ = run_processes(sharded_step, 2, tmp_path, fields)
    batch = inputs()
    texts = batch["text_pixel_values"]
    whole = {
        "pixel_values": IMAGES,
        "first_text_pixel_values": texts.flip(0),
        "text_pixel_values": torch.cat([texts, texts]),
    }
    expected = step(tiny_model(skip_blank_patches=True, **fields).train(), whole)[1:]
    torch.testing.assert_close(first, expected, **GRADIENTS)


def test_an_adapter_of_the_text_norms_alone():
    """`modules_to_save=["text"]` trains a copy of every module of that name."""
    peft = pytest.importorskip("peft", reason="peft is not installed")
    model = tiny_model(modality_norms=True, num_hidden_layers=3)
    images = model.vision_model(IMAGES).pooler_output.detach()
    config = peft.LoraConfig(r=1, target_modules=["projection"], modules_to_save=["text"])
    adapted = peft.get_peft_model(model, config).train()
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    norms = {name for name in trained if ".text." in name}
    assert len(norms) == 2 * (3 * 2 + 2) and len(trained - norms) == 2  # weights and biases; the pair of LoRA
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=0.1)
    with torch.no_grad():
        before = model.get_text_features(inputs()["text_pixel_values"]).pooler_output
    adapted(**inputs()).loss.backward()
    optimizer.step()
    with torch.no_grad():
        torch.testing.assert_close(model.vision_model(IMAGES).pooler_output, images, rtol=0, atol=5e-6)
        assert not torch.allclose(model.get_text_features(inputs()["text_pixel_values"]).pooler_output, before)


@pytest.mark.filterwarnings("ignore")
@every_model
@pytest.mark.parametrize("kind", ["image", "text-packed"])
def test_export(fields, kind, tmp_path):
    """An exported model computes all experts, so that no shape depends on the data."""
    embedder = Embedder(tiny_model(skip_blank_patches=True, **fields), kind.partition("-")[0]).eval()
    values = pixels(kind)
    with torch.no_grad():
        expected = embedder(values)
        exported = torch.export.export(embedder, (values[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
        assert_close(exported.module()(values), expected)
    if fields is MODELS[2]:
        assert_close(run_onnx(embedder, (values,), (values[:2],), tmp_path), expected)


@pytest.mark.parametrize(
    "fields", [dict(num_experts=2), dict(modality_norms=True), dict(num_modality_layers=1), dict(image_stem="conv")]
)
def test_big_vision_has_no_place_for_them(fields):
    with pytest.raises(ConversionError, match=f"has {next(iter(fields))}=.*share all parameters of a dense tower"):
        params_from_model(tiny_model(**fields))


@every_model
def test_heads_have_the_tower_of_their_modality(fields):
    head = tiny_model(clippo.ClippoForSequenceClassification, skip_blank_patches=True, num_labels=3, **fields)
    texts = inputs()["text_pixel_values"]
    with torch.no_grad():
        before = head(texts).logits
        for name, parameter in head.named_parameters():
            if ".image." in name:
                parameter.add_(1)
        assert torch.equal(head(texts).logits, before)
