"""Fusion: what each source may change, packed and padded, given grids, frozen towers, folders and wrong inputs."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from PIL import Image
from transformers import AutoModelForSequenceClassification

import clippo
from clippo.modeling_clippo.packing_clippo import pack

from ..tiny import tiny_config, tiny_model, tiny_processor

QUESTIONS = ["is it red?", "a longer question, is it?", "色", ""]
IMAGES = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
FIELDS = dict(num_fusion_layers=2, num_labels=3, skip_blank_patches=True, num_hidden_layers=1)


def make(**fields):
    return tiny_model(clippo.ClippoForVisualQuestionAnswering, **{**FIELDS, **fields})


def drawn(texts=QUESTIONS, **options):
    return clippo.ClippoTokenizer(canvas_size=64)(texts, return_tensors="pt", **options)["text_pixel_values"]


@pytest.mark.parametrize(
    "model_class", [clippo.ClippoForVisualQuestionAnswering, clippo.ClippoForSequenceClassification]
)
def test_no_layers_is_the_model_without_fusion(model_class):
    fields = dict(num_labels=3, num_text_canvases=2)
    plain, fused = tiny_model(model_class, **fields), tiny_model(model_class, num_fusion_layers=1, **fields)
    assert not [name for name in plain.state_dict() if "fusion" in name]
    assert {n for n in fused.state_dict() if "fusion" not in n} == set(plain.state_dict())
    assert [n for n, _ in plain.named_parameters()] == list(plain.state_dict())
    image_classifier = tiny_model(clippo.ClippoForImageClassification, num_fusion_layers=1, num_labels=3)
    assert not [name for name in image_classifier.state_dict() if "fusion" in name]


@torch.no_grad()
def test_swapping_questions_swaps_answers():
    model = make()
    order = torch.tensor([1, 0, 3, 2])
    one = model(IMAGES[:1].repeat(4, 1, 1, 1), text_pixel_values=drawn()).logits
    other = model(IMAGES[:1].repeat(4, 1, 1, 1), text_pixel_values=drawn()[order]).logits
    torch.testing.assert_close(one[order], other, atol=2e-6, rtol=1e-5)
    assert one.std(0).min() > 1e-3
    assert model(IMAGES, text_pixel_values=drawn()[:1].repeat(4, 1, 1, 1)).logits.std(0).min() > 1e-3  # images count


@torch.no_grad()
def test_padding_of_a_question_changes_no_answer():
    model = make()
    together = model(IMAGES, text_pixel_values=drawn()).logits
    for i in range(4):
        alone = model(IMAGES[i : i + 1], text_pixel_values=drawn()[i : i + 1]).logits
        torch.testing.assert_close(together[i : i + 1], alone, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("fields", [{}, dict(modality_norms=True), dict(num_experts=2, num_hidden_layers=2)])
def test_packed_equals_padded_and_gradients_too(attention, fields):
    model, labels = make(**fields), torch.tensor([0, 1, 2, 0])
    model.set_attn_implementation(attention)
    assert model.vision_model.embeddings.packed_backend() == "padded"
    runs = []
    for backend in ("padded", None):
        outputs = model.vision_model.encode([(IMAGES, "image"), (drawn(), "text")])
        grids, kept = [o.last_hidden_state for o in outputs[::-1]], [outputs[1].kept_patches, None]
        logits = model.classifier(model.fusion(grids, kept, backend))
        model._loss(logits, labels).backward()
        runs.append((logits, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}))
        model.zero_grad()
    torch.testing.assert_close(*(logits for logits, _ in runs), atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(*(gradients for _, gradients in runs), atol=5e-6, rtol=1e-4)
    assert all(runs[0][1][name].abs().max() > 0 for name in ("fusion.source_embedding", "fusion.head.probe"))
    torch.testing.assert_close(model(IMAGES, text_pixel_values=drawn()).logits, runs[0][0])


@torch.no_grad()
def test_skipped_patches_of_either_side_are_not_attended_to():
    model = make()
    grids = [torch.randn(3, 16, 32), torch.randn(3, 16, 32)]
    kept = [torch.rand(3, 16) < 0.5, torch.rand(3, 16) < 0.5]
    expected = model.fusion(grids, kept, "padded")
    changed = [torch.where(mask.unsqueeze(-1), grid, 7.0) for grid, mask in zip(grids, kept, strict=True)]
    for backend in ("padded", None):
        torch.testing.assert_close(model.fusion(changed, kept, backend), expected, atol=2e-6, rtol=1e-5)
    assert not torch.allclose(model.fusion(changed, [kept[0], None], None), expected, atol=1e-3)
    assert pack([("text", 3, 32, torch.cat(kept, 1))], "padded", torch.device("cpu")).parts[0].tokens < 96


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_cached_grid_answers_as_the_image(dtype):
    model = make()
    fresh = model(IMAGES[:2], text_pixel_values=drawn(), image_index=torch.tensor([0, 1, 1, 0])).logits
    grid = model.get_grid_features(IMAGES[:2]).to(dtype)
    cached = model(image_grid=grid, text_pixel_values=drawn(), image_index=torch.tensor([0, 1, 1, 0])).logits
    torch.testing.assert_close(
        cached, fresh, **({"atol": 2e-6, "rtol": 1e-5} if dtype.itemsize == 4 else {"atol": 2e-3, "rtol": 0})
    )
    repeated = model(IMAGES[[0, 1, 1, 0]], text_pixel_values=drawn()).logits
    torch.testing.assert_close(repeated, fresh, atol=2e-6, rtol=1e-5)
    one = model(image_grid=grid[:1], text_pixel_values=drawn()).logits  # all questions are about the only image
    torch.testing.assert_close(one[0], cached[0], atol=2e-6, rtol=1e-5)


def test_a_frozen_tower_has_no_gradient_and_no_dropout():
    model = make(attention_dropout=0.5)
    model.vision_model.requires_grad_(False)
    model.train()
    grids = [model.get_grid_features(IMAGES) for _ in range(2)]
    assert torch.equal(*grids) and not grids[0].requires_grad
    model(IMAGES, text_pixel_values=drawn(), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
    assert all(p.grad is None for p in model.vision_model.parameters())
    assert all(p.grad is not None for p in model.fusion.parameters())
    assert model.fusion.training  # the fusion has its dropout


def test_grids_of_another_tower():
    model = make(image_grid_shape=[3, 5, 40])
    grid = torch.rand(4, 3, 5, 40)
    output = model(image_grid=grid.half(), text_pixel_values=drawn(), labels=torch.tensor([0, 1, 2, 0]))
    output.loss.backward()
    assert output.logits.std(0).min() > 1e-3
    assert model.fusion.grid_projection.linear.weight.grad.abs().max() > 0
    moved = grid.flip(1)  # the places of the cells count
    assert not torch.allclose(model(image_grid=moved, text_pixel_values=drawn()).logits, output.logits, atol=1e-3)
    with pytest.raises(ValueError, match=r"image_grid of shape \(4, 5, 3, 40\).* is not float \(I, 3, 5, 40\)"):
        model(image_grid=grid.transpose(1, 2), text_pixel_values=drawn())
    with pytest.raises(ValueError, match=r"grids of another tower, of shape \[3, 5, 40\]"):
        model(IMAGES, text_pixel_values=drawn())


@torch.no_grad()
def test_pairs_of_texts_meet_in_the_joint_blocks():
    model = tiny_model(clippo.ClippoForSequenceClassification, num_text_canvases=2, **FIELDS)
    assert model.classifier.in_features == 32
    tokenizer = clippo.ClippoTokenizer(canvas_size=64, pair_layout="two_canvas")
    firsts, seconds = QUESTIONS, QUESTIONS[::-1]
    logits = model(**tokenizer(firsts, seconds, return_tensors="pt")).logits
    outputs = model.vision_model.encode([(drawn(firsts), "text"), (drawn(seconds), "text")])
    pooled = model.fusion([o.last_hidden_state for o in outputs], [o.kept_patches for o in outputs], None)
    torch.testing.assert_close(logits, model.classifier(pooled), atol=2e-6, rtol=1e-5)
    other = model(**tokenizer(seconds, firsts, return_tensors="pt")).logits
    assert not torch.allclose(logits, other, atol=1e-3)  # each source has its own vector
    with pytest.raises(ValueError, match="num_fusion_layers=2 reads two canvases, but num_text_canvases=1"):
        clippo.ClippoForSequenceClassification(tiny_config(**FIELDS))


def test_hidden_states_are_those_of_the_images():
    model = tiny_model(clippo.ClippoForVisualQuestionAnswering, attention="eager", **FIELDS).train()
    output = model(IMAGES, text_pixel_values=drawn(), output_hidden_states=True, output_attentions=True)
    assert [states.shape for states in output.hidden_states] == [(4, 16, 32)] * 2 and len(output.attentions) == 1
    torch.testing.assert_close(output.logits, model(IMAGES, text_pixel_values=drawn()).logits, atol=2e-6, rtol=1e-5)
    grid = model.get_grid_features(IMAGES)
    assert model(image_grid=grid, text_pixel_values=drawn()).hidden_states is None


def test_gradient_checkpointing_changes_nothing():
    gradients = []
    for checkpointing in (False, True):
        model = make().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        model(IMAGES, text_pixel_values=drawn(), labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(*gradients)


@torch.no_grad()
def test_folders(tmp_path):
    model = make(image_grid_shape=[1, 2, 8])
    model.save_pretrained(tmp_path / "vqa")
    loaded, info = clippo.ClippoForVisualQuestionAnswering.from_pretrained(tmp_path / "vqa", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    grid = torch.rand(4, 1, 2, 8)
    expected = model(image_grid=grid, text_pixel_values=drawn()).logits
    torch.testing.assert_close(loaded(image_grid=grid, text_pixel_values=drawn()).logits, expected)
    assert (tmp_path / "vqa" / "fusion_clippo.py").is_file()
    pairs = tiny_model(clippo.ClippoForSequenceClassification, num_text_canvases=2, **FIELDS)
    pairs.save_pretrained(tmp_path / "pairs")
    opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "pairs")
    assert torch.equal(opened.fusion.source_embedding, pairs.fusion.source_embedding)


@torch.no_grad()
def test_new_parameters_are_initialised():
    fusion = tiny_model(clippo.ClippoForVisualQuestionAnswering, noise=0, image_grid_shape=[4, 4, 64], **FIELDS).fusion
    projection = fusion.grid_projection
    assert fusion.source_embedding.std() == pytest.approx(0.02, rel=0.5)
    assert projection.linear.weight.std() == pytest.approx(64**-0.5, rel=0.1) and not projection.linear.bias.any()
    assert projection.position_embedding.std() == pytest.approx(0.02, rel=0.2)
    limit = (6 / (32 + 32)) ** 0.5  # Xavier, as in the tower
    assert fusion.encoder.layers[1].self_attn.q_proj.weight.abs().max() == pytest.approx(limit, rel=0.05)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            dict(pixel_values=IMAGES),
            "text_pixel_values is missing: with num_fusion_layers=2 .*question_layout='two_canvas'",
        ),
        (
            dict(pixel_values=IMAGES, text_pixel_values=drawn(), question_tokens=torch.zeros(4, 3, 32)),
            "questions twice",
        ),
        (dict(text_pixel_values=drawn()), "needs its image once; pass either pixel_values or image_grid"),
        (dict(pixel_values=IMAGES, image_grid=torch.zeros(4, 4, 4, 32), text_pixel_values=drawn()), "image once"),
        (dict(pixel_values=IMAGES[:3], text_pixel_values=drawn()), "3 images and 4 questions do not pair up"),
        (dict(image_grid=torch.zeros(4, 16, 32), text_pixel_values=drawn()), r"is not float \(I, rows, columns, 32\)"),
        (
            dict(image_grid=torch.zeros(4, 4, 4, 31), text_pixel_values=drawn()),
            r"is not float \(I, rows, columns, 32\)",
        ),
        (dict(pixel_values=IMAGES, text_pixel_values=drawn(), image_index=torch.tensor([0, 1, 2, 4])), "0 to 3"),
        (dict(pixel_values=IMAGES, text_pixel_values=drawn(), image_index=torch.tensor([0, 1])), r"int64 \(4,\)"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        make()(**inputs)


def test_models_without_fusion_refuse_two_canvases():
    model = make(num_fusion_layers=0)
    with pytest.raises(ValueError, match="text_pixel_values needs a model with num_fusion_layers of 1 or more"):
        model(IMAGES, text_pixel_values=drawn())
    with pytest.raises(ValueError, match="image_grid needs a model"):
        model(image_grid=torch.zeros(1, 4, 4, 32))
    with pytest.raises(ValueError, match="pixel_values is missing"):
        model()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(num_fusion_layers=-1), "num_fusion_layers=-1 is not possible"),
        (dict(image_grid_shape=[7, 7, 64]), "needs num_fusion_layers of 1 or more"),
        (dict(num_fusion_layers=1, image_grid_shape=[7, 7]), "is not a grid"),
        (dict(num_fusion_layers=1, image_grid_shape=[7, 0, 64]), "is not a grid"),
    ],
)
def test_configs_that_are_not_possible(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny_config(**fields)


@torch.no_grad()
def test_the_processor_draws_two_canvases():
    model = make()
    processor = tiny_processor(model.config)
    images = [Image.new("RGB", (50, 40), colour) for colour in ("red", "blue")]
    options = dict(question_layout="two_canvas", return_tensors="pt")
    inputs = processor(images=images, questions=[["a?", "b?"], ["c?"]], **options)
    alone = [processor(images=images[i], questions=q, **options) for i, q in ((0, "a?"), (0, "b?"), (1, "c?"))]
    expected = torch.cat([model(**one).logits for one in alone])
    torch.testing.assert_close(model(**inputs).logits, expected, atol=2e-6, rtol=1e-5)
