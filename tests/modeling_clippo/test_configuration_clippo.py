"""ClippoConfig: presets, values that are refused, and entries of other code that are not carried on."""

import json

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError

from clippo import ClippoConfig, ClippoForVisualQuestionAnswering, ClippoModel, ClippoVisionModel
from clippo.modeling_clippo.config_checks_clippo import BOUNDS
from clippo.modeling_clippo.configuration_clippo import AUTO_MAP

from ..tiny import save_tiny, tiny_config, tiny_model

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(image_size=100), "image_size=100 is not a multiple of patch_size=16"),
        (dict(image_size=[64, 64, 3]), "is not a canvas; give one side, or"),
        (dict(image_size=0), "image_size=0 is not a multiple"),
        (dict(image_size=10**6), "image_size=1000000 with patch_size=16 has 3906250000 patches; at most 65536"),
        (dict(image_size=[16, 16 * 10**5]), "has 100000 patches; at most 65536 are possible. Give a smaller canvas"),
        (dict(patch_size=-16, image_size=64), "not a multiple of patch_size=-16"),
        (dict(hidden_size=30), "hidden_size=30 is not divisible by num_attention_heads=12"),
        (dict(hidden_size="wide"), "hidden_size"),
        (dict(num_attention_heads=0), "num_attention_heads=0"),
        (dict(position_embedding_init="rope"), "position_embedding_init='rope' is not known"),
        (dict(position_embedding_init="sincos2d", hidden_size=30, num_attention_heads=2), "that 4 divides, got 30"),
        (dict(num_hidden_layers=-1), "num_hidden_layers=-1 is not possible; give a number from 1 to 1024"),
        (dict(intermediate_size=0), "intermediate_size=0 is not possible"),
        (dict(num_channels=0), "num_channels=0 is not possible"),
        (dict(projection_dim=-3), "projection_dim=-3 is not possible"),
        (dict(hidden_size=12 * 10**9), "hidden_size=12000000000 is not possible; give a number from 1 to 65536"),
        (dict(attention_dropout=1.0), "attention_dropout=1.0 is not a dropout; give a number from 0 to below 1"),
        (dict(classifier_dropout=-0.1), "classifier_dropout=-0.1 is not a dropout"),
        (dict(layer_norm_eps=0), "layer_norm_eps=0 is not positive"),
        (dict(layer_norm_eps=NAN), "layer_norm_eps=nan is not positive"),
        (dict(initializer_range=-1), "initializer_range=-1 is not a standard deviation"),
        (dict(logit_scale_init_value=INFINITY), "logit_scale_init_value=inf is not finite"),
        (dict(logit_bias_init_value=NAN), "logit_bias_init_value=nan is not finite"),
        (dict(hidden_act="gelu_tnah"), "hidden_act='gelu_tnah' is not an activation; choose one of"),
        (dict(loss_type="hinge"), "loss_type='hinge' is not known; choose 'softmax' or 'sigmoid'"),
        (dict(loss_type="sigmoid"), "loss_type='sigmoid' needs a bias"),
        (dict(logit_scale_max=0), "logit_scale_max=0 is not positive"),
        (dict(num_text_canvases=3), "num_text_canvases=3 is not known"),
        (dict(classifier_hidden_size=0), "classifier_hidden_size=0 is not positive"),
    ],
    ids=str,
)
def test_impossible_configs_are_refused(fields, message):
    error = Exception if fields.get("hidden_size") == "wide" else StrictDataclassClassValidationError
    with pytest.raises(error, match=message):
        ClippoConfig(**fields)


def test_every_integer_field_that_sets_a_size_has_bounds():
    integers = {name for name, kind in ClippoConfig.__annotations__.items() if kind is int}
    below_num_experts = {"num_experts_per_tok", "router_min_image_experts", "router_min_text_experts"}
    assert integers - BOUNDS.keys() - below_num_experts == {"num_text_canvases"}


