"""The adapter speaks CLIP_benchmark's language: transform, tokenizer, two encoders, unnormalised vectors."""

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


def test_register_adds_one_model_type(monkeypatch):
    models = types.SimpleNamespace(TYPE2FUNC={}, MODEL_TYPES=["open_clip"])
    monkeypatch.setitem(sys.modules, "clip_benchmark", types.SimpleNamespace(models=models))
    register()
    register()
    assert models.MODEL_TYPES == ["open_clip", "clippo"]
    assert models.TYPE2FUNC["clippo"] is load_clippo


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "clip_benchmark", None)
    with pytest.raises(ImportError, match=r"clippo\[clip-benchmark\]"):
        register()
