"""Initialisation from a ViT: loaded and new parameters, and equal computation in every part of the tower."""

import json

import numpy as np
import pytest
import torch
from transformers import DeiTConfig, DeiTModel, ViTConfig, ViTForImageClassification, ViTModel

from clippo import ClippoConfig, ClippoModel
from clippo.conversion import ConversionError, is_vit, load_vit, params_from_model

SHAPE = dict(hidden_size=32, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4)
AS_OURS = dict(hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)


def perturbed(model):
    """Add noise to every parameter. New biases and norms are zeros and ones, and any mix-up of them would pass."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def save_vit(folder, cls=ViTModel, **fields):
    torch.manual_seed(1)
    vit = perturbed(cls(ViTConfig(**{**SHAPE, "image_size": 48, **AS_OURS, **fields})))
    vit.save_pretrained(folder)
    return vit


def make(**fields) -> ClippoModel:
    torch.manual_seed(0)
    return ClippoModel(ClippoConfig(**{**SHAPE, "image_size": 48, "projection_dim": 16, **fields})).eval()


@pytest.mark.parametrize("cls", [ViTModel, ViTForImageClassification])
def test_every_layer_computes_what_the_vit_did(tmp_path, cls):
    """CLIPPO has no class token, so the towers differ as a whole. Each part agrees on the same input.

    In float64: a matrix product over patches adds up in another order than the convolution of the ViT.
    """
    saved = save_vit(tmp_path, cls, num_labels=7) if cls is ViTForImageClassification else save_vit(tmp_path)
    vit, model = getattr(saved, "vit", saved).double(), make()
    load_vit(model, tmp_path)
    model.double()
    tower, pixels, tokens = model.vision_model, torch.randn(2, 3, 48, 48).double(), torch.randn(2, 10, 32).double()
    vit_blocks = vit.layers if hasattr(vit, "layers") else vit.encoder.layer  # older transformers
    with torch.no_grad():
        embedded = vit.embeddings(pixels)[:, 1:]
        tokens_of_both, _ = tower.embeddings([(pixels, "image")])
        torch.testing.assert_close(tokens_of_both[0].unflatten(0, (2, -1)), embedded, rtol=0, atol=1e-6)
        for ours, theirs in zip(tower.encoder.layers, vit_blocks, strict=True):
            torch.testing.assert_close(ours(tokens), theirs(tokens), rtol=0, atol=2e-6)
            assert (ours(tokens) - tokens).abs().max() > 0.1  # the blocks do something
        torch.testing.assert_close(tower.post_layernorm(tokens), vit.layernorm(tokens), rtol=0, atol=1e-6)


def test_the_tower_is_the_vit_with_its_class_token_masked_out(tmp_path):
    vit, model = save_vit(tmp_path, attn_implementation="eager"), make()
    load_vit(model, tmp_path)
    pixels = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        # Nobody may look at the class token: what remains of the ViT is what CLIPPO takes over.
        blind = torch.ones(2, 10, dtype=torch.long)
        blind[:, 0] = 0
        theirs = vit(pixels, attention_mask=blind).last_hidden_state[:, 1:]
        torch.testing.assert_close(model.vision_model(pixels).last_hidden_state, theirs, rtol=0, atol=5e-6)
        seeing = vit(pixels).last_hidden_state[:, 1:]
    assert (seeing - theirs).abs().max() > 1e-3


def test_the_report_says_what_is_new(tmp_path):
    save_vit(tmp_path, ViTForImageClassification)
    model, before = make(), make().state_dict()
    report = load_vit(model, tmp_path)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == set(report.loaded)
    assert set(report.new) == set(before) - changed
    assert {name.split(".")[0] for name in report.new} == {"vision_model", "projection", "logit_scale"}
    assert all(".head." in name for name in report.new if name.startswith("vision_model"))
    assert report.dropped == ("classifier.bias", "classifier.weight", "embeddings.cls_token")
    assert "(head, logit_scale, projection)" in str(report) and report.remarks == ()
    assert report.numbers == sum(before[name].numel() for name in report.loaded)


def test_differences_are_remarked(tmp_path):
    save_vit(tmp_path, hidden_act="gelu", layer_norm_eps=1e-12)
    pictures = {"do_normalize": True, "image_mean": [0.48, 0.45, 0.4], "image_std": [0.5] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pictures))
    text = str(load_vit(make(image_size=64), tmp_path))
    assert "hidden_act: gelu in the ViT, gelu_pytorch_tanh here" in text
    assert "layer_norm_eps: 1e-12 in the ViT, 1e-06 here" in text
    assert "image_mean: [0.48, 0.45, 0.4] in the ViT, 0.5 here" in text and "image_std" not in text
    assert "positions resampled from 3x3 to 4x4 patches" in text


def test_positions_are_resampled_as_for_another_canvas(tmp_path):
    save_vit(tmp_path)
    model, large = make(), make(image_size=[64, 96])
    load_vit(model, tmp_path)
    load_vit(large, tmp_path)
    expected = model.vision_model.embeddings.positions_for(4, 6)
    torch.testing.assert_close(large.vision_model.embeddings.position_embedding, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            dict(hidden_size=64),
            "ViT of hidden_size=32, the model to initialise has hidden_size=64; choose the preset",
        ),
        (dict(num_hidden_layers=3), "num_hidden_layers=2, the model to initialise has num_hidden_layers=3"),
        (dict(num_attention_heads=2), "num_attention_heads=4, the model to initialise has num_attention_heads=2"),
        (
            dict(patch_size=8, intermediate_size=64),
            "intermediate_size=80, patch_size=16, .*size=64, patch_size=8",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_another_size_is_refused_before_anything_is_written(tmp_path, fields, message, kind):
    source = tmp_path if kind == "folder" else tmp_path / "vit.npz"
    save_vit(tmp_path) if kind == "folder" else np.savez(source, **vit_params())
    model, before = make(**fields), make(**fields).state_dict()
    with pytest.raises(ConversionError, match=message):
        load_vit(model, source)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_is_no_vit_is_named(tmp_path):
    DeiTModel(DeiTConfig(**SHAPE, image_size=48)).save_pretrained(tmp_path / "deit")
    make().save_pretrained(tmp_path / "clippo")
    assert not is_vit(tmp_path / "deit") and not is_vit(tmp_path / "clippo")
    for kind in ("deit", "clippo"):
        with pytest.raises(ConversionError, match=f"{kind} is a model of type '{kind}'; only transformers' 'vit'"):
            load_vit(make(), tmp_path / kind)
    with pytest.raises(OSError, match="nowhere"):
        is_vit(tmp_path / "nowhere")


def test_a_vit_with_parameters_missing_is_refused(tmp_path):
    save_vit(tmp_path, qkv_bias=False)
    with pytest.raises(ConversionError, match=r"lacks 6 parameters of a ViT, such as that for .*q_proj\.bias"):
        load_vit(make(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "qkv_bias": True}))
    with pytest.raises(ConversionError, match=r"lacks 6 parameters of a ViT, such as .*bias"):
        load_vit(make(), tmp_path)


def vit_params(old: bool = False) -> dict[str, np.ndarray]:
    """A big_vision ViT with a class token: today's names, or those of the AugReg files."""
    torch.manual_seed(2)
    params = params_from_model(perturbed(make()))
    params = {key.removeprefix("img/"): array for key, array in params.items() if key.startswith("img/")}
    params = {key: array for key, array in params.items() if not key.startswith("MAPHead_0/")}
    random = np.random.RandomState(0)
    params["cls"] = random.randn(1, 1, 32).astype(np.float32)
    if not old:
        return params
    params["pre_logits/bias"] = np.zeros(32, np.float32)
    positions = params.pop("pos_embedding")
    cls_position = random.randn(1, 1, 32).astype(np.float32)
    params["Transformer/posembed_input/pos_embedding"] = np.concatenate([cls_position, positions], axis=1)
    numbers = {"MultiHeadDotProductAttention_0": "MultiHeadDotProductAttention_1"}
    numbers |= {"LayerNorm_1": "LayerNorm_2", "MlpBlock_0": "MlpBlock_3"}
    return {"/".join(numbers.get(part, part) for part in key.split("/")): array for key, array in params.items()}


