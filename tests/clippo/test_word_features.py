"""Word features: spans, shares of area on patches, words that were cut, pooled vectors."""

import numpy as np
import pytest
import torch

import clippo
from clippo.word_features import patch_weights, pool_words, word_features, word_spans


def test_spans_are_those_of_the_words():
    text = " the  black\tcat "
    assert [text[start:end] for start, end in word_spans(text)] == ["the", "black", "cat"]
    words = ["New York", "", "cat"]
    joined = " ".join(words)
    assert [joined[start:end] for start, end in word_spans(words)] == words
    assert word_spans("  ") == [] and word_spans([]) == []


def test_weights_are_shares_of_area():
    boxes = np.array([[0, 0, 8, 16], [8, 0, 24, 16], [24, 0, 28, 16], [0, 16, 16, 32]])
    got = patch_weights(boxes, [(0, 2), (3, 4), (4, 6)], [32, 32])
    # The first word has 24 columns, 16 of them on the first patch; the last one was cut.
    np.testing.assert_allclose(got, [[2 / 3, 1 / 3, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    fine = patch_weights(boxes, [(0, 2)], 32, patch_size=8)
    assert fine.shape == (1, 16) and fine[0, [0, 1, 2, 4, 5, 6]].tolist() == pytest.approx([1 / 6] * 6)


def test_the_ink_of_a_word_is_on_its_patches():
    tokenizer = clippo.ClippoTokenizer(canvas_size=64)
    text = "a black cat and снег 犬"
    whole = tokenizer.render(text, boxes=True)
    weights = patch_weights(whole.boxes[0], word_spans(text), 64)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    for (start, end), row in zip(word_spans(text), weights, strict=True):
        ink = np.zeros((64, 64), bool)
        for x0, y0, x1, y1 in whole.boxes[0][start:end]:
            ink[y0:y1, x0:x1] = whole.canvases[0, 0, y0:y1, x0:x1] == 0
        inked = ink.reshape(4, 16, 4, 16).any((1, 3)).ravel()
        assert inked.any() and (row[inked] > 0).all()


def test_words_beyond_the_canvas_weigh_nothing():
    tokenizer = clippo.ClippoTokenizer(canvas_size=64)
    text = "word " * 50
    rendered = tokenizer.render(text, boxes=True)
    weights = patch_weights(rendered.boxes[0], word_spans(text), 64)
    assert len(weights) == 50 and weights[0].sum() == pytest.approx(1) and not weights[-1].any()
    with pytest.raises(ValueError, match="whole 24-pixel patches"):
        patch_weights(rendered.boxes[0], word_spans(text), 64, patch_size=24)


def test_pooling_is_a_weighted_mean_over_the_patches_that_were_read():
    hidden = torch.tensor([[1.0, 2.0], [3.0, 6.0], [0.0, 0.0]])
    weights = torch.tensor([[0.25, 0.75, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[2.5, 5.0], [1.0, 2.0], [0.0, 0.0]])
    torch.testing.assert_close(pool_words(hidden, weights), expected)
    torch.testing.assert_close(pool_words(torch.stack([hidden] * 2), torch.stack([weights] * 2))[1], expected)
    with pytest.raises(ValueError, match="for 3 patches, the features of 4"):
        pool_words(torch.ones(4, 2), weights)


@pytest.mark.parametrize("skip", [False, True])
def test_words_of_texts(save_tiny, skip):
    folder = save_tiny(skip_blank_patches=skip)
    model = clippo.ClippoModel.from_pretrained(folder).eval()
    tokenizer = clippo.ClippoTokenizer.from_pretrained(folder)
    texts = ["a black cat", "", "word " * 60]
    with torch.no_grad():
        for canvas_format in ("uint8", "packed"):
            got = word_features(model, tokenizer, texts, canvas_format)
            assert [tuple(words.shape) for words in got] == [(3, 32), (0, 32), (60, 32)]
            assert got[0].ne(0).any(1).all() and not got[2][-1].any()
        by_words = word_features(model, tokenizer, [["a", "black", "cat"]])
        torch.testing.assert_close(by_words[0], got[0], atol=1e-5, rtol=1e-5)
        # A word on one patch alone is that patch.
        hidden = model.vision_model(
            tokenizer("a b", return_tensors="pt")["text_pixel_values"], modality="text"
        ).last_hidden_state[0]
        one = word_features(model, tokenizer, ["a b"])[0]
    torch.testing.assert_close(one[0], hidden[0], atol=1e-5, rtol=1e-5)
    assert torch.isfinite(one).all()


def test_gradients_reach_the_tower(save_tiny):
    folder = save_tiny()
    model = clippo.ClippoModel.from_pretrained(folder)
    (words,) = word_features(model, clippo.ClippoTokenizer.from_pretrained(folder), ["a cat"])
    words.sum().backward()
    assert model.vision_model.embeddings.patch_embedding.weight.grad.abs().sum() > 0
