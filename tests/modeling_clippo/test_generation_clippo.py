"""Tower and decoder together: what the decoder sees, generation, loading, training."""

import numpy as np
import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from PIL import Image
from transformers import AutoModelForImageTextToText, Seq2SeqTrainer, Seq2SeqTrainingArguments

import clippo
from clippo.modeling_clippo.generation_clippo import gather_kept

from ..tiny import save_tiny, tiny_model, tiny_processor

DECODER = dict(num_decoder_layers=2, decoder_max_length=24, skip_blank_patches=True)
PROMPTS = ["caption en", "", "a prompt of three rows"]


def make(attention=None, **fields):
    model = tiny_model(clippo.ClippoForConditionalGeneration, attention=attention, **{**DECODER, **fields})
    with torch.no_grad():  # larger logits, so that two ids are never nearly equal
        model.decoder.embedding.weight.mul_(5)
    return model


def pictures(number, size=48):
    generator = np.random.default_rng(0)
    return [Image.fromarray(generator.integers(0, 256, (size, size, 3), dtype=np.uint8)) for _ in range(number)]


def inputs(**options):
    return tiny_processor()(images=pictures(3), text=PROMPTS, return_tensors="pt", **options)


def row(batch, index):
    return {name: values[index : index + 1] for name, values in batch.items()}


@torch.no_grad()
def test_decoder_sees_the_kept_patches_of_both_canvases_in_order():
    model, batch = make(), inputs()
    output = model.encode(**batch)
    tower = model.vision_model
    image = tower(batch["pixel_values"], modality="image").last_hidden_state
    text = tower(batch["text_pixel_values"], modality="text")
    for i in range(3):
        expected = torch.cat([image[i], text.last_hidden_state[i][text.kept_patches[i]]])
        found = output.last_hidden_state[i][output.kept_patches[i]]
        torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)
    assert output.kept_patches.shape[1] < 32  # 16 patches of the image and less than 16 of the text


def test_gathering_keeps_no_mask_where_nothing_is_padding():
    states = torch.arange(8.0).view(2, 4, 1)
    kept = torch.tensor([[True, False, True, False], [False, True, True, False]])
    gathered, mask = gather_kept(states, kept)
    assert mask is None
    assert gathered[..., 0].tolist() == [[0, 2], [5, 6]]


@torch.no_grad()
def test_teacher_forcing_equals_cached_generation():
    model, batch = make(), inputs()
    output = model.generate(**batch, max_new_tokens=10, return_dict_in_generate=True, output_logits=True)
    steps = torch.stack(output.logits, 1)  # (B, L, V)
    forced = model(**batch, decoder_input_ids=output.sequences[:, :-1]).logits
    torch.testing.assert_close(steps, forced, rtol=0, atol=5e-5)


@torch.no_grad()
def test_a_batch_equals_one_by_one_and_other_ways_to_the_same_text():
    model, batch = make(), inputs()
    together = model.generate(**batch, max_new_tokens=10)
    assert len({tuple(ids) for ids in together.tolist()}) == 3
    for i in range(3):
        assert torch.equal(model.generate(**row(batch, i), max_new_tokens=10), together[i : i + 1])
    assert torch.equal(model.generate(**batch, max_new_tokens=10, use_cache=False), together)
    assert torch.equal(model.generate(**batch, max_new_tokens=10, num_beams=1, do_sample=False), together)
    assert torch.equal(model.generate(**batch, max_new_tokens=10, cache_implementation="static"), together)
    assert torch.equal(make("eager").generate(**batch, max_new_tokens=10), together)


@torch.no_grad()
def test_beam_search_finds_texts_that_are_at_least_as_likely():
    model, batch = tiny_model(clippo.ClippoForConditionalGeneration, seed=3, **DECODER), inputs()

    def likelihood(ids):
        logits = model(**batch, decoder_input_ids=ids[:, :-1]).logits.log_softmax(-1)
        return logits.gather(2, ids[:, 1:, None]).squeeze(-1).sum(1)

    model.generation_config.eos_token_id = None  # all texts have one length, so that sums compare
    greedy = model.generate(**batch, max_new_tokens=8)
    beams = model.generate(**batch, max_new_tokens=8, num_beams=6)
    assert (likelihood(beams) >= likelihood(greedy) - 1e-4).all()
    assert not torch.equal(beams, greedy)


