"""The converter, compared with the official format and with recorded outputs of the official model."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModel, AutoProcessor

import clippo  # noqa: F401 - registers the Auto classes
from clippo.conversion import (
    check_folder,
    convert_checkpoint,
    export_checkpoint,
    infer_config,
    model_from_params,
    params_from_model,
    weight_table,
)
from clippo.conversion.npz import ConversionError, read_checkpoint
from clippo.modeling_clippo import ClippoConfig, ClippoForImageClassification, ClippoModel

from .archives import assert_same, write

GOLDENS = Path(__file__).resolve().parents[2] / "goldens"
TINY = GOLDENS / "tiny_params.npz"
BLOCK = "img/Transformer/encoderblock_0"


@pytest.fixture(scope="module")
def params():
    return read_checkpoint(TINY)


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """Folder and report of the tiny golden model, converted once."""
    folder = tmp_path_factory.mktemp("converted") / "tiny"
    return folder, convert_checkpoint(TINY, folder, font="default")


def official_inputs() -> tuple[dict, dict]:
    """Recorded outputs of the official model, and its inputs as keyword arguments of `ClippoModel`."""
    with np.load(GOLDENS / "tiny_io.npz") as archive:
        recorded = {key: archive[key] for key in archive.files}
    pixels = {
        "pixel_values": torch.from_numpy(recorded["images_uint8"]).permute(0, 3, 1, 2),
        "text_pixel_values": torch.from_numpy(recorded["texts_uint8"]).permute(0, 3, 1, 2),
    }
    return recorded, pixels


def difference(actual: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(actual.detach().float().numpy() - expected).max())


# The table


def test_the_table_names_every_parameter_of_b16():
    config = ClippoConfig()
    with torch.device("meta"):
        tensors = ClippoModel(config).state_dict()
    table = weight_table(config)
    assert {weight.name for weight in table} == set(tensors)
    assert len(table) == len({weight.key for weight in table}) == 215
    assert sum(np.prod(weight.shape) for weight in table) == 93_474_817


@settings(max_examples=15, deadline=None)
@given(
    heads=st.integers(1, 4),
    head_width=st.integers(1, 5),
    mlp=st.integers(1, 9),
    layers=st.integers(1, 3),
    projection=st.integers(1, 7),
    patch=st.integers(1, 4),
    side=st.integers(1, 3),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape_survives_the_round_trip(heads, head_width, mlp, layers, projection, patch, side, channels, seed):
    config = ClippoConfig(
        hidden_size=heads * head_width,
        intermediate_size=mlp,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        image_size=side * patch,
        patch_size=patch,
        num_channels=channels,
        projection_dim=projection,
    )
    random = np.random.RandomState(seed)
    params = {weight.key: random.standard_normal(weight.shape).astype(np.float32) for weight in weight_table(config)}
    assert infer_config(params).to_dict() == config.to_dict()
    assert_same(params_from_model(model_from_params(params)), params)


# Config and outputs


def test_config_is_read_off_the_shapes(params):
    config = infer_config(params)
    assert (config.hidden_size, config.num_hidden_layers, config.intermediate_size) == (64, 2, 128)
    assert (config.num_attention_heads, config.patch_size, config.image_size) == (4, 16, 64)
    assert (config.projection_dim, config.num_channels) == (32, 3)


def test_outputs_of_the_converted_model_are_the_official_ones(converted):
    folder, _ = converted
    recorded, pixels = official_inputs()
    output = AutoModel.from_pretrained(folder).eval()(**pixels, return_loss=True)
    assert difference(output.image_embeds, recorded["zimg"]) < 5e-6
    assert difference(output.text_embeds, recorded["ztxt"]) < 5e-6
    assert difference(output.logits_per_image, recorded["logits_per_image"]) < 2e-5  # cosines times exp(t) = 20
    assert difference(output.loss, recorded["loss"]) < 5e-6


def test_outputs_of_a_full_training_checkpoint(shared):
    _, pixels = official_inputs()
    model = model_from_params(read_checkpoint(shared("goldens", "tiny", "checkpoint_full.npz")))
    with np.load(shared("goldens", "tiny", "train5.npz")) as recorded:
        output = model(**pixels, return_loss=True)
        assert difference(output.image_embeds, recorded["zimg"]) < 5e-6
        assert difference(output.text_embeds, recorded["ztxt"]) < 5e-6
        assert difference(output.loss, recorded["final_loss"]) < 5e-6


@pytest.mark.parametrize("side", [3, 6, 8])
def test_positions_are_resampled_as_the_official_loader_does(side, shared, params):
    with np.load(shared("goldens", "tiny", "posemb_resample.npz")) as recorded:
        old, new = recorded["old_4x4"], recorded[f"new_{side}x{side}"]
    model = model_from_params({**params, "img/pos_embedding": old}, resolution=side * 16)
    assert difference(model.vision_model.embeddings.position_embedding, new) < 1e-6


def test_outputs_at_another_resolution(shared, tmp_path):
    report = convert_checkpoint(TINY, tmp_path, resolution=96, font="default")
    assert {stage.stage: stage.numbers for stage in report.stages}["positions"] == 36 * 64
    model = AutoModel.from_pretrained(tmp_path).eval()
    assert model.config.image_size == 96
    with np.load(shared("goldens", "tiny", "io_96px_resampled.npz")) as recorded:
        images = torch.from_numpy(recorded["images"]).permute(0, 3, 1, 2)
        features = model.get_image_features(images).pooler_output
        assert difference(torch.nn.functional.normalize(features), recorded["zimg"]) < 5e-6
    text = AutoProcessor.from_pretrained(tmp_path)(text="a", return_tensors="pt")
    assert text.text_pixel_values.shape[-2:] == (96, 96)


def test_a_canvas_need_not_be_square(params):
    model = model_from_params(params, resolution=(32, 96))
    assert model.config.canvas_size == model.vision_model.config.canvas_size == (32, 96)
    assert model.get_image_features(torch.zeros(1, 3, 32, 96)).pooler_output.shape == (1, 32)


# Folders and back


@pytest.mark.parametrize("name", ["params_only", "params_prefixed", "checkpoint_full"])
def test_npz_to_folder_to_npz_is_equal(name, shared, tmp_path):
    source = shared("goldens", "tiny", f"{name}.npz")
    layout = "bare" if name == "params_only" else "params"
    convert_checkpoint(source, tmp_path / "folder", font="default")
    export_checkpoint(tmp_path / "folder", tmp_path / "back.npz", layout)
    with np.load(source) as before, np.load(tmp_path / "back.npz") as after:
        assert_same(dict(after), {key: before[key] for key in before.files if not key.startswith(("opt/", "chrono/"))})


def test_report_tells_every_stage(converted, params):
    _, report = converted
    names = ["patch embedding", "positions", "block 0", "block 1", "encoder norm", "MAP head"]
    names += ["projection", "temperature"]
    assert [stage.stage for stage in report.stages] == names
    assert sum(stage.tensors for stage in report.stages) == 55
    assert sum(stage.numbers for stage in report.stages) == 152_801
    temperature = report.stages[-1]
    assert temperature.norm == pytest.approx(abs(float(params["t"][0])))
    assert report.temperature == pytest.approx(20.14, abs=0.01)
    lines = str(report).splitlines()
    assert len(lines) == 1 + len(names) + 2
    assert all(line.endswith("equal") and name in line for name, line in zip(names, lines[1:], strict=False))


def test_saved_processor_fits_the_model(converted):
    folder, _ = converted
    model, processor = AutoModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    inputs = processor(images=Image.new("RGB", (30, 50), "red"), text=["red", "blue"], return_tensors="pt")
    assert model(**inputs).logits_per_image.shape == (1, 2)


def test_lower_precision_is_rounded_once(params, tmp_path):
    report = convert_checkpoint(TINY, tmp_path / "folder", dtype="bfloat16", font="default")
    assert "equal after rounding to bfloat16" in str(report)
    assert AutoModel.from_pretrained(tmp_path / "folder").dtype == torch.bfloat16
    written = export_checkpoint(tmp_path / "folder", tmp_path / "back.npz")
    assert_same(written, {key: torch.from_numpy(a).bfloat16().float().numpy() for key, a in params.items()})


def test_official_font_travels_with_the_checkpoint(shared, tmp_path):
    fonts = shared("fonts")
    convert_checkpoint(TINY, tmp_path, resolution=224, font=fonts)
    with zipfile.ZipFile(tmp_path / "font.zip") as archive:
        for name in ("unifont-9.0.06.hex", "unifont_upper-9.0.06.hex"):
            assert archive.read(name) == (fonts / name).read_bytes()
    strings = json.loads(shared("goldens", "render_strings.json").read_text())
    texts = {item["name"]: item["text"] for item in strings}
    with np.load(shared("goldens", "render_224.npz")) as recorded:
        hindi = recorded["images"][list(recorded["names"]).index("hindi")]  # one that Unifont 15 draws otherwise
    canvas = AutoProcessor.from_pretrained(tmp_path)(text=texts["hindi"], return_tensors="np").text_pixel_values
    np.testing.assert_array_equal(canvas.reshape(224, 224), hindi)
    for file in tmp_path.glob("*.json"):
        assert str(fonts) not in file.read_text(), f"{file.name} remembers a path of this machine"


def test_self_check_sees_one_changed_number(converted, params, tmp_path):
    folder, _ = converted
    changed = {key: array.copy() for key, array in params.items()}
    changed["img/MAPHead_0/probe"][0, 0, 5] *= -1
    with pytest.raises(ConversionError, match=r"'img/MAPHead_0/probe' came back .* with other numbers"):
        check_folder(folder, changed, torch.float32)


def test_a_checkpoint_with_nan_is_refused(params, tmp_path):
    params = {**params, "t": np.array([np.nan], np.float32)}
    with pytest.raises(ConversionError, match="not finite"):
        convert_checkpoint(write(tmp_path / "x.npz", params), tmp_path / "folder", font="default")


# Errors


def test_empty_archive(tmp_path):
    with pytest.raises(ConversionError, match="has no 'img/embedding/kernel'"):
        infer_config(read_checkpoint(write(tmp_path / "x.npz", {})))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"img/head/bias": (33,)}, r"'img/head/bias' has shape \(33,\); the other parameters imply \(32,\)"),
        ({f"{BLOCK}/MlpBlock_0/Dense_1/kernel": (64, 128)}, r"Dense_1/kernel' has shape \(64, 128\); .* \(128, 64\)"),
        ({"img/embedding/kernel": (16, 8, 3, 64)}, "16x8 patches; CLIPPO's are square"),
        ({"img/embedding/kernel": (16, 16, 64)}, r"its axes should be \(patch, patch, channels, width\)"),
        ({"img/pos_embedding": (1, 15, 64)}, "15 positions, which do not form a square grid"),
        ({f"{BLOCK}/MultiHeadDotProductAttention_0/query/kernel": (64, 3, 16)}, "64, cannot be split into 3 heads"),
        ({"t": ()}, r"'t' has shape \(\); the other parameters imply \(1,\)"),
        ({"img/cls": (1, 1, 64)}, "has 'img/cls'; a CLIPPO model has no such parameter"),
        ({"t": None}, "lacks 't'"),
        ({"img/head/kernel": None}, "has no 'img/head/kernel'"),
        ({"img/Transformer/encoderblock_4/LayerNorm_0/bias": (64,)}, "lacks 'img/Transformer/encoderblock_2/.* more"),
    ],
    ids=lambda value: next(iter(value)).rpartition("/")[2] if isinstance(value, dict) else "",
)
def test_wrong_parameters_are_named(change, message, params):
    broken = dict(params)
    for key, shape in change.items():
        if shape is None:
            del broken[key]
        else:
            broken[key] = np.zeros(shape, np.float32)
    with pytest.raises(ConversionError, match=message):
        infer_config(broken)


@pytest.mark.parametrize("resolution", [100, 0, (64, 70), (64, 64, 64)])
def test_impossible_resolutions(resolution, params):
    with pytest.raises(ConversionError, match=r"is not a multiple of patch_size=16"):
        model_from_params(params, resolution)


@pytest.mark.parametrize(
    ("field", "value"), [("hidden_act", "gelu"), ("layer_norm_eps", 1e-5), ("skip_blank_patches", True)]
)
def test_models_the_official_code_cannot_run_are_not_exported(field, value, params, tmp_path):
    model = model_from_params(params)
    setattr(model.config, field, value)
    model.save_pretrained(tmp_path)
    with pytest.raises(ConversionError, match=re.escape(f"has {field}={value!r}; the official code only has")):
        export_checkpoint(tmp_path, tmp_path / "x.npz")


def test_a_grid_that_is_not_square_is_not_exported(params, tmp_path):
    model_from_params(params, resolution=(32, 96)).save_pretrained(tmp_path)
    with pytest.raises(ConversionError, match="2x6 grid of positions"):
        export_checkpoint(tmp_path, tmp_path / "x.npz")


def test_a_classifier_is_not_exported(params, tmp_path):
    ClippoForImageClassification(infer_config(params)).save_pretrained(tmp_path)
    with pytest.raises(ConversionError, match="is not a plain ClippoModel: missing keys 'logit_scale'"):
        export_checkpoint(tmp_path, tmp_path / "x.npz")


def test_a_bias_has_no_place_in_the_official_model(params, tmp_path):
    """The error names it; a model without a bias is written unchanged."""
    sigmoid = {"loss_type": "sigmoid", "logit_bias_init_value": -10.0}
    config = ClippoConfig(**{**infer_config(params).to_dict(), **sigmoid})
    ClippoModel(config).save_pretrained(tmp_path / "sigmoid")
    with pytest.raises(ConversionError, match=r"The model has a logit_bias .* no such parameter"):
        export_checkpoint(tmp_path / "sigmoid", tmp_path / "x.npz")
    softmax = {"loss_type": "softmax", "logit_bias_init_value": None}
    ClippoModel.from_pretrained(tmp_path / "sigmoid", **softmax).save_pretrained(tmp_path / "softmax")
    assert set(export_checkpoint(tmp_path / "softmax", tmp_path / "x.npz")) == set(params)


def test_bad_arguments(tmp_path):
    with pytest.raises(ConversionError, match=r"no config.json"):
        export_checkpoint(tmp_path, tmp_path / "x.npz")
    with pytest.raises(ConversionError, match="Unknown dtype 'int8'"):
        convert_checkpoint(TINY, tmp_path, dtype="int8")
    with pytest.raises(ConversionError, match="is a file; name a folder"):
        convert_checkpoint(TINY, TINY)
