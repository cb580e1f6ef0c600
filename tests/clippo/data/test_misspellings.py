"""Damaged spellings: pure functions of the generator, with the stated rate, and nothing at rate 0."""

import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clippo.data.misspellings import LOOK_ALIKES, MISSPELLINGS, typing_errors, vary

TEXT = "The quick brown fox jumps over the lazy dog while nobody watches. " * 30


@pytest.mark.parametrize("name", MISSPELLINGS)
def test_rate_and_seed(name):
    damage = MISSPELLINGS[name]
    assert damage(TEXT, 0.0, np.random.default_rng(0)) == TEXT
    assert damage(TEXT, 0.3, np.random.default_rng(0)) == damage(TEXT, 0.3, np.random.default_rng(0))
    assert damage(TEXT, 0.3, np.random.default_rng(0)) != damage(TEXT, 0.3, np.random.default_rng(1)) != TEXT


@given(st.text(max_size=40), st.floats(0, 1), st.integers(0, 2**32))
def test_every_text_can_be_damaged(text, rate, seed):
    for damage in MISSPELLINGS.values():
        assert isinstance(damage(text, rate, np.random.default_rng(seed)), str)


def test_typing_errors_change_as_many_letters_as_told():
    for rate in (0.05, 0.2):
        wrong = typing_errors("a" * 20_000, rate, np.random.default_rng(0))
        # Equal letters hide exchanges: a quarter is missing, a quarter doubled, a quarter becomes a neighbour.
        assert wrong.count("s") / 20_000 == pytest.approx(rate / 4, rel=0.15)
        assert len(wrong) == pytest.approx(20_000, abs=400)


def test_whole_words():
    generator = np.random.default_rng(0)
    assert MISSPELLINGS["upper case"]("two words", 1.0, generator) == "TWO WORDS"
    assert MISSPELLINGS["leetspeak"]("least", 1.0, generator) == "l3457"
    split = MISSPELLINGS["split words"]("hundred a cat", 1.0, generator)
    assert split.replace(" ", "") == "hundredacat" and split.count(" ") == 3 and split.endswith("a cat")


def test_look_alikes_are_other_letters_of_other_scripts():
    for latin, other in LOOK_ALIKES.items():
        assert unicodedata.name(latin).startswith("LATIN")
        assert unicodedata.name(other).split()[0] in ("CYRILLIC", "GREEK")


def test_variants_for_training():
    variants = [vary("The dog barks", 0.0, 0.5, np.random.default_rng(i)) for i in range(400)]
    assert set(variants) == {"The dog barks", "the dog barks", "THE DOG BARKS"}
    assert variants.count("The dog barks") / 400 == pytest.approx(0.5, abs=0.08)
    mistyped = [vary("The dog barks", 1.0, 0.0, np.random.default_rng(i)) for i in range(100)]
    assert len(set(mistyped)) > 30 and all(mistyped)
