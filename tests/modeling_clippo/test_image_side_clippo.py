"""Image towers: shared, separate, locked, and vectors of another model."""

import numpy as np
import pytest
import torch

import clippo
from clippo.conversion import weight_table

from ..official_lit import load_golden, official_inputs, official_two_towers
from ..processes import run_processes
from ..tiny import save_tiny, tiny_config, tiny_model

FOREIGN = dict(image_tower="some/model", project_images=False)


@pytest.fixture(scope="module")
def inputs():
    """Six images and six texts of unequal length."""
    torch.manual_seed(1)
    texts = ["a cat", "a longer text that fills several rows of the canvas", "鳥鳥鳥鳥鳥", "", "собака", "ten"]
    drawn = clippo.ClippoTokenizer(canvas_size=64)(texts, return_tensors="pt")
    return {"pixel_values": torch.rand(6, 3, 64, 64) * 2 - 1, **drawn}


@pytest.fixture(scope="session")
def golden(shared):
    return load_golden(shared)


class TestOfficialCode:
    def test_forward_and_loss(self, golden):
        model = official_two_towers(golden)
        output = model(**official_inputs(golden), return_loss=True)
        for name, value in (("zimg", output.image_embeds), ("ztxt", output.text_embeds), ("loss", output.loss)):
            np.testing.assert_allclose(value.detach(), golden[name], rtol=0, atol=5e-6, err_msg=name)
        tolerance = 5e-6 * model.logit_scale.exp().item()
        np.testing.assert_allclose(output.logits_per_image.detach(), golden["logits_per_image"], rtol=0, atol=tolerance)

    def test_gradients(self, golden):
        model = official_two_towers(golden).train()
        model(**official_inputs(golden)).loss.backward()
        named = dict(model.named_parameters())
        table = {f"grads/{w.key.replace('img/', 'txt/')}": w for w in weight_table(model.config)}
        recorded = [name for name in golden if name.startswith("grads/")]
        assert len(recorded) == 6
        for name in recorded:
            gradient = table[name].to_numpy(named[table[name].name].grad)
            np.testing.assert_allclose(gradient, golden[name], rtol=0, atol=5e-6, err_msg=name)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        assert norm.item() == pytest.approx(golden["grad_norm_unlocked"].item(), abs=5e-6)

    def test_unlocked_the_image_tower_counts(self, golden):
        """The norm that clipping must not see: the lock is what keeps it out."""
        model = official_two_towers(golden).train()
        model.config.image_tower = "separate"
        model.requires_grad_(True)
        model(**official_inputs(golden)).loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)
        assert norm.item() == pytest.approx(golden["grad_norm_all"].item(), abs=5e-6)

    def test_given_vectors_are_the_locked_tower(self, golden):
        model, inputs = official_two_towers(golden).train(), official_inputs(golden)
        vectors = model.get_image_features(inputs["pixel_values"]).pooler_output
        loss = model(image_embeds=vectors, text_pixel_values=inputs["text_pixel_values"]).loss
        assert loss.item() == pytest.approx(golden["loss"].item(), abs=5e-6)


class TestParameters:
    @pytest.mark.parametrize(
        ("fields", "trained", "frozen"),
        [
            # The letters of LiT: the image side comes first; U or u is trained, L is locked.
            (dict(), 1, 0),
            (dict(image_tower="separate"), 2, 0),  # UU, Uu, uu, by what was loaded
            (dict(image_tower="locked"), 1, 1),  # LU, Lu
            (FOREIGN, 1, 0),  # LU, Lu with the locked tower elsewhere
        ],
    )
    def test_trainable_towers(self, fields, trained, frozen):
        model = tiny_model(**fields)
        tower = model.vision_model.num_parameters()
        projection = model.projection.weight.numel() + model.projection.bias.numel()
        assert model.num_parameters(only_trainable=True) == trained * (tower + projection) + 1
        assert model.num_parameters() == (trained + frozen) * (tower + projection) + 1

    def test_defaults_have_no_new_parameter(self):
        assert not [name for name in tiny_model().state_dict() if name.startswith("image_")]

    def test_a_projection_of_given_vectors(self):
        model = tiny_model(image_tower="some/model", image_embed_dim=7)
        assert model.image_projection.weight.shape == (24, 7) and model.image_projection.weight.requires_grad

    def test_a_locked_tower_stays_locked_after_loading(self, tmp_path):
        save_tiny(tmp_path, image_tower="locked", attention_dropout=0.5)
        model = clippo.ClippoModel.from_pretrained(tmp_path).train()
        frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
        assert frozen == {name for name, _ in model.named_parameters() if name.startswith("image_")}
        assert model.vision_model.training and not model.image_model.training and not model.image_projection.training


