"""Whole data sets: parts add up, each part is computed once, a kill loses one part, broken images are counted."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clippo.evaluation.encoder import Encoder, evaluation_mode

from ...tiny import tiny_model, tiny_processor

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
    """Number of images and texts that the model embedded since the fixture was made."""
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
    opened = [Image.open(io.BytesIO(cell["bytes"])) for cell in CELLS]
    images = encoder.images(CELLS)
    with torch.no_grad():
        expected = tiny[0].eval()(**tiny[1](images=opened, text=TEXTS * 2, return_tensors="pt"), return_loss=False)
    assert images.kept == list(range(10)) and not images.broken
    torch.testing.assert_close(images.vectors, expected.image_embeds, atol=1e-6, rtol=0)
    torch.testing.assert_close(encoder.texts(TEXTS), expected.text_embeds[: len(TEXTS)], atol=1e-6, rtol=0)


def test_pooled_vectors_are_those_before_the_projection(tiny):
    model, processor = tiny
    vectors = (
        Encoder(model, processor).images(CELLS[:2], pooled=True, size=40, do_center_crop=True, crop_size=32).vectors
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
        return encoder.images(CELLS).vectors, encoder.texts(TEXTS), encoder.texts_cut

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
    encoder.images([*CELLS[:4], {"bytes": png(99), "path": None}, *CELLS[5:]])  # one image changes one part
    assert looks["pictures"] == 34


def test_a_kill_loses_one_part_at_most(tmp_path):
    code = """
import os, sys
from clippo.evaluation import cache
from clippo.evaluation.encoder import Encoder
from tests.tiny import tiny_model, tiny_processor
model = tiny_model(image_size=32)
encoder = Encoder(model, tiny_processor(model.config), sys.argv[1], part_size=2)
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
    model = tiny_model(image_size=32)
    whole = Encoder(model, tiny_processor(model.config))
    assert float(total) == pytest.approx(float(whole.texts([f"text {i}" for i in range(10)]).double().sum()), abs=1e-5)


def test_broken_pictures_are_counted_with_and_without_cache(tiny, tmp_path):
    cells = [CELLS[0], {"bytes": b"no picture", "path": None}, CELLS[1], {"bytes": None, "path": None}, CELLS[2]]
    for cache in (None, tmp_path, tmp_path):
        images = Encoder(*tiny, cache=cache, part_size=2).images(cells)
        assert images.kept == [0, 2, 4] and set(images.broken) == {1, 3}
        assert "cannot identify image" in images.broken[1] and "no image" in images.broken[3]
        assert images.select("abcde") == ["a", "c", "e"]
        torch.testing.assert_close(images.vectors, Encoder(*tiny).images(CELLS[:3]).vectors, atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="None of the 1 images can be read; the first fails with"):
        Encoder(*tiny).images(cells[1:2])


def test_a_part_of_broken_pictures_alone(tiny, tmp_path):
    cells = [*[{"bytes": b"x", "path": None}] * 2, *CELLS[:2]]
    for _ in range(2):
        images = Encoder(*tiny, cache=tmp_path, part_size=2).images(cells)
        assert images.kept == [2, 3] and images.vectors.shape == (2, 24)


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
    with pytest.raises(ValueError, match="10 embeddings are not finite; the first belongs to image 0"):
        encoder.images(CELLS)
    with pytest.raises(ValueError, match="the first belongs to text 0"):
        encoder.texts(["a"])
    assert not list(tmp_path.rglob("*.safetensors"))


def test_nothing_to_embed_is_said(tiny):
    encoder = Encoder(*tiny)
    with pytest.raises(ValueError, match="no images to embed"):
        encoder.images([])
    with pytest.raises(ValueError, match="no texts to embed"):
        encoder.texts([])
    with pytest.raises(TypeError, match="one string"):
        encoder.texts("cat")
    with pytest.raises(ValueError, match="part_size must be a positive number, got 0"):
        Encoder(*tiny, part_size=0)


def test_the_mode_of_the_model_stays(tiny):
    model, processor = tiny
    model.train()
    Encoder(model, processor).texts(["a"])
    assert model.training


NAMES = ["a", "犬", "a long name", "", "cat", "a", "Ж", "犬"]


def photos_of(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 40, 30, 3), dtype=np.uint8)
    return [Image.fromarray(image) for image in pixels]


