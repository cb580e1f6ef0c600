"""Features that transformers promises for every model: backends, outputs, checkpointing, placement, compilation."""

import copy
import pickle

import pytest
import torch

import clippo

from ..tiny import tiny_model

PATCHES, WIDTH, LAYERS, HEADS = 16, 32, 3, 4
SKIP = pytest.mark.parametrize("skip_blank_patches", [False, True], ids=["all-patches", "skip-blank"])


def make(model_class=clippo.ClippoModel, attention="sdpa", **overrides):
    return tiny_model(model_class, attention=attention, **{"num_hidden_layers": LAYERS, "num_labels": 3, **overrides})


@pytest.fixture(scope="module")
def inputs():
    """Five images, and five texts of unequal length, one of them empty."""
    torch.manual_seed(1)
    texts = ["a cat", "a longer text that fills several rows of the canvas", "鳥鳥鳥鳥鳥", "", "собака"]
    drawn = clippo.ClippoTokenizer(canvas_size=64)(texts, return_tensors="pt")
    return {"pixel_values": torch.rand(5, 3, 64, 64) * 2 - 1, **drawn}


# ------------------------------------------------------------------------------------------------ attention backends


@SKIP
def test_eager_and_sdpa_agree(inputs, skip_blank_patches):
    outputs, gradients = [], []
    for attention in ("eager", "sdpa"):
        model = make(attention=attention, skip_blank_patches=skip_blank_patches)
        output = model(**inputs, return_loss=True)
        output.loss.backward()
        outputs.append(output)
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    torch.testing.assert_close(outputs[0].to_tuple(), outputs[1].to_tuple(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-5, rtol=1e-4)


@SKIP
def test_flex_attention_agrees(inputs, skip_blank_patches):
    expected = make(skip_blank_patches=skip_blank_patches)
    model = make(attention="flex_attention", skip_blank_patches=skip_blank_patches)
    # transformers compiles flex attention; uncompiled it computes the same without a minute of C++.
    with torch.no_grad(), torch.compiler.set_stance("force_eager"):
        got = model(**inputs).logits_per_image
        torch.testing.assert_close(got, expected(**inputs).logits_per_image, atol=1e-4, rtol=1e-4)


def test_the_backend_is_chosen_once_for_all_parts(tmp_path, inputs):
    make().save_pretrained(tmp_path)
    model = clippo.ClippoModel.from_pretrained(tmp_path, attn_implementation="eager")
    parts = [module for module in model.modules() if hasattr(module, "config")]
    assert len(parts) > 5 and {module.config._attn_implementation for module in parts} == {"eager"}
    assert len(model(**inputs, output_attentions=True).text_model_output.attentions) == LAYERS
    model.set_attn_implementation("sdpa")
    assert {module.config._attn_implementation for module in parts} == {"sdpa"}


# --------------------------------------------------------------------------------------------------- recorded outputs


def check_recorded(output, batch=5):
    assert len(output.hidden_states) == LAYERS + 1 and len(output.attentions) == LAYERS
    assert all(state.shape == (batch, PATCHES, WIDTH) for state in output.hidden_states)
    assert all(weights.shape == (batch, HEADS, PATCHES, PATCHES) for weights in output.attentions)
    for weights in output.attentions:
        torch.testing.assert_close(weights.sum(-1), torch.ones(batch, HEADS, PATCHES))


def test_hidden_states_and_attentions_of_both_sides(inputs):
    model = make(attention="eager")
    ask = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        both = model(**inputs, **ask)
        plain = model(**inputs)
        alone = {key: model(**{key: value}, **ask) for key, value in inputs.items()}
    sides = {"pixel_values": both.vision_model_output, "text_pixel_values": both.text_model_output}
    for key, side in sides.items():
        check_recorded(side)
        torch.testing.assert_close(side.to_tuple(), alone[key].to_tuple())
        last = model.vision_model.post_layernorm(side.hidden_states[-1])
        torch.testing.assert_close(last, side.last_hidden_state)
        tokens, _ = model.vision_model.embeddings([(inputs[key], "image")])
        torch.testing.assert_close(side.hidden_states[0].flatten(0, 1), tokens[0])
    assert not torch.equal(both.vision_model_output.attentions[0], both.text_model_output.attentions[0])
    assert plain.vision_model_output.hidden_states is None and plain.text_model_output.attentions is None


def test_hidden_states_and_attentions_of_features_and_heads(inputs):
    ask = {"output_hidden_states": True, "output_attentions": True}
    model = make(attention="eager")
    check_recorded(model.get_image_features(inputs["pixel_values"], **ask))
    check_recorded(model.get_text_features(inputs["text_pixel_values"], **ask))
    for name in ("ClippoForImageClassification", "ClippoForSequenceClassification"):
        head = make(getattr(clippo, name), attention="eager")
        output = head(inputs[head.main_input_name], **ask)
        check_recorded(output)
        assert output.logits.shape == (5, 3)


def test_recording_may_be_asked_for_in_the_config(inputs):
    model = make(attention="eager", output_hidden_states=True, output_attentions=True)
    output = model(**inputs)
    check_recorded(output.text_model_output)
    check_recorded(output.vision_model_output)


def test_recording_does_not_change_the_result_when_blank_patches_are_skipped(inputs):
    model = make(attention="eager", skip_blank_patches=True)
    texts = clippo.ClippoTokenizer(canvas_size=64)(
        ["a cat", "two rows of ink", "鳥鳥", "", "собака"], return_tensors="pt"
    )
    inputs = {**inputs, **texts}
    with torch.no_grad():
        recorded = model(**inputs, output_hidden_states=True, output_attentions=True)
        torch.testing.assert_close(recorded.logits_per_image, model(**inputs).logits_per_image)
    states, weights = recorded.text_model_output.hidden_states, recorded.text_model_output.attentions
    kept = states[0].shape[1]
    assert kept < PATCHES and weights[0].shape == (5, HEADS, kept, kept)
    check_recorded(recorded.vision_model_output)


# ------------------------------------------------------------------------------------------------------------- tuples


def calls(inputs):
    """Every public forward as (model class, function of the model, keywords)."""
    images, texts = inputs["pixel_values"], inputs["text_pixel_values"]
    labels = torch.tensor([0, 1, 2, 0, 1])
    return [
        (clippo.ClippoModel, "forward", dict(inputs, return_loss=True)),
        (clippo.ClippoModel, "forward", dict(pixel_values=images)),
        (clippo.ClippoModel, "forward", dict(text_pixel_values=texts)),
        (clippo.ClippoModel, "get_image_features", dict(pixel_values=images)),
        (clippo.ClippoModel, "get_text_features", dict(text_pixel_values=texts)),
        (clippo.ClippoVisionModel, "forward", dict(pixel_values=images)),
        (clippo.ClippoForImageClassification, "forward", dict(pixel_values=images, labels=labels)),
        (clippo.ClippoForSequenceClassification, "forward", dict(text_pixel_values=texts, labels=labels)),
    ]


@pytest.mark.parametrize("index", range(8))
def test_a_tuple_on_request(inputs, index):
    model_class, name, keywords = calls(inputs)[index]
    model = make(model_class)
    method = model if name == "forward" else getattr(model, name)
    with torch.no_grad():
        expected = method(**keywords).to_tuple()
        got = method(**keywords, return_dict=False)
        assert type(got) is tuple
        torch.testing.assert_close(got, expected)
        model.config.return_dict = False
        got = method(**keywords)
        assert type(got) is tuple
        torch.testing.assert_close(got, expected)


# ----------------------------------------------------------------------------------------------------------- training


@SKIP
@pytest.mark.parametrize("options", [None, {"use_reentrant": False}])
def test_gradient_checkpointing_gives_equal_gradients(inputs, skip_blank_patches, options):
    gradients, runs = [], []
    for checkpointing in (False, True):
        model = make(skip_blank_patches=skip_blank_patches).train()
        if checkpointing:
            model.gradient_checkpointing_enable(options)
        count = []
        first = model.vision_model.encoder.layers[0].self_attn
        first.register_forward_hook(lambda *_, count=count: count.append(1))
        model(**inputs).loss.backward()
        runs.append(len(count))
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert runs[1] == 2 * runs[0]  # every block really ran again in the backward pass
    assert all(gradient is not None for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_every_parameter_of_a_head_is_used(inputs):
    for name in ("ClippoForImageClassification", "ClippoForSequenceClassification"):
        head = make(getattr(clippo, name)).train()
        head(inputs[head.main_input_name], labels=torch.tensor([0, 1, 2, 0, 1])).loss.backward()
        assert all(parameter.grad is not None for parameter in head.parameters())


@pytest.mark.parametrize(
    ("num_labels", "labels", "loss"),
    [
        (3, torch.tensor([0, 1, 2, 0, 1]), torch.nn.functional.cross_entropy),
        (1, torch.tensor([0.5, 1.0, -2.0, 0.0, 3.0]), lambda x, y: torch.nn.functional.mse_loss(x[:, 0], y)),
        (3, torch.eye(5, 3), torch.nn.functional.binary_cross_entropy_with_logits),
    ],
    ids=["classes", "regression", "several-labels"],
)
@pytest.mark.parametrize("name", ["ClippoForImageClassification", "ClippoForSequenceClassification"])
def test_the_labels_decide_the_loss_of_a_head(inputs, name, num_labels, labels, loss):
    head = make(getattr(clippo, name), num_labels=num_labels)
    output = head(inputs[head.main_input_name], labels=labels)
    torch.testing.assert_close(output.loss, loss(output.logits, labels))


def test_the_input_layer_is_the_patch_projection():
    for name in ("ClippoModel", "ClippoForImageClassification", "ClippoForSequenceClassification"):
        model = make(getattr(clippo, name))
        assert model.get_input_embeddings() is model.vision_model.embeddings.patch_embedding
        assert model.base_model is model.vision_model


# ---------------------------------------------------------------------------------------------------------- placement


@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}], ids=["auto", "cpu", "dict"])
def test_device_maps(tmp_path, inputs, device_map):
    model = make()
    model.save_pretrained(tmp_path)
    placed = clippo.ClippoModel.from_pretrained(tmp_path, device_map=device_map)
    with torch.no_grad():
        torch.testing.assert_close(placed(**inputs).logits_per_image.cpu(), model(**inputs).logits_per_image)