def gradients(model, **inputs):
    model.zero_grad()
    model.train()
    output = model(**inputs)
    output.loss.backward()
    return output.loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


class TestSteps:
    @pytest.mark.parametrize("loss_type", ["softmax", "sigmoid"])
    @pytest.mark.parametrize("dropout", [0.0, 0.3])
    def test_cached_vectors_train_like_a_locked_tower(self, inputs, loss_type, dropout):
        fields = dict(loss_type=loss_type, logit_bias_init_value=-3.0, skip_blank_patches=True)
        model = tiny_model(image_tower="locked", attention_dropout=dropout, **fields)
        vectors = model.eval().get_image_features(inputs["pixel_values"]).pooler_output
        torch.manual_seed(0)
        loss, expected = gradients(model, **inputs)
        torch.manual_seed(0)
        got_loss, got = gradients(model, image_embeds=vectors, text_pixel_values=inputs["text_pixel_values"])
        assert got_loss == pytest.approx(loss, abs=1e-6)
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)
        assert not [name for name in expected if name.startswith("image_")]

    @pytest.mark.parametrize("image_tower", ["separate", "locked"])
    def test_micro_batches_are_the_whole_batch(self, inputs, image_tower):
        model = tiny_model(image_tower=image_tower, skip_blank_patches=True)
        loss, expected = gradients(model, **inputs)
        model.micro_batch_size = 1
        got_loss, got = gradients(model, **inputs)
        assert got_loss == pytest.approx(loss, abs=1e-5)
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
        assert any(name.startswith("image_model") for name in got) == (image_tower == "separate")

    def test_several_texts_an_image_and_text_pairs_beside_vectors(self, inputs):
        model, texts = tiny_model(**FOREIGN), inputs["text_pixel_values"]
        vectors = torch.randn(3, 24)
        assert model(image_embeds=vectors, text_pixel_values=texts, return_loss=True).loss_per_pair.shape == (6,)
        output = model(image_embeds=vectors, first_text_pixel_values=texts[:3], text_pixel_values=texts)
        assert output.image_embeds.shape == (6, 24)
        torch.testing.assert_close(output.image_embeds[3:], output.text_embeds[:3])

    def test_half_precision_vectors_are_normalised_in_float32(self, inputs):
        vectors = torch.randn(6, 24).half()
        embeds = tiny_model(**FOREIGN)(image_embeds=vectors, text_pixel_values=inputs["text_pixel_values"]).image_embeds
        assert embeds.dtype == torch.float32
        torch.testing.assert_close(embeds, torch.nn.functional.normalize(vectors.float()), atol=1e-6, rtol=0)

    def test_the_projection_of_given_vectors_learns(self, inputs):
        model = tiny_model(image_tower="some/model", image_embed_dim=7)
        vectors = torch.randn(6, 7, requires_grad=True)
        _, got = gradients(model, image_embeds=vectors, text_pixel_values=inputs["text_pixel_values"])
        assert got["image_projection.weight"].abs().sum() > 0 and vectors.grad is None

    def test_a_shared_tower_without_projection_of_images(self, inputs):
        model = tiny_model(project_images=False, projection_dim=32)
        output = model(**inputs)
        pooled = output.vision_model_output.pooler_output
        torch.testing.assert_close(output.image_embeds, torch.nn.functional.normalize(pooled), atol=1e-6, rtol=0)
        torch.testing.assert_close(model.get_image_features(inputs["pixel_values"]).pooler_output, pooled)


def pairs(rows: slice) -> dict[str, torch.Tensor]:
    """Images, their vectors and texts of the global batch, cut to the rows of a process."""
    generator = torch.Generator().manual_seed(3)
    images, vectors = torch.rand(6, 3, 64, 64, generator=generator), torch.randn(6, 24, generator=generator)
    texts = clippo.ClippoTokenizer(canvas_size=64)(list("abcdef"), return_tensors="pt")["text_pixel_values"]
    return {"pixel_values": images[rows], "image_embeds": vectors[rows], "text_pixel_values": texts[rows]}


