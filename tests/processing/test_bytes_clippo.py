"""Byte ids against ByT5Tokenizer, damaged UTF-8, labels, and the streamer of whole characters."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from clippo.processing import ByteStreamer
from clippo.processing.bytes_clippo import to_ids, to_labels, to_text

from ..tiny import tiny_processor

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<")))
def test_ids_are_those_of_byt5(text):
    assert to_ids(text) == ByT5Tokenizer()(text)["input_ids"]


@given(TEXTS)
def test_round_trip(text):
    assert to_text(to_ids(text)) == text


@given(TEXTS, st.integers(1, 12))
def test_a_cut_text_is_a_prefix_of_whole_characters(text, length):
    ids = to_ids(text, length)
    assert len(ids) <= length
    assert text.startswith(to_text(ids))
    assert (ids[-1:] == [1]) == (len(text.encode()) < length)


def test_markup_in_a_text_is_not_the_end():
    assert to_text(to_ids("a</s>b<extra_id_0>")) == "a</s>b<extra_id_0>"


def test_damaged_utf8_becomes_the_replacement_character():
    assert to_text([0, 0xC3 + 3, 0x41 + 3, 1]) == "\ufffdA"
    assert to_text([300, 0x41 + 3, 2, 0, 383]) == "A"  # ids that are no bytes are left out
    assert to_ids("\ud800") == [ord("?") + 3, 1]


def test_labels_end_with_one_and_minus_100():
    assert to_labels(["a", "", "bc"]).tolist() == [[100, 1, -100], [1, -100, -100], [101, 102, 1]]
    with pytest.raises(TypeError, match=r"Target 1 is of type int \(7\); give a string"):
        to_labels(["a", 7])


def test_processor_makes_labels_and_decodes_ids():
    processor = tiny_processor()
    batch = processor(text=["x", "y"], targets=["é", "ab"], return_tensors="pt")
    assert batch["text_pixel_values"].shape == (2, 1, 64, 64)
    assert processor.batch_decode(batch["labels"]) == ["é", "ab"]
    assert processor.batch_decode(np.array([[0, 100, 1, 0]])) == ["a"]
    assert processor(targets="a")["labels"].dtype == torch.int64


@given(TEXTS)
def test_streamed_pieces_are_whole_characters(text):
    streamer = ByteStreamer()
    streamer.put(torch.tensor([[0]]))
    for index in to_ids(text):
        streamer.put(torch.tensor([index]))
    streamer.end()
    pieces = list(streamer)
    assert "".join(pieces) == text
    assert all(len(piece) == 1 for piece in pieces)


def test_streamer_refuses_a_batch_and_ends_incomplete_characters():
    with pytest.raises(ValueError, match="takes one text, but got a batch of 2"):
        ByteStreamer().put(torch.zeros(2, 1))
    streamer = ByteStreamer()
    streamer.put([0xC3 + 3])
    streamer.end()
    assert list(streamer) == ["\ufffd"]
