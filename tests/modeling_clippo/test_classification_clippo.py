"""Classification heads: pairs on two canvases, the hidden layer, losses against their formulas, wrong labels."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import clippo

from ..tiny import tiny_model

FIRSTS, SECONDS = ["a cat", "", "снег и лёд", "鳥"], ["a dog", "犬", "", "a longer text"]


def make(**overrides):
    return tiny_model(clippo.ClippoForSequenceClassification, **{"num_labels": 3, **overrides})


def pixels(layout="two_canvas", canvas_format="uint8"):
    tokenizer = clippo.ClippoTokenizer(canvas_size=64, pair_layout=layout, canvas_format=canvas_format)
    return tokenizer(FIRSTS, SECONDS, return_tensors="pt")["text_pixel_values"]


@pytest.mark.parametrize("canvas_format", ["uint8", "float", "packed"])
@pytest.mark.parametrize("skip", [False, True])
def test_two_canvases_are_read_one_by_one(canvas_format, skip):
    model = make(num_text_canvases=2, skip_blank_patches=skip)
    assert model.classifier.in_features == 4 * 32
    tokenizer = clippo.ClippoTokenizer(canvas_size=64)
    with torch.no_grad():
        u, v = (
            model.vision_model(tokenizer(texts, return_tensors="pt")["text_pixel_values"], modality="text")
            .pooler_output
            for texts in (FIRSTS, SECONDS)
        )  # fmt: skip
        u, v = ((x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() for x in (u, v))
        expected = model.classifier(torch.cat([u, v, (u - v).abs(), u * v], -1))
        got = model(pixels(canvas_format=canvas_format)).logits
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_swapping_the_texts_swaps_what_the_head_sees():
    model = make(num_text_canvases=2)
    tokenizer = clippo.ClippoTokenizer(canvas_size=64, pair_layout="two_canvas")
    with torch.no_grad():
        model.classifier.weight[:, 32:64] = model.classifier.weight[:, :32]  # blind to the order
        one = model(**tokenizer(FIRSTS, SECONDS, return_tensors="pt")).logits
        other = model(**tokenizer(SECONDS, FIRSTS, return_tensors="pt")).logits
    torch.testing.assert_close(one, other)
    assert one.std(0).min() > 1e-3


@pytest.mark.parametrize(
    "values", [torch.zeros(2, 1, 64, 64, dtype=torch.uint8), torch.zeros(2, 4, 16, dtype=torch.int64)]
)
def test_a_single_canvas_is_no_pair(values):
    with pytest.raises(
        ValueError, match='got 64 pixels; give the tokenizer text and text_pair, with pair_layout="two_'
    ):
        make(num_text_canvases=2)(values)
    with pytest.raises(ValueError, match="128x64 pixels was given to a model of"):
        make()(torch.cat([values, values], -2))


def test_a_hidden_layer_is_dropout_linear_tanh():
    model = make(classifier_hidden_size=16, classifier_dropout=0.5)
    values = pixels("rows")
    with torch.no_grad():
        pooled = model.vision_model(values).pooler_output
        hidden = model.classifier_hidden.linear(pooled).tanh()
        torch.testing.assert_close(model(values).logits, model.classifier(hidden))
        model.train()
        assert not torch.equal(model(values).logits, model(values).logits)


@pytest.mark.parametrize("options", [{}, {"classifier_hidden_size": 16}, {"num_text_canvases": 2}], ids=str)
def test_every_head_loads_a_model_and_trains_all_it_has(options, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    model, info = clippo.ClippoForSequenceClassification.from_pretrained(
        tmp_path, num_labels=3, output_loading_info=True, **options
    )
    assert {name.partition(".")[0] for name in info["missing_keys"]} <= {"classifier", "classifier_hidden"}
    assert not info["unexpected_keys"]
    layout = "two_canvas" if options.get("num_text_canvases") == 2 else "rows"
    model.train()(pixels(layout), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name  # DDP waits for every parameter

    model.eval().save_pretrained(tmp_path / "head")
    loaded = clippo.ClippoForSequenceClassification.from_pretrained(tmp_path / "head")
    with torch.no_grad():
        torch.testing.assert_close(loaded(pixels(layout)).logits, model(pixels(layout)).logits)


def test_a_config_without_the_new_fields_is_the_old_head(tmp_path):
    make().save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    for name in ("classifier_hidden_size", "num_text_canvases"):
        config.pop(name)
    file.write_text(json.dumps(config))
    loaded, info = clippo.ClippoForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    torch.testing.assert_close(loaded(pixels("rows")).logits, make()(pixels("rows")).logits)


# ------------------------------------------------------------------------------------------------------------ losses


def test_the_problem_type_is_inferred_as_in_transformers():
    values = pixels("rows")
    model = make(num_labels=1)
    output = model(values, labels=torch.tensor([0, 1, 2, 5]))  # whole numbers are numbers too
    torch.testing.assert_close(output.loss, F.mse_loss(output.logits[:, 0], torch.tensor([0.0, 1, 2, 5])))
    assert model.config.problem_type == "regression"

    model = make()
    output = model(values, labels=torch.tensor([0, 1, 2, -100]))
    torch.testing.assert_close(output.loss, F.cross_entropy(output.logits[:3], torch.tensor([0, 1, 2])))
    assert model.config.problem_type == "single_label_classification"

    model = make()
    labels = torch.tensor([[0.0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]])
    output = model(values, labels=labels)
    torch.testing.assert_close(output.loss, F.binary_cross_entropy_with_logits(output.logits, labels))
    assert model.config.problem_type == "multi_label_classification"
    whole = make(problem_type="multi_label_classification")(values, labels=labels.long())
    torch.testing.assert_close(whole.loss, output.loss)


@pytest.mark.parametrize(
    ("overrides", "labels", "message"),
    [
        ({}, [0, 1, 3, 0], "Label 3 is not one of the model's 3 labels, 0 to 2; load"),
        ({}, [0, -1, 2, 0], "Label -1 is not one of the model's 3 labels"),
        ({"num_labels": 1}, [0.0, 1.0, float("nan"), 2.0], "The label of row 2 is nan; drop rows"),
        ({}, [[0, 1, 1]] * 4, r"shape \(4, 3\) and type torch.int64 do not fit problem_type='single_.*int64 \(B,\)"),
        ({"problem_type": "single_label_classification"}, [0.0, 1, 1, 0], "type torch.float32 do not fit"),
        (
            {"problem_type": "regression"},
            [0.0, 1, 2, 0],
            r"shape \(4,\) .*'regression' with 3 labels; give float \(B, 3\)",
        ),
        ({}, [[0.0, 1, 0], [1, float("inf"), 0], [0, 0, 0], [0, 0, 0]], r"The label of row 1 is \[1.0, inf, 0.0\]"),
    ],
)
def test_wrong_labels_are_refused(overrides, labels, message):
    with pytest.raises(ValueError, match=message):
        make(**overrides)(pixels("rows"), labels=torch.tensor(labels))


def test_hidden_states_of_pairs_are_of_both_texts():
    output = make(num_text_canvases=2)(pixels(), output_hidden_states=True)
    assert output.logits.shape == (4, 3) and output.hidden_states[0].shape == (8, 16, 32)
    assert np.isfinite(output.logits.detach().numpy()).all()
