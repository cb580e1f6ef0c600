"""Contrastive training steps of ClippoModel: outputs, text-text pairs, micro-batches, data parallelism."""

import pytest
import torch
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from clippo import ClippoForImageClassification, ClippoModel, ClippoTokenizer
from clippo.modeling_clippo import grad_cache_clippo, modeling_clippo
from clippo.modeling_clippo.loss_clippo import contrastive_loss

from ..processes import run_processes
from ..tiny import tiny_model
from .test_loss_clippo import retained_bytes

SIGMOID = dict(loss_type="sigmoid", logit_bias_init_value=-10.0)
TEXTS = ["a cat", "две", "", "three words 鳥 and more", "5", "a dog", "", "eight", "nine is long", "x"]


def make(**options) -> ClippoModel:
    return tiny_model(noise=0, image_size=32, **options).train()


def pairs(images: int, first_texts: int = 0, sets: int = 1) -> dict[str, torch.Tensor]:
    """A batch in the collator's format: image rows first, packed canvases."""
    draw = ClippoTokenizer(canvas_size=32, canvas_format="packed")

    def texts(count: int, start: int) -> torch.Tensor:
        strings = [TEXTS[(start + 3 * i) % len(TEXTS)] + str(i) * (i % 3) for i in range(count)]
        return draw(strings, return_tensors="pt")["text_pixel_values"]

    generator = torch.Generator().manual_seed(1)
    batch = {"text_pixel_values": texts(sets * (images + first_texts), 0), "return_loss": True}
    if images:
        batch["pixel_values"] = torch.rand(images, 3, 32, 32, generator=generator) * 2 - 1
    if first_texts:
        batch["first_text_pixel_values"] = texts(first_texts, 5)
    return batch


def gradients(model) -> dict[str, torch.Tensor]:
    def whole(gradient):
        return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient

    return {name: whole(parameter.grad).clone() for name, parameter in model.named_parameters()}


