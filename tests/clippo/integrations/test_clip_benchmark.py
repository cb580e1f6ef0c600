"""The adapter has the interface of CLIP_benchmark: transform, tokenizer, two encoders without normalization."""

import pickle
import sys
import types

import pytest
import torch
from PIL import Image

from clippo.evaluation.encoder import Encoder
from clippo.integrations.clip_benchmark import load_clippo, register


@pytest.fixture
def folder(tiny, tmp_path):
    for part in tiny:
        part.save_pretrained(tmp_path)
    return str(tmp_path)


def test_embeddings_are_ours(tiny, folder):
    model, transform, tokenizer = load_clippo(folder, device="cpu")
    pictures = [Image.new("RGB", (20, 30), color) for color in ("red", "blue")]
    with torch.no_grad():
        images = model.encode_image(torch.stack([transform(picture) for picture in pictures]).to("cpu"))
        texts = model.encode_text(tokenizer(["cat", "犬"]).to("cpu"))
    for mine, theirs in (
        (images, Encoder(*tiny).images(pictures).vectors),
        (texts, Encoder(*tiny).texts(["cat", "犬"])),
    ):
        torch.testing.assert_close(torch.nn.functional.normalize(mine, dim=-1), theirs, atol=1e-6, rtol=0)
        assert not torch.allclose(mine.norm(dim=-1), torch.ones(2), atol=1e-3)


class Images(torch.utils.data.Dataset):
    """Data set of three images with a transform."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return self.transform(Image.new("RGB", (20, 30), (80 * index, 0, 0)))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_workers_of_any_start_method_draw_the_same(folder, method):
    _, transform, tokenizer = load_clippo(folder)
    images = Images(transform)
    loader = torch.utils.data.DataLoader(images, batch_size=3, num_workers=1, multiprocessing_context=method)
    (batch,) = loader
    torch.testing.assert_close(batch, torch.stack([images[i] for i in range(3)]), atol=0, rtol=0)
    again = pickle.loads(pickle.dumps(tokenizer))
    torch.testing.assert_close(again(["cat", "犬"]), tokenizer(["cat", "犬"]), atol=0, rtol=0)


@pytest.fixture
def clip_benchmark(monkeypatch):
    """Replacements of the modules of CLIP_benchmark that the adapter changes."""
    models = types.SimpleNamespace(TYPE2FUNC={}, MODEL_TYPES=["open_clip"])
    metrics = types.SimpleNamespace(
        zeroshot_classification=types.SimpleNamespace(accuracy=None), linear_probe=types.SimpleNamespace(accuracy=None)
    )
    monkeypatch.setitem(sys.modules, "clip_benchmark", types.SimpleNamespace(models=models, metrics=metrics))
    monkeypatch.setitem(sys.modules, "clip_benchmark.metrics", metrics)
    return models, metrics


def test_register_adds_one_model_type(clip_benchmark):
    models, metrics = clip_benchmark
    register()
    register()
    assert models.MODEL_TYPES == ["open_clip", "clippo"]
    assert models.TYPE2FUNC["clippo"] is load_clippo
    scores = torch.tensor([[3.0, 2, 1], [3.0, 2, 1], [1.0, 2, 3], [1.0, 3, 2]])
    for module in (metrics.zeroshot_classification, metrics.linear_probe):
        # CLIP_benchmark's own function raises TypeError with NumPy 2.4.
        assert module.accuracy(scores, torch.tensor([0, 1, 0, 1]), topk=(1, 2)) == [0.5, 0.75]


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "clip_benchmark", None)
    with pytest.raises(ImportError, match=r"clippo\[clip-benchmark\]"):
        register()
