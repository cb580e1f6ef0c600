"""Pixel values to tokens: accepted formats, blank patches, other canvas sizes, refused inputs; config checks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clippo import ClippoModel
from clippo.modeling_clippo.initialization_clippo import sincos_positions
from clippo.modeling_clippo.patches_clippo import cut_patches, inked_patches
from clippo.modeling_clippo.pixels_clippo import BACKGROUND, INK, as_pixels, unpack_canvas
from clippo.processing import TextRenderer

from ..tiny import tiny_model

TEXTS = ["", "a", "hello world", "The quick brown fox jumps over the lazy dog", "日本語 и русский", "\n\t"]


def tiny(**fields) -> ClippoModel:
    return tiny_model(**{"noise": 0, **fields})


def rendered(format: str, texts=TEXTS, size=64) -> torch.Tensor:
    return torch.from_numpy(TextRenderer(canvas_size=size)(texts, format=format).canvases)


@given(st.lists(st.text(max_size=60), min_size=1, max_size=3))
@settings(max_examples=30, deadline=None)
def test_the_model_paints_packed_text_as_the_renderer_does(texts):
    torch.testing.assert_close(unpack_canvas(rendered("packed", texts)), rendered("float", texts), rtol=0, atol=0)


def test_three_formats_of_text_give_the_same_embedding():
    model = tiny()
    with torch.no_grad():
        packed, uint8, floats = (
            model.get_text_features(rendered(format)).pooler_output for format in ("packed", "uint8", "float")
        )
    torch.testing.assert_close(packed, floats, rtol=0, atol=0)
    torch.testing.assert_close(uint8, floats, rtol=0, atol=0)
    with torch.no_grad():
        through_a_data_set = model.get_text_features(rendered("uint8").long()).pooler_output
    torch.testing.assert_close(through_a_data_set, uint8, rtol=0, atol=0)


def test_uint8_is_scaled_as_the_official_value_range():
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    expected = np.arange(256, dtype=np.float32) / np.float32(255) * np.float32(2) - np.float32(1)
    np.testing.assert_array_equal(as_pixels(values, 3).expand(-1, 3, -1, -1)[0, 2].flatten(), expected)
    assert expected[127] == np.float32(BACKGROUND) and expected[0] == np.float32(INK)


def read_alone(model: ClippoModel, canvas: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode the inked patches of one text alone, without mask, padding or groups.

    Returns the projected embedding (E,) and the tokens on the canvas (N, D), written out with the parts of the tower.
    """
    tower, pixels = model.vision_model, as_pixels(canvas[None], 3).expand(-1, 3, -1, -1)
    patches = (
        pixels[0].unflatten(1, (-1, 16)).unflatten(3, (-1, 16)).permute(1, 3, 0, 2, 4).flatten(0, 1)
    )  # (N, 3, P, P)
    inked = [i for i, patch in enumerate(patches) if (patch != BACKGROUND).any()] or [0]
    patches = patches.to(tower.dtype)
    tokens = torch.stack([tower.embeddings.patch_embedding(patches[i][None])[0, :, 0, 0] for i in inked])
    tokens = (tokens + tower.embeddings.position_embedding[0, inked])[None]  # (1, kept, D)
    tokens = tower.post_layernorm(tower.encoder(tokens))
    on_canvas = tokens.new_zeros(len(patches), tokens.shape[-1])
    on_canvas[inked] = tokens[0]
    return model.projection(tower.head(tokens))[0], on_canvas


@pytest.fixture(scope="module", params=["eager", "sdpa"])
def skipping_model(request):
    # With noise the positions, the norms and the parameters of the MAP head matter.
    return tiny(skip_blank_patches=True, attention=request.param, noise=0.2).double()


