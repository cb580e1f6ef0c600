"""Vectors of words from the tower's patches."""

import pytest
import torch

import clippo
from clippo.word_features import pool_words, word_features


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
            tokenizer("a b", return_tensors="pt")["text_pixel_values"], skip_blank_patches=skip
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
