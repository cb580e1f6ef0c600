"""`import clippo` opens every stock way to load a folder, and what is saved comes back as it was."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForVisualQuestionAnswering,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    AutoTokenizer,
)

import clippo

TEXTS = ["a cat", "собака", "鳥"]
NEW_PROJECTION = {"logit_scale", "projection.weight", "projection.bias"}
NEW_CLASSIFIER = {"classifier.weight", "classifier.bias"}

# An 8x16 font of one letter, a box.
BOX_FONT = """STARTFONT 2.1
FONT -misc-box-medium-r-normal--16-160-75-75-c-80-iso10646-1
SIZE 16 75 75
FONTBOUNDINGBOX 8 16 0 -2
STARTPROPERTIES 4
FONT_ASCENT 14
FONT_DESCENT 2
CHARSET_REGISTRY "ISO10646"
CHARSET_ENCODING "1"
ENDPROPERTIES
CHARS 1
STARTCHAR a
ENCODING 97
SWIDTH 500 0
DWIDTH 8 0
BBX 8 4 0 0
BITMAP
FF
81
81
FF
ENDCHAR
ENDFONT
"""


@pytest.fixture(scope="module")
def folder(save_tiny):
    return save_tiny()


@pytest.fixture
def inputs(folder, photos):
    return clippo.ClippoProcessor.from_pretrained(folder)(images=photos, text=TEXTS, return_tensors="pt")


def files_of(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


@pytest.mark.parametrize(
    ("auto_class", "expected"),
    [
        (AutoConfig, clippo.ClippoConfig),
        (AutoModel, clippo.ClippoModel),
        (AutoModelForZeroShotImageClassification, clippo.ClippoModel),
        (AutoModelForImageClassification, clippo.ClippoForImageClassification),
        (AutoModelForSequenceClassification, clippo.ClippoForSequenceClassification),
        (AutoModelForVisualQuestionAnswering, clippo.ClippoForVisualQuestionAnswering),
        (AutoTokenizer, clippo.ClippoTokenizer),
        (AutoImageProcessor, clippo.ClippoImageProcessor),
        (AutoProcessor, clippo.ClippoProcessor),
    ],
)
def test_auto_classes_open_a_saved_folder(folder, auto_class, expected):
    assert type(auto_class.from_pretrained(folder)) is expected
    # The package wins over the copy of the code in the folder; only for tokenizers transformers prefers the copy.
    trusting = auto_class.from_pretrained(folder, trust_remote_code=True)
    assert type(trusting) is expected or (auto_class is AutoTokenizer and type(trusting).__name__ == "ClippoTokenizer")


def test_package_and_trusted_copy_go_together(folder, inputs, photos):
    """A script that always passes trust_remote_code=True gets the same inputs, whichever class draws them."""
    trusting = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    got = trusting(images=photos, text=TEXTS, return_tensors="pt")
    assert sorted(got) == sorted(inputs) and all(torch.equal(got[key], inputs[key]) for key in inputs)


def test_models_are_made_from_a_config(tiny_config):
    assert type(AutoModel.from_config(tiny_config())) is clippo.ClippoModel
    heads = {
        AutoModelForImageClassification: clippo.ClippoForImageClassification,
        AutoModelForSequenceClassification: clippo.ClippoForSequenceClassification,
    }
    for auto_class, head in heads.items():
        assert type(auto_class.from_config(tiny_config(num_labels=5))) is head


def test_there_is_one_set_of_classes():
    # Imported under a second name the model would have a second ClippoConfig that no Auto class knows.
    assert not {"modeling_clippo", "processing"} & set(sys.modules)
    assert clippo.ClippoModel.__module__ == "clippo.modeling_clippo.modeling_clippo"


def test_saving_twice_gives_the_same_bytes_and_outputs(folder, inputs, tmp_path):
    model = AutoModel.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    AutoProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    first, second = files_of(folder), files_of(tmp_path)
    assert {"model.safetensors", "config.json", "tokenizer_config.json", "processor_config.json", "font.zip"} <= set(
        first
    )
    assert sorted(first) == sorted(second)
    for name in first:
        assert first[name] == second[name], name
    with torch.no_grad():
        expected, got = model(**inputs), AutoModel.from_pretrained(tmp_path)(**inputs)
    assert expected.logits_per_image.std() > 0.1  # else any model would agree
    assert torch.equal(expected.logits_per_image, got.logits_per_image)


def test_parts_saved_alone_come_back_with_the_same_bytes(folder, tmp_path):
    for auto_class in (AutoTokenizer, AutoImageProcessor):
        once, twice = tmp_path / "once", tmp_path / "twice"
        auto_class.from_pretrained(folder).save_pretrained(once)
        auto_class.from_pretrained(once).save_pretrained(twice)
        assert files_of(once) == files_of(twice)


@pytest.mark.parametrize("name", ["ClippoForImageClassification", "ClippoForSequenceClassification"])
def test_a_model_opens_as_a_head_with_only_the_classifier_new(folder, inputs, log_messages, name):
    head, report = getattr(clippo, name).from_pretrained(folder, num_labels=3, output_loading_info=True)
    assert set(report["missing_keys"]) == NEW_CLASSIFIER and not report["unexpected_keys"]
    (message,) = [m for m in log_messages if "classifier.weight" in m]
    assert "classifier.bias" in message and "newly initialized" in message and "projection" not in message
    tower = clippo.ClippoModel.from_pretrained(folder).vision_model
    with torch.no_grad():
        logits = head(inputs[head.main_input_name]).logits
        expected = head.classifier(tower(inputs[head.main_input_name]).pooler_output)
    assert logits.shape == (3, 3) and torch.equal(logits, expected)


def test_a_model_opens_as_its_tower(folder, inputs):
    tower, report = clippo.ClippoVisionModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and set(report["unexpected_keys"]) == NEW_PROJECTION
    with torch.no_grad():
        expected = clippo.ClippoModel.from_pretrained(folder)(pixel_values=inputs["pixel_values"])
        assert torch.equal(tower(inputs["pixel_values"]).pooler_output, expected.pooler_output)


@pytest.mark.parametrize(
    "name", ["ClippoForImageClassification", "ClippoForSequenceClassification", "ClippoVisionModel"]
)
def test_a_head_or_tower_opens_as_a_model_with_a_new_projection(save_tiny, inputs, log_messages, name):
    saved = save_tiny(getattr(clippo, name))
    model, report = AutoModel.from_pretrained(saved, output_loading_info=True)
    unused = set() if name == "ClippoVisionModel" else NEW_CLASSIFIER
    assert type(model) is clippo.ClippoModel
    assert set(report["missing_keys"]) == NEW_PROJECTION and set(report["unexpected_keys"]) == unused
    assert any("projection.weight" in m and "newly initialized" in m for m in log_messages)
    assert model.logit_scale.exp().item() == pytest.approx(10)
    tower = clippo.ClippoVisionModel.from_pretrained(saved)
    with torch.no_grad():
        expected = tower(inputs["pixel_values"]).pooler_output
        assert torch.equal(model(pixel_values=inputs["pixel_values"]).pooler_output, expected)
        assert model(**inputs).logits_per_image.isfinite().all()


def test_one_head_opens_as_the_other(save_tiny, inputs):
    saved = save_tiny(clippo.ClippoForImageClassification, num_labels=4)
    head, report = AutoModelForSequenceClassification.from_pretrained(saved, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert head(inputs["text_pixel_values"]).logits.shape == (3, 4)


@pytest.mark.parametrize("name", ["ClippoModel", "ClippoForSequenceClassification"])
def test_saving_the_tower_leaves_no_trace_in_the_model(save_tiny, tmp_path, name):
    """Tower and model share one config object, which says what AutoModel opens in the saved folder."""
    folder = save_tiny(getattr(clippo, name))
    model = getattr(clippo, name).from_pretrained(folder)
    model.vision_model.save_pretrained(tmp_path / "tower")
    model.save_pretrained(tmp_path / "model")
    assert (tmp_path / "model" / "config.json").read_bytes() == (Path(folder) / "config.json").read_bytes()
    assert '"AutoModel": "modeling_clippo.ClippoVisionModel"' in (tmp_path / "tower" / "config.json").read_text()


@pytest.mark.parametrize("font", ["made here", "9.0.06"])
def test_the_folder_keeps_its_font(save_tiny, tmp_path, shared, font):
    source = tmp_path / "box.bdf"
    if font == "made here":
        source.write_text(BOX_FONT)
    else:
        source = shared("fonts", "unifont-9.0.06.hex")
    folder = save_tiny(font_file=str(source))
    expected = clippo.ClippoTokenizer(font_file=str(source), canvas_size=64)("aA", return_tensors="np")
    (tmp_path / "box.bdf").unlink(missing_ok=True)  # the folder has to do without

    loaded = AutoProcessor.from_pretrained(folder)
    again = tmp_path / "again"
    loaded.save_pretrained(again)
    for tokenizer in (loaded.tokenizer, AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(again)):
        drawn = tokenizer("aA", return_tensors="np")["text_pixel_values"]
        assert (drawn == expected["text_pixel_values"]).all()
    packaged = clippo.ClippoTokenizer(canvas_size=64)
    assert loaded.tokenizer.font_sha256 != packaged.font_sha256
    assert (packaged("aA", return_tensors="np")["text_pixel_values"] != expected["text_pixel_values"]).any() or (
        font == "9.0.06"  # Latin letters are the same in both releases
    )
    for name in ("font.zip", "tokenizer_config.json"):
        assert (again / name).read_bytes() == (Path(folder) / name).read_bytes()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_folder_loads_as_it_was_saved(save_tiny, folder, inputs, dtype):
    half = AutoModel.from_pretrained(save_tiny(dtype=dtype))
    assert half.dtype is dtype and half.config.dtype is dtype
    full = AutoModel.from_pretrained(folder)
    assert full.dtype is torch.float32
    with torch.no_grad():
        got, expected = half(**inputs), full(**inputs)
    assert got.logits_per_image.dtype is torch.float32  # cosines and temperature are taken in float32
    scale = full.logit_scale.exp().item()
    torch.testing.assert_close(got.logits_per_image, expected.logits_per_image, atol=0.02 * scale, rtol=0)
    assert AutoModel.from_pretrained(save_tiny(dtype=dtype), dtype="float32").dtype is torch.float32