@torch.no_grad()
def test_scores_of_texts_are_their_log_likelihoods():
    model, batch = make(), inputs()
    labels = tiny_processor()(targets=["yes", "no", ""])["labels"]
    scores = model.score_texts(labels, **batch)
    assert scores.shape == (3, 3)
    for i in range(3):
        for j, text in enumerate(["yes", "no", ""]):
            one = tiny_processor()(targets=text)["labels"]
            loss = model(**row(batch, i), labels=one).loss * one.numel()
            assert scores[i, j].item() == pytest.approx(-loss.item(), abs=2e-4)


@torch.no_grad()
def test_generation_stops_at_the_end_byte_and_at_the_last_position():
    model, batch = make(), inputs()
    model.decoder.embedding.weight[1] = 0  # the end is never the most likely
    assert model.generate(**batch).shape == (3, 25)  # the start and decoder_max_length ids
    assert model.generate(**batch, max_length=7).shape == (3, 7)
    with pytest.raises(ValueError, match="max_new_tokens=25 is more than decoder_max_length=24"):
        model.generate(**batch, max_new_tokens=25)
    first = model.generate(**batch, max_new_tokens=1)[0, 1].item()
    stopped = model.generate(**row(batch, 0), max_new_tokens=9, eos_token_id=first)
    assert stopped.tolist() == [[0, first]]


@torch.no_grad()
def test_grid_read_once_gives_the_same_text():
    model, batch = make(), inputs()
    ids = model.generate(encoder_outputs=model.encode(**batch), max_new_tokens=6)
    assert torch.equal(ids, model.generate(**batch, max_new_tokens=6))


@torch.no_grad()
def test_images_are_read_once_for_several_texts_and_may_be_absent():
    model, batch = make(), inputs()
    index = torch.tensor([2, -1, 2])
    together = model.generate(batch["pixel_values"], batch["text_pixel_values"], image_index=index, max_new_tokens=8)
    for i, image in enumerate(index.tolist()):
        alone = {"text_pixel_values": batch["text_pixel_values"][i : i + 1]}
        if image >= 0:
            alone["pixel_values"] = batch["pixel_values"][image : image + 1]
        ids = model.generate(**alone, max_new_tokens=8)
        assert torch.equal(together[i : i + 1, : ids.shape[1]], ids)
    with pytest.raises(ValueError, match="image_index needs images and texts"):
        model.generate(batch["pixel_values"], image_index=index)


def test_missing_inputs_are_named():
    model, batch = make(), inputs()
    with pytest.raises(ValueError, match="No input; pass pixel_values"):
        model.generate(max_new_tokens=3)
    with pytest.raises(ValueError, match="There are 3 images and 1 drawn texts"):
        model(batch["pixel_values"], batch["text_pixel_values"][:1], decoder_input_ids=torch.zeros(3, 1).long())
    with pytest.raises(ValueError, match="The decoder has no ids; pass labels"):
        model(**batch)
    with pytest.raises(ValueError, match="num_decoder_layers=0 leaves no decoder"):
        make(num_decoder_layers=0)


def test_a_text_alone_and_an_image_alone_are_inputs():
    model, batch = make(), inputs()
    labels = tiny_processor()(targets=["a", "b", "c"])["labels"]
    for name in ("pixel_values", "text_pixel_values"):
        model(**{name: batch[name]}, labels=labels).loss.backward()
        assert model.vision_model.embeddings.patch_embedding.weight.grad.abs().sum() > 0


def test_attentions_of_the_decoder_are_recorded():
    model, batch = make("eager"), inputs()
    labels = tiny_processor()(targets=["a", "b", "c"])["labels"]
    output = model(**batch, labels=labels, output_attentions=True, output_hidden_states=True)
    tokens = output.encoder_last_hidden_state.shape[1]
    assert [weights.shape for weights in output.cross_attentions] == [(3, 4, 2, tokens)] * 2
    assert [weights.shape for weights in output.decoder_attentions] == [(3, 4, 2, 2)] * 2
    assert len(output.decoder_hidden_states) == len(output.encoder_hidden_states) == 3


def test_a_frozen_tower_has_no_gradient_and_stays_in_eval_mode():
    model, batch = make(attention_dropout=0.5).train(), inputs(targets=["a", "b", "c"])
    model.freeze_tower()
    assert not model.vision_model.training
    assert model.decoder.training
    model(**batch).loss.backward()
    assert all(parameter.grad is None for parameter in model.vision_model.parameters())
    assert all(parameter.grad is not None for parameter in model.decoder.parameters())