def test_a_model_larger_than_memory_is_spread(tmp_path, inputs):
    """Blocks that do not fit into memory are on disk, and every module has its parameters when it runs."""
    model = make()
    model.save_pretrained(tmp_path / "model")
    spread = clippo.ClippoModel.from_pretrained(
        tmp_path / "model", device_map="auto", max_memory={"cpu": 200_000}, offload_folder=tmp_path / "offload"
    )
    assert set(spread.hf_device_map.values()) == {"cpu", "disk"}
    with torch.no_grad():
        torch.testing.assert_close(spread(**inputs).logits_per_image, model(**inputs).logits_per_image)


def test_a_model_without_memory_is_filled_by_loading(tmp_path, inputs):
    model = make()
    model.save_pretrained(tmp_path)
    with torch.device("meta"):
        empty = clippo.ClippoModel(model.config)
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    empty.load_state_dict(model.state_dict(), assign=True)
    loaded = clippo.ClippoModel.from_pretrained(tmp_path)
    assert {tensor.device.type for tensor in (*loaded.parameters(), *loaded.buffers())} == {"cpu"}
    with torch.no_grad():
        expected = model(**inputs).logits_per_image
        assert torch.equal(loaded(**inputs).logits_per_image, expected)
        assert torch.equal(empty.eval()(**inputs).logits_per_image, expected)


def test_copies_and_pickles(inputs):
    model = make()
    with torch.no_grad():
        expected = model(**inputs).logits_per_image
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(**inputs).logits_per_image, expected)


# -------------------------------------------------------------------------------------------------------- compilation


@pytest.mark.parametrize("canvas_format", ["uint8", "packed"])
def test_compiles_without_graph_breaks(inputs, canvas_format):
    """fullgraph=True raises at the first graph break. The eager backend limits the test to tracing."""
    tokenizer = clippo.ClippoTokenizer(canvas_size=64, canvas_format=canvas_format)
    batch = {**inputs, **tokenizer(["a", "b", "c", "d", "e"], return_tensors="pt")}
    model = make().train()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(**batch).loss, model(**batch).loss)
    with torch.no_grad():
        expected = model.eval()(**batch).logits_per_image
        torch.testing.assert_close(compiled(**batch).logits_per_image, expected)


def test_skipping_blank_patches_compiles_in_pieces(inputs):
    """The number of kept patches depends on the data, so the graph breaks there. The result is the same."""
    model = make(skip_blank_patches=True)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(**inputs).logits_per_image, model(**inputs).logits_per_image)
