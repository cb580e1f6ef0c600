"""Damaged, incomplete and unwritable caches: the embeddings stay right, and a warning names the file."""

import errno
import os

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from clippo.evaluation import cache as module
from clippo.evaluation.encoder import Encoder

from .test_encoder import CELLS, TEXTS


@pytest.fixture
def cached(tiny, tmp_path):
    """Function that embeds images and texts with a cache, its first result, and the two files of the cache."""

    def embed():
        encoder = Encoder(*tiny, cache=tmp_path)
        images = encoder.images([*CELLS, {"bytes": b"broken", "path": None}])
        return images.vectors, images.kept, encoder.texts(TEXTS), encoder.texts_cut

    first = embed()
    return embed, first, sorted(tmp_path.rglob("*.safetensors"))


def equal(first, second):
    return all(torch.equal(a, b) if torch.is_tensor(a) else a == b for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_is_computed_again(cached, seed, caplog):
    embed, first, files = cached
    draw = np.random.default_rng(seed)
    file = files[seed % 2]
    content = bytearray(file.read_bytes())
    content[draw.integers(len(content))] ^= 1 << draw.integers(8)
    file.write_bytes(content)
    assert equal(embed(), first)
    assert "is damaged" in caplog.text and file.name in caplog.text
    caplog.clear()
    assert equal(embed(), first) and not caplog.text  # the part was written again


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: {f"{name}s": tensor for name, tensor in tensors.items()},
        lambda tensors: {name: tensor for name, tensor in tensors.items() if name != "vectors"},
        lambda tensors: {**tensors, "vectors": tensors["vectors"][1:]},
        lambda tensors: {**tensors, "vectors": tensors["vectors"].flip(0)},
        lambda tensors: {**tensors, "vectors": tensors["vectors"].double()},
    ],
    ids=["renamed", "missing", "fewer rows", "other order", "other type"],
)
def test_other_tensors_are_computed_again(cached, change, caplog):
    embed, first, files = cached
    for file in files:
        save_file({name: tensor.contiguous() for name, tensor in change(load_file(file)).items()}, file)
    assert equal(embed(), first)
    assert all(file.name in caplog.text for file in files)


def test_a_part_under_another_name_is_computed_again(cached, caplog):
    embed, first, files = cached
    contents = [file.read_bytes() for file in files]
    for file, content in zip(files, reversed(contents), strict=True):
        file.write_bytes(content)
    assert equal(embed(), first)
    assert "is damaged" in caplog.text


@pytest.mark.parametrize("error", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_cache_that_cannot_be_written_is_left_out(tiny, tmp_path, monkeypatch, caplog, error):
    expected = Encoder(*tiny).texts(TEXTS)

    def refuse(*args, **kwargs):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(module.tempfile, "mkstemp", refuse)
    encoder = Encoder(*tiny, cache=tmp_path, part_size=2)
    torch.testing.assert_close(encoder.texts(TEXTS), expected, atol=1e-6, rtol=0)
    assert caplog.text.count("cannot be written") == 1 and os.strerror(error) in caplog.text
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_cannot_be_made_is_left_out(tiny, tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    encoder = Encoder(*tiny, cache=tmp_path / "file" / "cache")
    torch.testing.assert_close(encoder.texts(TEXTS), Encoder(*tiny).texts(TEXTS), atol=1e-6, rtol=0)
    assert "cannot be written" in caplog.text


def test_a_part_that_cannot_be_read_is_computed_again(cached, monkeypatch, caplog):
    embed, first, _ = cached

    def refuse(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(module, "safe_open", refuse)
    assert equal(embed(), first)
    assert "Permission denied" in caplog.text