def step_of_a_process(rank: int, fields: dict, side: str) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of one step of data parallelism, with unequal numbers of rows."""
    batch = pairs(slice(0, 4) if rank == 0 else slice(4, 6))
    model = torch.nn.parallel.DistributedDataParallel(tiny_model(**fields).train())
    loss = model(**{name: batch[name] for name in (side, "text_pixel_values")}).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("fields", "side"),
    [(FOREIGN, "image_embeds"), (dict(image_tower="locked"), "pixel_values")],
    ids=["given", "locked"],
)
def test_two_processes_are_one_global_batch(tmp_path, fields, side):
    batch = pairs(slice(None))
    loss, expected = gradients(tiny_model(**fields), **{name: batch[name] for name in (side, "text_pixel_values")})
    results = run_processes(step_of_a_process, 2, tmp_path, fields, side)
    assert sum(own for own, _ in results) / 2 == pytest.approx(loss, abs=1e-6)
    for _, got in results:
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-5)


class TestRefusals:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (dict(image_tower="Locked"), "image_tower='Locked' is neither .* did you mean 'locked'"),
            (dict(image_tower=" "), "leave it out for the shared tower"),
            (dict(image_tower="locked", project_images=False), "leaves image vectors 32 wide"),
            (dict(image_tower="a/b"), "set project_images=False and projection_dim to their width"),
            (dict(image_embed_dim=8), "image_embed_dim=8 is the width of given vectors that are projected"),
            (dict(image_tower="a/b", image_embed_dim=0), "image_embed_dim=0 is not a width"),
        ],
    )
    def test_configs(self, fields, message):
        with pytest.raises(Exception, match=message):
            tiny_config(**fields)

    @pytest.mark.parametrize(
        "call",
        [
            lambda model, inputs: model.get_image_features(inputs["pixel_values"]),
            lambda model, inputs: model(**inputs),
            lambda model, inputs: model(pixel_values=inputs["pixel_values"]),
        ],
        ids=["features", "pairs", "images alone"],
    )
    def test_a_model_without_an_image_tower_says_where_vectors_come_from(self, inputs, call):
        with pytest.raises(ValueError, match=r"vectors come from 'some/model'.*clippo embed --model some/model"):
            call(tiny_model(**FOREIGN), inputs)

    @pytest.mark.parametrize(
        ("vectors", "message"),
        [
            (torch.zeros(6, 25), "25 numbers wide, and this model compares texts with vectors of 24"),
            (torch.zeros(6, 4, 6), "are not vectors"),
            (torch.zeros(6, 24, dtype=torch.int64), "are not vectors"),
        ],
    )
    def test_other_vectors(self, inputs, vectors, message):
        with pytest.raises(ValueError, match=message):
            tiny_model(**FOREIGN)(image_embeds=vectors, text_pixel_values=inputs["text_pixel_values"])

    def test_images_and_vectors_together(self, inputs):
        with pytest.raises(ValueError, match="pass images or their vectors"):
            tiny_model()(**inputs, image_embeds=torch.zeros(6, 24))


@pytest.mark.parametrize("image_tower", ["separate", "locked", "some/model"])
def test_saved_folders_say_which_tower_they_read_for(tmp_path, inputs, image_tower):
    fields = FOREIGN if image_tower == "some/model" else dict(image_tower=image_tower)
    folder = save_tiny(tmp_path, **fields)
    model = clippo.ClippoModel.from_pretrained(folder)
    assert model.config.image_tower == image_tower
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    name = {"some/model": "`some/model`"}.get(image_tower, "`image_model`")
    assert name in card.split("## Image tower")[1]
    assert ("pipeline(" in card) == (image_tower != "some/model")
    if image_tower == "some/model":  # the code of the card runs
        code = card.split("```python\n")[1].split("```")[0].replace("path/to/this/folder", folder)
        names = {"vectors": torch.randn(3, 24)}
        exec(code, names)
        assert names["scores"].shape == (2, 3)


@pytest.mark.parametrize(("image_tower", "tower"), [("locked", "image"), ("separate", "text"), ("shared", "image")])
def test_a_classifier_of_images_takes_the_tower_that_is_named(tmp_path, image_tower, tower):
    model = tiny_model(image_tower=image_tower)
    model.save_pretrained(tmp_path / "two")
    options = {} if tower == "image" else {"tower": tower}
    head = clippo.ClippoForImageClassification.from_pretrained(tmp_path / "two", num_labels=5, **options)
    own = "image_model" if tower == "image" and image_tower != "shared" else "vision_model"
    for name, tensor in head.vision_model.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[f"{own}.{name}"])
    assert head.config.num_labels == 5 and head.config.image_tower == "shared"
    assert all(parameter.requires_grad for parameter in head.parameters())
    head.save_pretrained(tmp_path / "head")
    again = clippo.ClippoForImageClassification.from_pretrained(tmp_path / "head")
    assert torch.equal(again.vision_model.head.probe, head.vision_model.head.probe)
    with pytest.raises(ValueError, match="tower='both' is not known; choose 'image' or 'text'"):
        clippo.ClippoForImageClassification.from_pretrained(tmp_path / "two", tower="both")
