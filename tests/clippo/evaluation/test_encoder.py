"""Whole data sets: the parts add up, nothing is computed twice, a kill loses one part, broken pictures are counted."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clippo import ClippoConfig, ClippoModel, ClippoProcessor
from clippo.evaluation.embeddings import embed_images, embed_texts
from clippo.evaluation.encoder import Encoder

ROOT = Path(__file__).resolve().parents[3]


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


CELLS = [{"bytes": png(seed), "path": None} for seed in range(10)]
TEXTS = ["cat", "犬", "", "a longer text", "cat", "Ж"]


@pytest.fixture
def looks(tiny, monkeypatch):
    """Number of pictures and texts that the model was asked for since the fixture was made."""
    model, _ = tiny
    seen = {"pictures": 0, "texts": 0}

    def count(name, kind, values):
        method = getattr(model, name)

        def counted(pixels=None, **kwargs):
            pixels = kwargs.pop(values) if pixels is None else pixels
            seen[kind] += len(pixels)
            return method(pixels, **kwargs)

        monkeypatch.setattr(model, name, counted)

    count("get_image_features", "pictures", "pixel_values")
    count("get_text_features", "texts", "text_pixel_values")
    return seen


@pytest.mark.parametrize(("batch_size", "part_size"), [(1, 1), (3, 4), (64, 1024)])
def test_parts_and_batches_change_nothing(tiny, batch_size, part_size):
    encoder = Encoder(*tiny, batch_size=batch_size, text_batch_size=batch_size, part_size=part_size)
    images = [Image.open(io.BytesIO(cell["bytes"])) for cell in CELLS]
    pictures = encoder.pictures(CELLS)
    assert pictures.kept == list(range(10)) and not pictures.broken
    torch.testing.assert_close(pictures.vectors, embed_images(*tiny, images), atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.texts(TEXTS), embed_texts(*tiny, TEXTS), atol=1e-6, rtol=0)


def test_pooled_vectors_are_those_before_the_projection(tiny):
    model, processor = tiny
    vectors = (
        Encoder(model, processor).pictures(CELLS[:2], pooled=True, size=40, do_center_crop=True, crop_size=32).vectors
    )
    images = [Image.open(io.BytesIO(cell["bytes"])) for cell in CELLS[:2]]
    inputs = processor(images=images, return_tensors="pt", size=40, do_center_crop=True, crop_size=32)
    with torch.no_grad():
        expected = model.eval().vision_model(**inputs).pooler_output
    torch.testing.assert_close(vectors, expected, atol=1e-6, rtol=0)


def test_nothing_is_computed_twice_and_nothing_stale_is_served(tiny, looks, tmp_path):
    model, processor = tiny

    def embed():
        encoder = Encoder(model, processor, tmp_path, part_size=4)
        return encoder.pictures(CELLS).vectors, encoder.texts(TEXTS), encoder.texts_cut

    first = embed()
    assert looks == {"pictures": 10, "texts": 5}  # one text comes twice
    again = embed()
    assert looks == {"pictures": 10, "texts": 5}
    torch.testing.assert_close(again, first, atol=0, rtol=0)

    processor.image_processor.antialias = True  # one flag of the preprocessing
    changed = embed()
    assert looks["pictures"] == 20 and not torch.equal(changed[0], first[0])
    processor.image_processor.antialias = False
    with torch.no_grad():
        model.projection.bias += 0.1  # one weight
    changed = embed()
    assert looks["pictures"] == 30 and not torch.equal(changed[0], first[0])

    encoder = Encoder(model, processor, tmp_path, part_size=4)
    encoder.pictures([*CELLS[:4], {"bytes": png(99), "path": None}, *CELLS[5:]])  # one picture: its part alone
    assert looks["pictures"] == 34


def test_a_kill_loses_one_part_at_most(tmp_path):
    code = """