@given(st.lists(st.text(st.characters(max_codepoint=0xFFFF), max_size=80), min_size=1, max_size=6), st.integers(0, 70))
@settings(max_examples=25, deadline=None)
def test_a_text_is_what_its_inked_patches_are_alone(skipping_model, texts, mates):
    """Embedding and tokens do not depend on the other texts of the batch, which is split in groups from 64 texts on."""
    canvases = rendered("packed", [*texts, *("w" * (i % 40) for i in range(mates))])
    with torch.no_grad():
        output = skipping_model.get_text_features(canvases)
        for i, canvas in enumerate(canvases[: len(texts)]):
            embedding, tokens = read_alone(skipping_model, canvas)
            torch.testing.assert_close(output.pooler_output[i], embedding, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(output.last_hidden_state[i], tokens, rtol=1e-9, atol=1e-9)


def test_so_are_its_gradients(skipping_model):
    """A padded batch in groups gives the gradients of the texts encoded one by one."""
    texts = rendered("packed", ["ab" * (i % 23) for i in range(70)])

    def gradients(embeddings):
        skipping_model.zero_grad()
        (embeddings.sin().sum() / len(texts)).backward()
        return {name: p.grad.clone() for name, p in skipping_model.named_parameters() if p.grad is not None}

    together = gradients(skipping_model.get_text_features(texts).pooler_output)
    alone = gradients(torch.stack([read_alone(skipping_model, text)[0] for text in texts]))
    assert together.keys() == alone.keys()
    for name, gradient in together.items():
        torch.testing.assert_close(gradient, alone[name], rtol=1e-5, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("inked", [3, 12])
def test_kept_patches_have_the_tokens_of_the_convolution(channels, inked):
    """The projection is one matrix product over the kept patches; the official one is a convolution over the canvas."""
    embeddings = tiny(skip_blank_patches=True).vision_model.embeddings.double()
    pixels = torch.full((2, channels, 64, 64), BACKGROUND, dtype=torch.float64)
    for i in range(inked):
        row, column = divmod(i, 4)
        pixels[:, :, 16 * row + 5, 16 * column + torch.arange(16)] = torch.randn(2, channels, 16).double()
    with torch.no_grad():
        tokens, packed = embeddings([(pixels, "text")], backend="varlen")
        whole = embeddings.patch_embedding(pixels.expand(-1, 3, -1, -1)).flatten(2).transpose(1, 2)
        whole = whole + embeddings.position_embedding
        every, _ = embeddings([(pixels, "image")])
    assert packed.cu_seqlens.tolist() == [0, inked, 2 * inked]
    torch.testing.assert_close(tokens[0].unflatten(0, (2, -1)), whole[:, :inked], rtol=0, atol=1e-12)
    torch.testing.assert_close(every[0].unflatten(0, (2, -1)), whole, rtol=0, atol=1e-12)


def test_an_adapter_on_the_projection_is_not_passed_over():
    """A module in the place of the convolution is called, as adapters of other packages are."""
    embeddings, texts = tiny(skip_blank_patches=True).vision_model.embeddings, rendered("packed")
    expected, _ = embeddings([(texts, "text")])
    embeddings.patch_embedding = torch.nn.Sequential(embeddings.patch_embedding)
    tokens, _ = embeddings([(texts, "text")])
    torch.testing.assert_close(tokens, expected, rtol=0, atol=1e-6)


def test_a_canvas_full_of_ink_is_read_whole():
    model, full = tiny(skip_blank_patches=True), rendered("packed", ["i" * 200])
    with torch.no_grad():
        torch.testing.assert_close(
            model.vision_model(full, modality="text").pooler_output,
            model.vision_model(full).pooler_output,
            rtol=0,
            atol=5e-6,
        )


def test_which_patches_are_kept():
    pixels = torch.full((2, 1, 32, 32), BACKGROUND)
    pixels[1, 0, 20, 3] = INK
    kept = inked_patches(pixels, 16, 3)
    assert kept.int().tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]  # an empty canvas keeps its first patch


def test_a_patch_of_solid_ink_is_not_blank():
    pixels = torch.full((1, 1, 32, 32), BACKGROUND)
    pixels[0, 0, :16, 16:] = INK
    assert inked_patches(pixels, 16, 3).int().tolist() == [[0, 1, 0, 0]]


@given(st.lists(st.text(max_size=80), min_size=1, max_size=4), st.sampled_from([16, 32]))
@settings(max_examples=30, deadline=None)
def test_packed_text_is_cut_out_unpainted(texts, patch_size):
    """Packed bits and the unpacked canvas give the same patches with the same pixel values."""
    packed = rendered("packed", texts)
    pixels = unpack_canvas(packed)
    kept = inked_patches(packed, patch_size, 3)
    assert torch.equal(kept, inked_patches(pixels, patch_size, 3))
    place = kept.flatten().nonzero().squeeze(1)
    expected = cut_patches(pixels, patch_size, 3)
    assert torch.equal(cut_patches(packed, patch_size, 3), expected)
    assert torch.equal(cut_patches(packed, patch_size, 3, place=place), expected[place])


def test_packed_text_of_small_patches():
    """Patches lower than a text row cannot be cut out of the bits and are unpacked first."""
    model = tiny(patch_size=8, skip_blank_patches=True)
    with torch.no_grad():
        packed, floats = (model.get_text_features(rendered(f)).pooler_output for f in ("packed", "float"))
    torch.testing.assert_close(packed, floats, rtol=0, atol=5e-6)


def test_positions_that_begin_as_waves():
    """One linear map leads from every position to its neighbour."""
    waves = sincos_positions(4, 6, 32)[0].reshape(4, 6, 32)
    below, left = waves[1:].reshape(-1, 32), waves[:-1].reshape(-1, 32)
    step = torch.linalg.lstsq(left, below, driver="gelsd").solution
    torch.testing.assert_close(left @ step, below, rtol=0, atol=1e-4)
    assert not torch.allclose(waves[0, 0], waves[0, 1]) and not torch.allclose(waves[0, 1], waves[1, 0])

    model = tiny(position_embedding_init="sincos2d", image_size=[64, 96])
    torch.testing.assert_close(
        model.vision_model.embeddings.position_embedding.data, waves.reshape(1, 24, 32), rtol=0, atol=0
    )


def test_loaded_positions_stay(tmp_path):
    model = tiny(position_embedding_init="sincos2d")
    torch.nn.init.normal_(model.vision_model.embeddings.position_embedding)
    model.save_pretrained(tmp_path)
    loaded = ClippoModel.from_pretrained(tmp_path).vision_model.embeddings.position_embedding
    assert torch.equal(loaded, model.vision_model.embeddings.position_embedding)


def test_images_are_never_thinned_out():
    """A patch of an image may have the grey of the text background."""
    model = tiny(skip_blank_patches=True)
    grey = torch.full((1, 3, 64, 64), 127, dtype=torch.uint8)
    with torch.no_grad():
        tokens = model.get_image_features(grey).last_hidden_state
    assert tokens.abs().sum(-1).all()


def test_positions_resampled_as_the_official_loader(shared, tiny_model):
    with np.load(shared("goldens", "tiny", "posemb_resample.npz")) as golden:
        embeddings = tiny_model.vision_model.embeddings
        embeddings.position_embedding.data = torch.from_numpy(golden["old_4x4"])
        for side in (3, 6, 8):
            with torch.no_grad():
                resampled = embeddings.positions_for(side, side)
            np.testing.assert_allclose(resampled, golden[f"new_{side}x{side}"], rtol=0, atol=1e-6)


def test_a_canvas_that_is_not_square():
    model = tiny(image_size=[32, 64])
    text = torch.from_numpy(TextRenderer(canvas_size=(32, 64))(["not square"], format="packed").canvases)
    with torch.no_grad():
        assert model(text_pixel_values=text).last_hidden_state.shape == (1, 8, 32)
        wider = model.get_image_features(torch.zeros(1, 3, 48, 80), interpolate_pos_encoding=True)
    assert wider.last_hidden_state.shape == (1, 15, 32)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (torch.zeros(1, 2, 64, 64), "2 channels; the model takes 1 or 3"),
        (torch.zeros(3, 64, 64), r"torch.float32 and shape \(3, 64, 64\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.int32), "int32"),
        (torch.zeros(1, 3, 64, 72), "64x72 pixels does not consist of whole 16-pixel patches"),
        (torch.zeros(1, 3, 32, 32), "interpolate_pos_encoding=True"),
    ],
)
def test_unreadable_pictures_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        tiny()(pixel_values=values)


