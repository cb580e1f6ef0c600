"""Baselines learn words, word order and relations of pairs; the majority class comes from the training set."""

import numpy as np
import pytest

from clippo.tasks.glue.baselines import bag_of_words, majority

pytest.importorskip("sklearn", reason="needs the extra `evaluation`")
WORDS = ["red", "green", "blue", "cold", "warm", "fast", "slow", "tall", "small", "round"]


def sentences(count, seed):
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, 6)) for _ in range(count)]


def test_majority_is_of_the_training_set():
    train, other = {"label": [0, 1, 1]}, {"label": [0, 0, 0, 0]}
    assert majority(train, other) == [1, 1, 1, 1]
    assert majority({"label": [1.0, 4.0]}, other) == [2.5] * 4


def test_words_and_their_order_are_found():
    def rows(seed):
        texts = sentences(300, seed)
        return {"text": texts, "label": [int("cold" in text or "red green" in text) for text in texts]}

    train, other = rows(0), rows(1)
    assert np.mean(np.array(bag_of_words(train, other)) == other["label"]) > 0.9


def test_three_classes_and_one():
    def rows(seed):
        texts = sentences(300, seed)
        return {"text": texts, "label": [2 if "cold" in text else int("red" in text) for text in texts]}

    train, other = rows(0), rows(1)
    assert np.mean(np.array(bag_of_words(train, other)) == other["label"]) > 0.9
    assert bag_of_words({**train, "label": [1] * 300}, other) == [1] * 300


@pytest.mark.parametrize("numbers", [False, True], ids=["classes", "numbers"])
def test_pairs_are_compared(numbers):
    def rows(seed):
        draw = np.random.default_rng(seed)
        firsts, others = sentences(300, seed), sentences(300, seed + 100)
        same = draw.random(300) < 0.5
        seconds = [
            " ".join(draw.permutation(first.split())) if s else other
            for first, other, s in zip(firsts, others, same, strict=True)
        ]
        return {"text": firsts, "text_pair": seconds, "label": [float(s) if numbers else int(s) for s in same]}

    train, other = rows(0), rows(1)
    guesses = np.array(bag_of_words(train, other))
    assert np.mean((guesses > 0.5) == np.array(other["label"])) > 0.9
    if numbers:
        assert len(set(guesses.tolist())) > 50
