"""ClippoTokenizer on disk: saved folders, their font, pickles and fingerprints."""

import json
import logging
import pickle
import shutil

import numpy as np
import pytest
from datasets.fingerprint import Hasher
from transformers import AutoTokenizer

from clippo.processing.tokenization_clippo import ClippoTokenizer

TEXTS = ["A photo of a dog", "", "снег", "犬の写真", "a\nb\ud800"]


def canvases(tokenizer, *args, **kwargs):
    return tokenizer(*args, return_tensors="np", **kwargs)["text_pixel_values"]


def test_saved_tokenizer_draws_the_same_bytes(tmp_path):
    options = dict(
        canvas_size=[64, 96], max_chars=40, lowercase=False, monospace=True, spacing=2, min_width=5, background=255,
        ink=1, antialias_font=True, advances="font", canvas_format="float", overflow="ignore", pair_separator=" ~ ",
    )  # fmt: skip
    tokenizer = ClippoTokenizer(**options)
    tokenizer.save_pretrained(tmp_path / "first")
    for door in (ClippoTokenizer, AutoTokenizer):
        loaded = door.from_pretrained(tmp_path / "first")
        assert type(loaded) is ClippoTokenizer
        for name, value in options.items():
            assert getattr(loaded, name) == value, name
        np.testing.assert_array_equal(canvases(loaded, TEXTS, TEXTS), canvases(tokenizer, TEXTS, TEXTS))
    loaded.save_pretrained(tmp_path / "second")
    loaded.save_pretrained(tmp_path / "first")  # onto the font that it was read from
    for name in ("tokenizer_config.json", "font.zip"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_the_font_is_saved_and_its_folder_may_go(tmp_path, shared):
    font = tmp_path / "fonts" / "unifont-9.0.06.hex"
    font.parent.mkdir()
    shutil.copy(shared("fonts", "unifont-9.0.06.hex"), font)
    tokenizer = ClippoTokenizer(font_file=font, canvas_size=64)
    shutil.rmtree(font.parent)
    tokenizer.save_pretrained(tmp_path / "model")
    loaded = ClippoTokenizer.from_pretrained(tmp_path / "model")
    assert loaded.font_sha256 == tokenizer.font_sha256 and len(loaded.font_sha256) == 1
    np.testing.assert_array_equal(canvases(loaded, ["नमस्ते"]), canvases(tokenizer, ["नमस्ते"]))
    assert not np.array_equal(canvases(loaded, ["नमस्ते"]), canvases(ClippoTokenizer(canvas_size=64), ["नमस्ते"]))


def test_another_font_than_the_saved_one_is_an_error(tmp_path, shared):
    ClippoTokenizer(font_file=shared("fonts", "unifont-9.0.06.hex")).save_pretrained(tmp_path / "official")
    ClippoTokenizer().save_pretrained(tmp_path / "ours")
    assert (tmp_path / "official" / "font.zip").is_file()
    shutil.copy(tmp_path / "ours" / "font.zip", tmp_path / "official" / "font.zip")
    with pytest.raises(ValueError, match=r"The font differs .* font_sha256=None"):
        ClippoTokenizer.from_pretrained(tmp_path / "official")
    (tmp_path / "official" / "font.zip").unlink()
    with pytest.raises(ValueError, match="The font differs"):
        ClippoTokenizer.from_pretrained(tmp_path / "official")
    accepted = ClippoTokenizer.from_pretrained(tmp_path / "official", font_sha256=None)
    assert accepted.font_sha256 == ClippoTokenizer().font_sha256
    (tmp_path / "ours" / "font.zip").write_bytes(b"PK\x03\x04 damaged")
    with pytest.raises(ValueError, match=r"font\.zip"):
        ClippoTokenizer.from_pretrained(tmp_path / "ours")


def test_pickled_tokenizer_and_stable_fingerprint():
    tokenizer = ClippoTokenizer(canvas_size=64)
    before = Hasher.hash(tokenizer)
    expected = canvases(tokenizer, TEXTS)
    assert Hasher.hash(tokenizer) == before, "a call must not change what datasets caches by"
    assert Hasher.hash(ClippoTokenizer(canvas_size=64)) == before
    assert Hasher.hash(ClippoTokenizer(canvas_size=80)) != before
    np.testing.assert_array_equal(canvases(pickle.loads(pickle.dumps(tokenizer)), TEXTS), expected)


def test_a_changed_attribute_counts_and_is_saved(tmp_path):
    tokenizer = ClippoTokenizer(canvas_size=64)
    tokenizer.lowercase = False
    assert not np.array_equal(canvases(tokenizer, "DOG"), canvases(tokenizer, "dog"))
    tokenizer.save_pretrained(tmp_path)
    assert ClippoTokenizer.from_pretrained(tmp_path).lowercase is False


def test_unknown_entries_of_a_folder_are_dropped_with_a_warning(tmp_path, caplog):
    ClippoTokenizer(canvas_size=64).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "wings": 2}))
    with caplog.at_level(logging.WARNING):
        loaded = ClippoTokenizer.from_pretrained(tmp_path)
    assert "no option 'wings'" in caplog.text and "wings" not in loaded.init_kwargs
