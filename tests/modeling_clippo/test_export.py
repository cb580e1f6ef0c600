"""torch.jit.trace, torch.export and ONNX give the results of eager, for images and for text with skipped patches."""

import pytest
import torch

import clippo
from clippo.modeling_clippo import modeling_clippo, tower_clippo

from ..tiny import tiny_model

# Texts of unequal length, one of them empty. The example batch for tracing is smaller than the batch that is compared.
TEXTS = ["a cat", "a longer text that fills several rows", "鳥鳥鳥鳥鳥", "", "собака"]
IMAGES = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
INPUTS = ["image", "image-uint8", "text-float", "text-uint8", "text-packed"]

pytestmark = pytest.mark.filterwarnings("ignore")


class Embedder(torch.nn.Module):
    """One side of the model as a function of one tensor."""

    def __init__(self, model, side):
        super().__init__()
        self.model, self.side = model, side

    def forward(self, pixels):
        embed = self.model.get_image_features if self.side == "image" else self.model.get_text_features
        output = embed(pixels)
        return output.pooler_output, output.last_hidden_state


class Scorer(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values, text_pixel_values):
        return self.model(pixel_values, text_pixel_values).logits_per_image


def pixels(kind: str) -> torch.Tensor:
    side, _, canvas_format = kind.partition("-")
    if side == "image":
        return ((IMAGES + 1) / 2 * 255).to(torch.uint8) if canvas_format else IMAGES
    tokenizer = clippo.ClippoTokenizer(canvas_size=64, canvas_format=canvas_format)
    return tokenizer(TEXTS, return_tensors="pt")["text_pixel_values"]


def case(kind: str, attention: str = "sdpa"):
    """The embedder, the tensor, and the expected result of eager with patches that are really removed."""
    embedder = Embedder(tiny_model(skip_blank_patches=True, attention=attention), kind.partition("-")[0]).eval()
    values = pixels(kind)
    with torch.no_grad():
        expected = embedder(values)
    assert (expected[1] == 0).all(-1).any() == kind.startswith("text")
    return embedder, values, expected


def assert_close(got, expected):
    torch.testing.assert_close(tuple(map(torch.as_tensor, got)), tuple(expected), rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", INPUTS)
def test_trace(kind, attention):
    embedder, values, expected = case(kind, attention)
    with torch.no_grad():
        traced = torch.jit.trace(embedder, values[:2])
        assert_close(traced(values), expected)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", INPUTS)
def test_export_with_a_dynamic_batch(kind, attention):
    embedder, values, expected = case(kind, attention)
    with torch.no_grad():
        exported = torch.export.export(embedder, (values[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
        assert_close(exported.module()(values), expected)


def run_onnx(module, inputs, example, folder):
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    batch = torch.export.Dim("batch"), torch.export.Dim("texts")
    shapes = tuple({0: dimension} for dimension, _ in zip(batch, inputs, strict=False))
    with torch.no_grad():
        program = torch.onnx.export(module, example, dynamo=True, dynamic_shapes=shapes, verbose=False)
    program.save(folder / "model.onnx")
    session = runtime.InferenceSession(folder / "model.onnx")
    names = [value.name for value in session.get_inputs()]
    return session.run(None, dict(zip(names, (value.numpy() for value in inputs), strict=True)))


@pytest.mark.parametrize("kind", ["image", "text-uint8", "text-packed"])
def test_onnx(kind, tmp_path):
    embedder, values, expected = case(kind)
    assert_close(run_onnx(embedder, (values,), (values[:2],), tmp_path), expected)


def test_scores_of_images_against_texts(tmp_path):
    scorer = Scorer(tiny_model(skip_blank_patches=True))
    inputs = IMAGES[:4], pixels("text-uint8")
    example = IMAGES[:2], inputs[1][:3]
    shapes = ({0: torch.export.Dim("images")}, {0: torch.export.Dim("texts")})
    with torch.no_grad():
        expected = scorer(*inputs)
        torch.testing.assert_close(torch.jit.trace(scorer, example)(*inputs), expected, rtol=0, atol=1e-4)
        exported = torch.export.export(scorer, example, dynamic_shapes=shapes).module()
        torch.testing.assert_close(exported(*inputs), expected, rtol=0, atol=1e-4)
    (got,) = run_onnx(scorer, inputs, example, tmp_path)
    torch.testing.assert_close(torch.from_numpy(got), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["ForImageClassification", "ForSequenceClassification", "ForVisualQuestionAnswering"])
def test_heads(name):
    head = tiny_model(getattr(clippo, f"Clippo{name}"), skip_blank_patches=True, num_labels=3)
    values = pixels("text-packed" if name == "ForSequenceClassification" else "image")
    with torch.no_grad():
        expected = head(values, return_dict=False)
        head.config.return_dict = False
        assert_close(torch.jit.trace(head, values[:2])(values), expected)
        exported = torch.export.export(head, (values[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
        assert_close(exported.module()(values), expected)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_masked_form_has_the_gradients_of_the_packed_one(attention, monkeypatch):
    def gradients():
        model.zero_grad()
        output = model.get_text_features(pixels("text-uint8"))
        output.pooler_output.sin().sum().backward()
        return output.kept_patches, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    model = tiny_model(skip_blank_patches=True, attention=attention)
    kept, packed = gradients()
    for module in (modeling_clippo, tower_clippo):
        monkeypatch.setattr(module, "is_exporting", lambda: True)
    also_kept, masked = gradients()
    assert torch.equal(kept, also_kept)
    torch.testing.assert_close(masked, packed, rtol=1e-4, atol=1e-5)
