"""CoCa: the loss of captions beside the contrastive one, and the folder that then writes."""

import pytest
import torch
from PIL import Image
from transformers import TrainingArguments

import clippo
from clippo.modeling_clippo.decoder_clippo import byte_loss, shift_right
from clippo.training.arguments import DataArguments, ModelArguments, StepArguments
from clippo.training.pretraining import pretrain

from ..processes import run_processes
from ..tiny import save_tiny, tiny_model, tiny_processor

DECODER = dict(num_decoder_layers=1, decoder_max_length=16, skip_blank_patches=True)
TEXTS = ["a", "bc", "d é", "x"]


def batch(sets=1):
    images = [Image.new("RGB", (40, 40), (60 * i, 10, 90)) for i in range(4)]
    texts = [text + str(k) for k in range(sets) for text in TEXTS]
    made = tiny_processor()(images=images, text=texts, targets=texts, return_tensors="pt")
    return {"caption_ids": made.pop("labels"), **made}


@pytest.mark.parametrize("sets", [1, 2])
def test_loss_is_the_weighted_sum_of_both(sets):
    model, inputs = tiny_model(**DECODER).train(), batch(sets)
    model.caption_loss_weight = 0.5
    both = model(**inputs)
    ids = inputs.pop("caption_ids")
    contrastive = model(**inputs)
    assert contrastive.caption_loss is None
    states = model.vision_model(inputs["pixel_values"]).last_hidden_state.repeat(sets, 1, 1)
    logits = model.decoder.logits(model.decoder(shift_right(ids, model.config), states).last_hidden_state)
    captions = byte_loss(logits, ids)
    torch.testing.assert_close(both.caption_loss, captions.detach(), rtol=0, atol=5e-6)
    torch.testing.assert_close(both.loss, contrastive.loss + 0.5 * captions, rtol=0, atol=5e-6)
    both.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def step(rank=0, processes=1):
    """Loss and gradients of one process, which has its share of the four pairs."""
    model, inputs = tiny_model(**DECODER).train(), batch()
    rows = slice(rank * 4 // processes, (rank + 1) * 4 // processes)
    loss = model(**{name: values[rows] for name, values in inputs.items()}).loss
    loss.backward()
    return {"loss": loss.detach(), **{name: parameter.grad for name, parameter in model.named_parameters()}}


def test_two_processes_average_to_the_step_of_one(tmp_path):
    alone, shares = step(), run_processes(step, 2, tmp_path, 2)
    for name, value in alone.items():
        mean = (shares[0][name] + shares[1][name]) / 2
        torch.testing.assert_close(mean, value, rtol=1e-4, atol=5e-6, msg=name)


def test_a_model_without_decoder_has_no_new_parameter_and_refuses_captions():
    model = tiny_model()
    assert not [name for name in model.state_dict() if name.startswith("decoder.")]
    with pytest.raises(ValueError, match="caption_ids were given, but the config has num_decoder_layers=0"):
        model(**batch())
    inputs = batch()
    with pytest.raises(ValueError, match="There are 3 captions for 4 images"):
        tiny_model(**DECODER)(**{**inputs, "caption_ids": inputs["caption_ids"][:3]})
    learning = tiny_model(**DECODER).train()
    learning.micro_batch_size = 2
    with pytest.raises(ValueError, match="micro_batch_size=None"):
        learning(**batch())


def test_the_folder_of_both_writes_with_the_same_decoder(tmp_path):
    folder = save_tiny(tmp_path, **DECODER)
    model, report = clippo.ClippoForConditionalGeneration.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    decoder = clippo.ClippoModel.from_pretrained(folder).decoder.state_dict()
    assert all(torch.equal(value, decoder[name]) for name, value in model.decoder.state_dict().items())


def test_a_recipe_trains_both_losses(tmp_path, shared):
    source = {"path": str(shared("data", "flickr8k") / "validation*.parquet"), "caption_columns": "captions"}
    model = ModelArguments(
        "Ti/16", dict(hidden_size=32, num_attention_heads=2, num_hidden_layers=1, image_size=32, num_decoder_layers=1)
    )
    training = TrainingArguments(
        str(tmp_path), max_steps=2, per_device_train_batch_size=4, use_cpu=True, report_to="none", logging_steps=1,
        disable_tqdm=True, save_strategy="no",
    )  # fmt: skip
    trainer = pretrain(model, DataArguments([source]), training, StepArguments(caption_loss_weight=2.0))
    logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(5 < entry["caption_loss"] < 8 for entry in logs)  # log 384 is 5.95
    assert all(entry["loss"] > 2 * entry["caption_loss"] for entry in logs)
    with pytest.raises(ValueError, match=r"caption_loss_weight=2.0 needs a decoder and one pass"):
        pretrain(model, DataArguments([source]), training, StepArguments(2, caption_loss_weight=2.0))