@pytest.mark.parametrize("old", [False, True], ids=["today's names", "AugReg's names"])
def test_big_vision_files(tmp_path, old):
    np.savez(tmp_path / "vit.npz", **vit_params(old))
    model = make()
    assert is_vit(tmp_path / "vit.npz")
    report = load_vit(model, tmp_path / "vit.npz")
    loaded = params_from_model(model)
    for key, array in vit_params().items():
        if key not in ("cls", "head/kernel", "head/bias"):
            np.testing.assert_array_equal(loaded[f"img/{key}"], array)
    assert report.dropped == ("cls", "head/bias", "head/kernel", *(["pre_logits/bias"] if old else []))
    assert len(report.loaded) == len(vit_params()) - 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: p.pop("Transformer/encoder_norm/scale"),
            "lacks 1 parameters of a ViT, such as .*post_layer",
        ),
        (lambda p: p.pop("pos_embedding"), "is not a ViT of big_vision: it has no 'pos_embedding' of 3 axes"),
        (
            lambda p: p.update({"pos_embedding": np.zeros((1, 12, 32), np.float32)}),
            "12 positions; they do not form",
        ),
        (
            lambda p: p.update({"embedding/bias": np.zeros(3, np.float32)}),
            r"'embedding/bias' .* shape \(3,\), not",
        ),
    ],
)
def test_broken_big_vision_files_are_named(tmp_path, change, message):
    params = vit_params()
    change(params)
    np.savez(tmp_path / "vit.npz", **params)
    with pytest.raises(ConversionError, match=message):
        load_vit(make(), tmp_path / "vit.npz")