def step(model, batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of a step with seeded random numbers."""
    model.zero_grad()
    torch.manual_seed(3)
    loss = model(**batch).loss
    loss.backward()
    return loss.detach(), gradients(model)


def assert_same_step(got, expected):
    torch.testing.assert_close(got[0].float(), expected[0].float(), rtol=1e-5, atol=1e-6)
    # Sums in another order: an entry of the sigmoid loss's 24,576 was 1.5e-6 off on one kind of CPU, none on another.
    torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=5e-6)


# ------------------------------------------------------------------------------------------------- what a step returns


@pytest.mark.parametrize("options", [{}, SIGMOID], ids=["softmax", "sigmoid"])
def test_a_training_step_makes_no_logits_and_evaluation_does(options):
    model, batch = make(**options), pairs(4, sets=2)
    training = model(**batch)
    assert training.logits_per_image is None and training.logits_per_text is None
    evaluation = model.eval()(**batch)
    assert evaluation.logits_per_image.shape == (4, 8)
    for output in (training, evaluation):
        torch.testing.assert_close(output.loss.detach(), output.loss_per_pair.mean())
        assert output.loss_per_pair.shape == output.hit_per_pair.shape == (8,)
        assert set(output.hit_per_pair.tolist()) <= {0.0, 0.5, 1.0} and not output.loss_per_pair.requires_grad
    torch.testing.assert_close(training.loss, evaluation.loss)
    with torch.no_grad():  # as pipelines call it
        assert model.train()(**{**batch, "return_loss": None}).logits_per_image is not None
    assert {"loss_per_pair", "hit_per_pair"} <= set(model.config.keys_to_ignore_at_inference)


def test_logits_of_a_sigmoid_model_are_what_its_loss_reads():
    model = make(**SIGMOID).eval()
    output = model(**pairs(5))
    cosines = output.image_embeds @ output.text_embeds.T
    assert model.logit_bias.tolist() == [-10.0]
    torch.testing.assert_close(output.logits_per_image, 10 * cosines - 10)
    signs = 2 * torch.eye(5) - 1
    expected = -torch.nn.functional.logsigmoid(signs * output.logits_per_image).sum() / 5
    torch.testing.assert_close(output.loss, expected)


def test_a_bounded_temperature_stands_still():
    free, bounded, loose = make(), make(logit_scale_max=5), make(logit_scale_max=100.0)
    batch = pairs(4)
    (loss, grads), bounded_step, loose_step = step(free, batch), step(bounded, batch), step(loose, batch)
    assert_same_step(loose_step, (loss, grads))
    assert bounded_step[1]["logit_scale"].tolist() == [0.0] and grads["logit_scale"].abs() > 1e-4
    output = bounded.eval()(**batch)
    torch.testing.assert_close(output.logits_per_image, 5 * output.image_embeds @ output.text_embeds.T)
    torch.testing.assert_close(bounded_step[0], output.loss)


def test_the_bias_is_saved_and_no_head_minds_it(tmp_path):
    model = make(**SIGMOID, logit_scale_max=100)
    with torch.no_grad():
        model.logit_bias.fill_(-7)
    model.save_pretrained(tmp_path)
    loaded = ClippoModel.from_pretrained(tmp_path)
    assert loaded.logit_bias.tolist() == [-7.0] and loaded.config.loss_type == "sigmoid"
    _, loading = ClippoForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["unexpected_keys"]
    assert "logit_bias" not in make().state_dict()


# ----------------------------------------------------------------------------------------------------- text-text pairs


@pytest.mark.parametrize(("images", "first_texts"), [(3, 4), (0, 4)])
def test_text_pairs_and_images_are_each_others_negatives(images, first_texts):
    model, batch = make(skip_blank_patches=True), pairs(images, first_texts)
    output = model(**batch)
    with torch.no_grad():
        sides = [model.get_text_features(batch["first_text_pixel_values"]).pooler_output]
        if images:
            sides.insert(0, model.get_image_features(batch["pixel_values"]).pooler_output)
        texts = model.get_text_features(batch["text_pixel_values"]).pooler_output
        embeds = [torch.nn.functional.normalize(side, dim=-1) for side in (torch.cat(sides), texts)]
        expected = contrastive_loss(*embeds, torch.tensor([10.0]))
    torch.testing.assert_close(output.image_embeds.detach(), embeds[0])
    torch.testing.assert_close(output.loss.detach(), expected.loss)
    torch.testing.assert_close(output.loss_per_pair, expected.loss_per_pair)
    assert (output.vision_model_output is None) == (images == 0)
    assert model.eval()(**batch).logits_per_image.shape == (images + first_texts,) * 2


def test_several_sets_of_partners_are_the_mean_of_one_set_each():
    """Images and first sentences have K texts each; in each set those of the images come first."""
    model, batch = make(), pairs(3, 4, sets=2)
    sets = batch["text_pixel_values"].split(7)
    one, other = (model(**{**batch, "text_pixel_values": texts}) for texts in sets)
    together = model(**batch)
    torch.testing.assert_close(together.loss, (one.loss + other.loss) / 2)
    torch.testing.assert_close(together.loss_per_pair, torch.cat([one.loss_per_pair, other.loss_per_pair]))


@pytest.mark.parametrize("texts", [0, 6, 13, None])
def test_text_pairs_have_equally_many_partners_a_row(texts):
    batch = pairs(3, 4)
    batch["text_pixel_values"] = None if texts is None else batch["text_pixel_values"][:1].expand(texts, -1, -1)
    message = f"4 rows beside 3 images, so text_pixel_values needs 7 or a multiple, .* it has {texts or 0}"
    with pytest.raises(ValueError, match=message):
        make()(**batch)


# ------------------------------------------------------------------------------------------------------- micro-batches


@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointing"])
@pytest.mark.parametrize("options", [{}, {**SIGMOID, "skip_blank_patches": True}], ids=["softmax", "sigmoid-skip"])
def test_micro_batches_equal_one_pass(options, checkpointing):
    model, batch = make(**options), pairs(5, 4)
    expected = step(model, batch)
    if checkpointing:
        model.gradient_checkpointing_enable()
    for size in (1, 4, 100):
        model.micro_batch_size = size
        assert_same_step(step(model, batch), expected)


@pytest.mark.parametrize("skip_blank_patches", [False, True])
def test_dropout_is_drawn_once(monkeypatch, skip_blank_patches):
    """The second encoding repeats the first, so the gradients are those of parts that are kept for backward."""
    model, batch = make(attention_dropout=0.5, skip_blank_patches=skip_blank_patches), pairs(5, 4)
    model.micro_batch_size = 3
    got = step(model, batch)
    torch.rand(5)  # random numbers between forward and backward, or between steps

    def kept(encode, part, **options):
        return encode(part)

    monkeypatch.setattr(grad_cache_clippo, "checkpoint", kept)
    expected = step(model, batch)
    assert_same_step(got, expected)
    model.micro_batch_size = None
    model.config.attention_dropout = 0.0
    for module in model.modules():
        if hasattr(module, "dropout"):
            module.dropout = 0.0
    assert (step(model, batch)[0] - got[0]).abs() > 1e-4  # dropout changed the loss


def test_random_numbers_between_forward_and_backward_do_not_matter():
    model, batch = make(attention_dropout=0.5), pairs(4)
    model.micro_batch_size = 2
    expected = step(model, batch)
    model.zero_grad()
    torch.manual_seed(3)
    loss = model(**batch).loss
    torch.manual_seed(99)
    loss.backward()
    after = torch.rand(1)
    assert_same_step((loss.detach(), gradients(model)), expected)
    torch.manual_seed(99)
    assert torch.equal(after, torch.rand(1))  # backward restored the state of the generator


def test_compiled_micro_batches_repeat_their_dropout():
    model, batch = make(attention_dropout=0.5), pairs(4)
    model.micro_batch_size = 2
    expected = step(model, batch)
    compiled = torch.compile(model, backend="eager")
    model.zero_grad()
    torch.manual_seed(3)
    loss = compiled(**batch).loss
    loss.backward()
    assert_same_step((loss.detach(), gradients(model)), expected)


def test_micro_batches_keep_embeddings_only():
    model, kept = make(), {}
    for micro_batch_size in (None, 4):
        model.micro_batch_size = micro_batch_size
        for rows in (8, 32):
            batch = pairs(rows)
            kept[micro_batch_size, rows] = retained_bytes(lambda: model(**batch).loss)  # noqa: B023
    pairs_more, number, patches = 32 - 8, 4, 4
    pictures = pairs_more * (3 * 32 * 32 * number + 2 * 8 * 8)  # a float image, a packed canvas
    tokens, vectors = (2 * pairs_more * width * number for width in (patches * 32, 16))
    assert kept[None, 32] - kept[None, 8] > 10 * tokens
    assert kept[4, 32] - kept[4, 8] < pictures + 10 * vectors


def test_micro_batches_are_for_training_steps(monkeypatch):
    model, batch = make(), pairs(4)
    model.micro_batch_size = 2
    assert model(**batch).text_model_output is None and model(**batch).vision_model_output is None

    def never(*args):
        raise AssertionError("encoded in micro-batches")

    monkeypatch.setattr(modeling_clippo, "grad_cache", never)
    with torch.no_grad():
        assert model(**batch).text_model_output is not None
    assert model.eval()(**batch).text_model_output is not None
    monkeypatch.undo()
    model.train()
    with pytest.raises(ValueError, match="output_hidden_states=True is not possible with micro_batch_size"):
        model(**batch, output_hidden_states=True)
    model.micro_batch_size = 0
    with pytest.raises(ValueError, match="micro_batch_size=0 encodes nothing"):
        model(**batch)


# ----------------------------------------------------------------------------------------------------------- processes

# Of three images and three text-text pairs, in order, how many of each a process takes.
EVEN, UNEVEN = ((2, 2), (2, 2)), ((3, 1), (1, 3))
STEPS = [
    # wrapper, share of the processes, options of the model, micro_batch_size, gradient checkpointing
    ("ddp", UNEVEN, {}, None, False),
    ("ddp", EVEN, {}, 3, False),
    ("ddp", UNEVEN, {**SIGMOID, "skip_blank_patches": True}, 2, True),
    ("fsdp2", EVEN, {}, None, False),
    ("fsdp2", UNEVEN, {**SIGMOID, "skip_blank_patches": True}, None, False),
    ("fsdp2", UNEVEN, {"skip_blank_patches": True}, 1, False),
    ("fsdp2", EVEN, SIGMOID, 1, True),
]


def part_of(batch: dict, shares: tuple, rank: int) -> dict:
    """The rows of one process: images with captions, and pairs of texts."""
    images = slice(sum(s[0] for s in shares[:rank]), sum(s[0] for s in shares[: rank + 1]))
    first = slice(sum(s[1] for s in shares[:rank]), sum(s[1] for s in shares[: rank + 1]))
    captions, seconds = batch["text_pixel_values"].split([len(batch["pixel_values"]), sum(s[1] for s in shares)])
    return {
        "pixel_values": batch["pixel_values"][images],
        "first_text_pixel_values": batch["first_text_pixel_values"][first],
        "text_pixel_values": torch.cat([captions[images], seconds[first]]),
        "return_loss": True,
    }


def steps_of_a_process(rank: int):
    results = []
    for wrapper, shares, options, micro_batch_size, checkpointing in STEPS:
        model, batch = make(**options), part_of(pairs(4, 4), shares, rank)
        model.micro_batch_size = micro_batch_size
        if checkpointing:
            model.gradient_checkpointing_enable()
        if wrapper == "ddp":
            # As Trainer wraps it.
            loss, grads = step(DistributedDataParallel(model, find_unused_parameters=not checkpointing), batch)
            grads = {name.removeprefix("module."): gradient for name, gradient in grads.items()}
        else:
            for block in model.vision_model.encoder.layers:
                fully_shard(block)
            fully_shard(model.vision_model.head)
            fully_shard(model.projection)
            fully_shard(model)
            step(model, batch)  # the second step starts from the state after the first
            loss, grads = step(model, batch)
        results.append((loss, grads))
    return results


def test_data_parallel_steps_equal_one_process(tmp_path):
    results = run_processes(steps_of_a_process, 2, tmp_path)
    for number, (_, _, options, _, _) in enumerate(STEPS):
        expected = step(make(**options), pairs(4, 4))
        losses, grads = zip(*(of_process[number] for of_process in results), strict=True)
        for of_process in grads:
            assert_same_step((torch.stack(losses).mean(), of_process), expected)
