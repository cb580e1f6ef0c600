"""The canvas: one list of options, the three formats of one picture, and the examples of the public classes."""

import dataclasses
import doctest
import importlib
import inspect
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clippo.processing import ClippoTokenizer, RenderOptions
from clippo.processing.canvas_clippo import (
    columns_to_packed,
    columns_to_pixels,
    pack_columns,
    report_overflow,
    unpack_columns,
)

MODULES = ("canvas", "fonts", "rendering", "tokenization", "image_processing", "layout_question", "processing")
# Keys of tokenizer_config.json in folders saved by every version so far
SAVED_KEYS = {
    "added_tokens_decoder", "advances", "antialias_font", "auto_map", "backend", "background", "canvas_format",
    "canvas_size", "font_sha256", "ink", "lowercase", "max_chars", "min_width", "model_max_length", "monospace",
    "overflow", "pad_token", "pair_layout", "pair_separator", "shaping", "spacing", "tokenizer_class",
}  # fmt: skip


@pytest.mark.parametrize("module", MODULES)
def test_examples_of_the_docstrings_run(module):
    result = doctest.testmod(importlib.import_module(f"clippo.processing.{module}_clippo"))
    assert result.attempted > 0 and result.failed == 0


def test_the_tokenizer_has_the_options_and_defaults_of_the_renderer():
    parameters = inspect.signature(ClippoTokenizer.__init__).parameters
    for field in dataclasses.fields(RenderOptions):
        assert parameters[field.name].default == field.default, field.name
        assert hasattr(ClippoTokenizer(), field.name)


def test_a_saved_tokenizer_has_the_keys_it_always_had(tmp_path):
    ClippoTokenizer().save_pretrained(tmp_path)
    assert set(json.loads((tmp_path / "tokenizer_config.json").read_text())) == SAVED_KEYS


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**32 - 1))
def test_columns_become_the_same_pixels_in_every_format(background, ink, seed):
    bits = np.random.default_rng(seed).integers(0, 2, (8, 16), dtype=np.uint8)
    columns = pack_columns(bits)
    np.testing.assert_array_equal(unpack_columns(columns), bits)
    options = RenderOptions(canvas_size=32, background=background, ink=ink)
    (pixels,) = columns_to_pixels(columns[None], options.levels("uint8"))
    np.testing.assert_array_equal(pixels, np.where(bits.T == 1, ink, background))
    (scaled,) = columns_to_pixels(columns[None], options.levels("float"))
    np.testing.assert_array_equal(scaled, pixels.astype(np.float32) / np.float32(255) * np.float32(2) - np.float32(1))
    packed = columns_to_packed(columns)
    assert packed.dtype == np.int64 and packed.shape == (2,)
    np.testing.assert_array_equal(packed.view("<u2"), columns)


def test_overflow_is_reported_only_where_characters_are_cut():
    rendered = ClippoTokenizer(canvas_size=32).render(["word " * 40, "a"])
    with pytest.raises(ValueError, match=r"1 of 2 lines do not fit: the page cuts \d+ of the 200 characters of line 0"):
        report_overflow(rendered, "raise", None, limit="the page", unit="line")
    report_overflow(ClippoTokenizer(canvas_size=32).render("a"), "raise", None, limit="the page")
