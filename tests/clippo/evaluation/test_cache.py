"""The name of a part changes with everything that its embeddings depend on, and a damaged part is missing."""

import copy

import pytest
import torch
from PIL import Image

from clippo.data.fingerprints import cell_fingerprint, digest
from clippo.data.samples import image_bytes
from clippo.evaluation.cache import (
    EmbeddingCache,
    model_fingerprint,
    processor_fingerprint,
)


def test_digest_keeps_pieces_apart():
    assert digest(b"ab", b"c") != digest(b"a", b"bc")
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest("a") != digest(b"a")


def test_every_weight_and_the_configuration_count(tiny):
    model, _ = tiny
    before = model_fingerprint(model)
    assert model_fingerprint(copy.deepcopy(model)) == before
    for name, parameter in model.named_parameters():
        kept = parameter.data.clone()
        parameter.data.view(-1)[-1] += 1
        assert model_fingerprint(model) != before, name
        parameter.data = kept
    assert model_fingerprint(model) == before
    assert model_fingerprint(copy.deepcopy(model).to(torch.bfloat16)) != before
    model.config.skip_blank_patches = not model.config.skip_blank_patches
    assert model_fingerprint(model) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda processor: setattr(processor.image_processor, "antialias", True),
        lambda processor: setattr(processor.image_processor, "image_mean", [0.4, 0.5, 0.5]),
        lambda processor: setattr(processor.tokenizer, "lowercase", False),
        lambda processor: setattr(processor.tokenizer, "monospace", True),
        lambda processor: setattr(processor.tokenizer, "max_chars", 1),
    ],
)
def test_every_preprocessing_flag_counts(tiny, change):
    _, processor = tiny
    before = processor_fingerprint(processor)
    assert processor_fingerprint(processor) == before
    change(processor)
    assert processor_fingerprint(processor) != before


def test_options_of_the_call_count(tiny):
    _, processor = tiny
    assert processor_fingerprint(processor) != processor_fingerprint(processor, antialias=True)


def test_changed_code_counts(tiny, monkeypatch):
    """The options stay the same, but the output changes."""
    _, processor = tiny
    before = processor_fingerprint(processor)
    resize = type(processor.image_processor).resize
    monkeypatch.setattr(
        type(processor.image_processor), "resize", lambda *args, **kwargs: 255 - resize(*args, **kwargs)
    )
    assert processor_fingerprint(processor) != before


def test_pictures_are_told_apart_in_every_form(tmp_path):
    red, blue = (Image.new("RGB", (4, 4), color) for color in ("red", "blue"))
    red.save(tmp_path / "red.png")
    content = (tmp_path / "red.png").read_bytes()
    same = [{"bytes": content, "path": None}, {"bytes": None, "path": str(tmp_path / "red.png")}, content]
    assert len({cell_fingerprint(cell) for cell in same}) == 1
    assert cell_fingerprint(red) != cell_fingerprint(blue)
    assert cell_fingerprint(Image.new("L", (4, 4))) != cell_fingerprint(Image.new("L", (2, 8)))
    assert image_bytes({"bytes": None, "path": None}) == b"" and image_bytes(red) is None


def test_what_was_saved_is_loaded_and_damage_is_missing(tmp_path, caplog):
    cache, tensors = EmbeddingCache(tmp_path), {"vectors": torch.randn(3, 4)}
    assert cache.load("ab12") is None
    cache.save("ab12", tensors)
    torch.testing.assert_close(cache.load("ab12"), tensors)
    assert [file.name for file in tmp_path.rglob("*") if file.is_file()] == ["ab12.safetensors"]
    (tmp_path / "ab" / "ab12.safetensors").write_bytes(b"short")
    assert cache.load("ab12") is None and "damaged" in caplog.text
    assert EmbeddingCache(None).load("ab12") is None