@pytest.mark.parametrize(("name", "field"), [("hiden_size", "hidden_size"), ("image_sise", "image_size")])
def test_misspelt_fields_are_refused(name, field, tmp_path):
    for make in (ClippoConfig, lambda **fields: ClippoConfig.from_preset("Ti/16", **fields)):
        with pytest.raises(TypeError, match=f"ClippoConfig has no field '{name}'; did you mean '{field}'"):
            make(**{name: 32})
    assert ClippoConfig(num_labels=3, note="mine").note == "mine"
    tiny_model().save_pretrained(tmp_path)
    change(tmp_path, **{name: 32})  # a file may be of a later version
    assert ClippoConfig.from_pretrained(tmp_path).hidden_size == 32


def test_presets():
    assert ClippoConfig.from_preset("B/16", skip_blank_patches=False).to_dict() == ClippoConfig().to_dict()
    assert ClippoConfig.from_preset("B/16").skip_blank_patches and not ClippoConfig().skip_blank_patches
    large = ClippoConfig.from_preset("L/14", image_size=224, projection_dim=1024)
    assert (large.hidden_size, large.num_hidden_layers, large.patch_grid) == (1024, 24, (16, 16))
    with pytest.raises(ValueError, match="Unknown preset 'XL/16'"):
        ClippoConfig.from_preset("XL/16")


# ---------------------------------------------------------------------------------------------- entries of other code

HOSTILE = {
    "auto_map": {
        "AutoConfig": "evil.Config",
        "AutoModel": "somebody/other--evil.Model",
        "AutoModelForImageClassification": "modeling_clippo.ClippoForImageClassification",
        "AutoModelForCausalLM": "modeling_clippo.ClippoModel",
    },
    "custom_pipelines": {"visual-question-answering": {"impl": "evil.Pipe", "pt": [], "type": "text"}},
}


def change(folder, **entries):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **entries}))


def read(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("model_class", [ClippoModel, ClippoForVisualQuestionAnswering])
def test_foreign_code_is_not_carried_on(model_class, tmp_path, log_messages):
    """A hostile folder, opened without trust and saved again, must not pass its entries on to the new folder."""
    save_tiny(tmp_path, model_class)
    clean = read(tmp_path)
    change(tmp_path, **HOSTILE)
    (tmp_path / "evil.py").write_text("raise SystemExit('the code of the folder ran')")
    model = model_class.from_pretrained(tmp_path)
    assert any(
        all(entry in message for entry in ("'AutoConfig'", "other--evil.Model", "'AutoModelForCausalLM'", "evil.Pipe"))
        and "'AutoModelForImageClassification'" not in message
        for message in log_messages
    )
    assert model.config.auto_map == AUTO_MAP
    model.save_pretrained(tmp_path / "again")
    model.config.save_pretrained(tmp_path / "config")
    assert read(tmp_path / "again") == clean
    assert read(tmp_path / "config") == clean
    assert not (tmp_path / "again" / "evil.py").exists()


def test_own_entries_are_silent_with_and_without_a_repository(tmp_path, log_messages):
    """transformers puts the name of the repository before each entry that it loads from the hub."""
    save_tiny(tmp_path, ClippoForVisualQuestionAnswering)
    clean = read(tmp_path)
    pipelines = json.loads(json.dumps(clean["custom_pipelines"]))
    pipelines["visual-question-answering"]["impl"] = "me/mine--pipeline_clippo.ClippoVisualQuestionAnsweringPipeline"
    change(tmp_path, auto_map={k: f"me/mine--{v}" for k, v in AUTO_MAP.items()}, custom_pipelines=pipelines)
    model = ClippoForVisualQuestionAnswering.from_pretrained(tmp_path)
    assert not [message for message in log_messages if "Dropped" in message]
    model.save_pretrained(tmp_path / "again")
    assert read(tmp_path / "again") == clean


def test_a_tower_names_itself_and_leaves_the_config_of_its_model_alone(tmp_path):
    model = tiny_model()
    model.vision_model.save_pretrained(tmp_path / "tower")
    assert read(tmp_path / "tower")["auto_map"]["AutoModel"] == "modeling_clippo.ClippoVisionModel"
    model.save_pretrained(tmp_path / "model")
    assert read(tmp_path / "model")["auto_map"] == AUTO_MAP
    assert ClippoVisionModel.from_pretrained(tmp_path / "tower").config.auto_map["AutoModel"].endswith("VisionModel")
    assert tiny_config().auto_map == AUTO_MAP