import os, sys, torch
import clippo
from clippo.evaluation import cache
from clippo.evaluation.encoder import Encoder
torch.manual_seed(0)
size = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32)
config = clippo.ClippoConfig(**size)
encoder = Encoder(clippo.ClippoModel(config), clippo.ClippoProcessor.from_size(32), sys.argv[1], part_size=2)
replace, done = os.replace, []
def killed(source, target):
    if len(done) == int(sys.argv[2]):
        os._exit(9)  # in the middle of a part: written, not yet in its place
    done.append(target)
    replace(source, target)
cache.os.replace = killed
vectors = encoder.texts([f"text {i}" for i in range(10)])
print(len(done), round(float(vectors.double().sum()), 6))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(folder, limit):
        command = [sys.executable, "-c", code, str(tmp_path / folder), str(limit)]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    assert run("killed", 3).returncode == 9
    resumed = run("killed", 99)
    assert resumed.returncode == 0, resumed.stderr
    written, total = resumed.stdout.split()
    assert written == "2"  # of five parts three were there
    torch.manual_seed(0)
    size = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32)
    whole = Encoder(ClippoModel(ClippoConfig(**size)), ClippoProcessor.from_size(32))
    assert float(total) == pytest.approx(float(whole.texts([f"text {i}" for i in range(10)]).double().sum()), abs=1e-5)


def test_broken_pictures_are_counted_with_and_without_cache(tiny, tmp_path):
    cells = [CELLS[0], {"bytes": b"no picture", "path": None}, CELLS[1], {"bytes": None, "path": None}, CELLS[2]]
    for cache in (None, tmp_path, tmp_path):
        pictures = Encoder(*tiny, cache=cache, part_size=2).pictures(cells)
        assert pictures.kept == [0, 2, 4] and set(pictures.broken) == {1, 3}
        assert "cannot identify image" in pictures.broken[1] and "no image" in pictures.broken[3]
        assert pictures.select("abcde") == ["a", "c", "e"]
        torch.testing.assert_close(pictures.vectors, Encoder(*tiny).pictures(CELLS[:3]).vectors, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="None of the 1 pictures can be read; the first fails with"):
        Encoder(*tiny).pictures(cells[1:2])


def test_a_part_of_broken_pictures_alone(tiny, tmp_path):
    cells = [*[{"bytes": b"x", "path": None}] * 2, *CELLS[:2]]
    for _ in range(2):
        pictures = Encoder(*tiny, cache=tmp_path, part_size=2).pictures(cells)
        assert pictures.kept == [2, 3] and pictures.vectors.shape == (2, 24)


def test_texts_that_do_not_fit_are_counted(tiny, tmp_path):
    for _ in range(2):  # the second time from the cache
        encoder = Encoder(*tiny, cache=tmp_path)
        encoder.texts(["a", "w" * 100, "w" * 100, "m" * 90])
        assert encoder.texts_cut == 2


def test_weights_that_are_no_numbers_are_an_error_and_not_cached(tiny, tmp_path):
    model, processor = tiny
    with torch.no_grad():
        model.projection.weight[0, 0] = torch.nan
    encoder = Encoder(model, processor, tmp_path)
    with pytest.raises(ValueError, match="10 embeddings are not finite, the first is that of picture 0"):
        encoder.pictures(CELLS)
    with pytest.raises(ValueError, match="the first is that of text 0"):
        encoder.texts(["a"])
    assert not list(tmp_path.rglob("*.safetensors"))


def test_nothing_to_embed_is_said(tiny):
    encoder = Encoder(*tiny)
    with pytest.raises(ValueError, match="no pictures to embed"):
        encoder.pictures([])
    with pytest.raises(ValueError, match="no texts to embed"):
        encoder.texts([])
    with pytest.raises(TypeError, match="one string"):
        encoder.texts("cat")
    with pytest.raises(ValueError, match="part_size is a positive number, got 0"):
        Encoder(*tiny, part_size=0)


def test_the_mode_of_the_model_stays(tiny):
    model, processor = tiny
    model.train()
    Encoder(model, processor).texts(["a"])
    assert model.training