def test_a_forgotten_return_tensors_is_said():
    with pytest.raises(TypeError, match='are a list, not a tensor; give the processor return_tensors="pt"'):
        tiny()(text_pixel_values=[rendered("uint8")[0].numpy()])


def test_nothing_to_look_at():
    with pytest.raises(ValueError, match="No input; pass pixel_values"):
        tiny()()


def test_a_large_batch_is_read_in_groups_of_similar_length():
    """Several groups give the order, embeddings and gradients of one pass over the whole batch."""
    model = tiny(skip_blank_patches=True)
    texts = rendered("packed", [chr(97 + i % 26) * (i * 7 % 40) for i in range(80)])
    groups = model.vision_model.embeddings([(texts, "text")], backend="padded")[1].groups
    assert len(groups) > 1 and groups[0].width < groups[-1].width
    assert sum(group.canvases for group in groups) == 80

    def gradients(**options):
        model.zero_grad()
        output = model.vision_model(texts, modality="text", **options)
        (output.pooler_output.sin().sum() + output.last_hidden_state.sin().sum()).backward()
        return output, [p.grad for p in model.vision_model.parameters()]

    grouped, grouped_gradients = gradients()
    whole, whole_gradients = gradients(output_hidden_states=True)
    assert [len(states) for states in whole.hidden_states] == [80] * 3
    torch.testing.assert_close(grouped.pooler_output, whole.pooler_output, rtol=0, atol=5e-6)
    torch.testing.assert_close(grouped.last_hidden_state, whole.last_hidden_state, rtol=0, atol=5e-6)
    for got, theirs in zip(grouped_gradients, whole_gradients, strict=True):
        torch.testing.assert_close(got, theirs, rtol=1e-4, atol=1e-4)


def test_blank_patches_are_skipped_in_text_only():
    text, image = rendered("uint8", ["hi"]), torch.full((1, 3, 64, 64), 127, dtype=torch.uint8)
    with torch.no_grad():
        whole, skipped = (
            tiny(skip_blank_patches=skip).get_text_features(text).last_hidden_state for skip in (False, True)
        )
        both = tiny(skip_blank_patches=True)(image, text)
    assert whole.abs().sum(-1).all() and not skipped.abs().sum(-1).all()
    assert both.vision_model_output.last_hidden_state.abs().sum(-1).all()
    torch.testing.assert_close(both.text_model_output.last_hidden_state, skipped)