def test_every_trainable_parameter_has_a_gradient_with_and_without_checkpointing():
    gradients = []
    for checkpointing in (False, True):
        model = make().train()
        if checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model(**inputs(targets=["a", "bc", "c"])).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.requires_grad})
    assert all(grad is not None for grad in gradients[0].values())
    for name, grad in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], grad, rtol=0, atol=5e-6, msg=name)


def test_save_and_load_keep_texts_and_frozen_head(tmp_path):
    folder = save_tiny(tmp_path, clippo.ClippoForConditionalGeneration, **DECODER)
    before = tiny_model(clippo.ClippoForConditionalGeneration, **DECODER)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert isinstance(model, clippo.ClippoForConditionalGeneration)
    batch = inputs()
    assert torch.equal(model.generate(**batch, max_new_tokens=6), before.generate(**batch, max_new_tokens=6))
    assert not any(parameter.requires_grad for parameter in model.vision_model.head.parameters())
    assert model.generation_config.eos_token_id == 1


def test_a_contrastive_checkpoint_gives_its_tower(tmp_path):
    folder = save_tiny(tmp_path)
    model, report = clippo.ClippoForConditionalGeneration.from_pretrained(
        folder, num_decoder_layers=1, output_loading_info=True
    )
    assert all(name.startswith("decoder.") for name in report["missing_keys"])
    assert not report["unexpected_keys"]
    assert model.generation_config.eos_token_id == 1
    assert model.generate(**inputs(), max_new_tokens=3).shape[0] == 3
    tower = clippo.ClippoModel.from_pretrained(folder).vision_model.state_dict()
    assert all(torch.equal(value, tower[name]) for name, value in model.vision_model.state_dict().items())


def test_no_decoder_no_parameter_and_no_vocabulary():
    config = clippo.ClippoConfig()
    assert config.num_decoder_layers == 0
    assert not config.is_encoder_decoder
    assert not hasattr(config, "vocab_size")
    with pytest.raises(StrictDataclassClassValidationError, match="num_decoder_layers=-1 is not possible"):
        clippo.ClippoConfig(num_decoder_layers=-1)


def train(folder, model, steps, precision=None, batch_size=8, accumulation=1, rate=3e-3):
    """Train on eight pictures with texts in many scripts, and return the trainer and the batch."""
    texts = ["red", "grün", "кошка", "猫", "β", "", "a b", "🐈"]
    batch = tiny_processor()(images=pictures(8), text=["caption"] * 8, return_tensors="pt", targets=texts)
    data = [{name: values[i] for name, values in batch.items()} for i in range(8)]
    arguments = Seq2SeqTrainingArguments(
        folder, max_steps=steps, per_device_train_batch_size=batch_size, learning_rate=rate, use_cpu=True,
        bf16=precision == "bf16", report_to="none", disable_tqdm=True, save_strategy="no", seed=0, max_grad_norm=1.0,
        predict_with_generate=True, logging_steps=1, gradient_accumulation_steps=accumulation,
        lr_scheduler_type="constant", remove_unused_columns=False,
    )  # fmt: skip
    trainer = Seq2SeqTrainer(model, arguments, train_dataset=data, eval_dataset=data)
    trainer.train()
    return trainer, texts


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_overfits_eight_pictures_and_writes_them_exactly(tmp_path, precision):
    model = tiny_model(clippo.ClippoForConditionalGeneration, noise=0, position_embedding_init="sincos2d", **DECODER)
    trainer, texts = train(tmp_path, model, 90, precision)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[-1] < 0.03
    prediction = trainer.predict(trainer.eval_dataset)
    assert tiny_processor().batch_decode(prediction.predictions) == texts
    batch = trainer.data_collator(list(trainer.eval_dataset))
    trainer.save_model()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        model = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=dtype)
        typed = {name: v.to(dtype) if v.is_floating_point() else v for name, v in batch.items()}
        assert tiny_processor().batch_decode(model.generate(**typed)) == texts


def test_gradient_accumulation_averages_over_all_bytes(tmp_path):
    losses = []
    for size, accumulation in ((8, 1), (2, 4)):
        model = tiny_model(clippo.ClippoForConditionalGeneration, **DECODER)
        trainer, _ = train(tmp_path, model, 2, batch_size=size, accumulation=accumulation)
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
