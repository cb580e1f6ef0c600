"""Keywords of forward passes: unknown ones are refused, None is dropped, and PEFT works with every class."""

import pytest
import torch

import clippo

from ..tiny import tiny_model

CLASSES = [
    clippo.ClippoModel,
    clippo.ClippoVisionModel,
    clippo.ClippoForImageClassification,
    clippo.ClippoForSequenceClassification,
    clippo.ClippoForVisualQuestionAnswering,
]
every_class = pytest.mark.parametrize("model_class", CLASSES, ids=lambda model_class: model_class.__name__)
# Keywords that generic callers pass, and those that once reached the layers and clashed with their arguments.
OF_TEXT_MODELS = [
    *("attention_mask", "input_ids", "inputs_embeds", "token_type_ids", "position_ids", "head_mask", "use_cache"),
    *("hidden_states", "padding_mask", "query", "key", "value", "module", "scaling", "dropout", "is_causal"),
    *("key_value_states", "task_ids", "skip_blank_patches", "micro_batch_size", "pixel_value"),
]


def inputs(model) -> dict[str, torch.Tensor]:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    texts = clippo.ClippoTokenizer(canvas_size=64)(["a cat", "снег"], return_tensors="pt")["text_pixel_values"]
    both = {"pixel_values": images, "text_pixel_values": texts}
    return both if type(model) is clippo.ClippoModel else {model.main_input_name: both[model.main_input_name]}


def result(output) -> torch.Tensor:
    return next(output[name] for name in ("logits", "logits_per_image", "pooler_output") if name in output)


@every_class
def test_none_is_dropped_and_anything_else_refused(model_class):
    model = tiny_model(model_class)
    with torch.no_grad():
        expected = result(model(**inputs(model)))
        nothing = dict.fromkeys([*OF_TEXT_MODELS, "output_attentions", "output_hidden_states", "return_dict"])
        assert torch.equal(result(model(**inputs(model), **nothing)), expected)
        for name in OF_TEXT_MODELS:
            message = f"{model_class.__name__}.forward does not take {name}; pass only .*{model.main_input_name}"
            with pytest.raises(TypeError, match=message):
                model(**inputs(model), **{name: torch.ones(2, 16)})


@pytest.mark.parametrize("method", ["get_image_features", "get_text_features"])
def test_features_refuse_unknown_keywords_too(method):
    model = tiny_model()
    pixels = inputs(model)["pixel_values" if method == "get_image_features" else "text_pixel_values"]
    expected = getattr(model, method)(pixels).pooler_output
    assert torch.equal(getattr(model, method)(pixels, attention_mask=None).pooler_output, expected)
    with pytest.raises(TypeError, match=f"{method} does not take attention_mask, tokens; pass only"):
        getattr(model, method)(pixels, attention_mask=torch.ones(2, 16), tokens=3)


def test_an_unknown_modality_is_refused():
    with pytest.raises(ValueError, match="modality='audio' is not known; choose 'image' or 'text'"):
        tiny_model(clippo.ClippoVisionModel)(torch.zeros(1, 3, 64, 64), modality="audio")


@pytest.mark.parametrize("task_type", [None, "FEATURE_EXTRACTION", "SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"])
@every_class
def test_peft_trains_with_every_task_type(model_class, task_type):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    if task_type in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS") and not hasattr(model_class, "_classify"):
        modules = []  # PEFT would look for a classifier
    else:
        modules = None
    model = tiny_model(model_class)
    batch = inputs(model)
    with torch.no_grad():
        expected = result(model(**batch))
    options = {"target_modules": ["q_proj", "v_proj"], "modules_to_save": modules, "task_type": task_type}
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, **options))
    torch.testing.assert_close(result(adapted(**batch)), expected)  # the second matrix of LoRA is zero at first
    labels = {"labels": torch.tensor([0, 1])} if hasattr(model_class, "_classify") else {}
    output = adapted.train()(**batch, **labels)
    loss = output["loss"] if "loss" in output else output["pooler_output"].sum()
    loss.backward()
    gradients = {name: p.grad is not None for name, p in adapted.named_parameters() if p.requires_grad}
    assert all(gradients.values()) and any("lora_A" in name for name in gradients)


@pytest.mark.parametrize("task_type", ["CAUSAL_LM", "SEQ_2_SEQ_LM"])
def test_peft_says_that_clippo_does_not_generate(task_type):
    peft = pytest.importorskip("peft", reason="peft is not installed")
    with pytest.raises(AttributeError, match="has no attribute 'prepare_inputs_for_generation'"):
        peft.get_peft_model(tiny_model(), peft.LoraConfig(r=2, target_modules=["q_proj"], task_type=task_type))