def test_both_sides_are_the_embeddings_of_the_forward_pass(tiny):
    model, processor = tiny
    images = photos_of(len(NAMES))
    with torch.no_grad():
        expected = model.eval()(**processor(images=images, text=NAMES, return_tensors="pt"))
    torch.testing.assert_close(
        Encoder(model, processor).images(images).vectors, expected.image_embeds, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(Encoder(model, processor).texts(NAMES), expected.text_embeds, atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_and_repeated_texts_change_nothing(tiny, batch_size):
    model, processor = tiny
    one_by_one = torch.cat([Encoder(model, processor).texts([text]) for text in NAMES])
    torch.testing.assert_close(
        Encoder(model, processor, text_batch_size=batch_size).texts(NAMES), one_by_one, atol=1e-6, rtol=0
    )
    images = photos_of(5)
    one_by_one = torch.cat([Encoder(model, processor).images([image]).vectors for image in images])
    torch.testing.assert_close(
        Encoder(model, processor, batch_size=batch_size).images(images).vectors, one_by_one, atol=1e-6, rtol=0
    )


def test_each_different_text_is_embedded_once(tiny, monkeypatch):
    model, processor = tiny
    seen = []
    original = model.get_text_features
    monkeypatch.setattr(
        model, "get_text_features", lambda **inputs: seen.append(len(inputs["text_pixel_values"])) or original(**inputs)
    )
    assert len(Encoder(model, processor, text_batch_size=4).texts(NAMES)) == len(NAMES)
    assert seen == [4, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_result_is_float32_of_unit_length_on_the_cpu(tiny, dtype):
    model, processor = tiny
    for embeddings in (
        Encoder(model.to(dtype), processor).texts(NAMES),
        Encoder(model, processor).images(photos_of(3)).vectors,
    ):
        assert embeddings.dtype == torch.float32 and embeddings.device.type == "cpu"
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(embeddings)))
        # A tensor born in inference mode could not be saved for a backward pass.
        (embeddings * torch.ones(1, requires_grad=True)).sum().backward()


def test_packed_canvases_give_the_same(tiny):
    model, processor = tiny
    expected = Encoder(model, processor).texts(NAMES)
    processor.tokenizer.canvas_format = "packed"
    torch.testing.assert_close(Encoder(model, processor).texts(NAMES), expected, atol=1e-6, rtol=0)


def test_images_are_read_one_batch_at_a_time(tiny):
    """A data set decodes images when they are indexed; not all of them may be in memory."""

    class Column:
        def __init__(self, images):
            self.images, self.reads = images, []

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            self.reads.append(index)
            return self.images[index]

    column = Column(photos_of(5))
    assert len(Encoder(*tiny, batch_size=2).images(column).vectors) == 5
    assert column.reads == [0, 1, 2, 3, 4]


def test_training_mode_comes_back_module_by_module(tiny):
    model, processor = tiny
    model.train()
    model.vision_model.eval()  # as someone freezes the tower
    modes = [module.training for module in model.modules()]
    Encoder(model, processor).texts(["a"])
    assert [module.training for module in model.modules()] == modes

    def fail_in_evaluation():
        with evaluation_mode(model):
            assert not any(module.training for module in model.modules())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_in_evaluation()
    assert [module.training for module in model.modules()] == modes


def test_progress_is_shown_only_on_request(tiny, capsys):
    Encoder(*tiny).texts(["a", "b"])
    assert capsys.readouterr().err == ""
    Encoder(*tiny, progress=True).texts(["a", "b"])
    assert "texts: 100%" in capsys.readouterr().err


def test_errors_name_the_remedy(tiny):
    with pytest.raises(TypeError, match="pass a list of strings"):
        Encoder(*tiny).texts("dog")
    with pytest.raises(TypeError, match="pass a sequence of images"):
        Encoder(*tiny).images(photos_of(1)[0])
    with pytest.raises(TypeError, match="pass a sequence of images"):
        Encoder(*tiny).images("dog.png")
    with pytest.raises(ValueError, match="batch_size must be a positive number, got 0"):
        Encoder(*tiny, batch_size=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tiny):
    model, processor = tiny
    expected = Encoder(model, processor).texts(NAMES)
    torch.testing.assert_close(Encoder(model.cuda(), processor).texts(NAMES), expected, atol=1e-3, rtol=0)
