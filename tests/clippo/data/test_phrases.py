"""Views of phrases: parts of the words, in order, never empty, the same for the same seed."""

import pytest

from clippo.data.phrases import phrase_views

DOCUMENTS = ["one two three four five six seven eight nine", "short", "a b c d e f g h"]


def test_views_are_parts_of_their_phrase_in_order():
    rows = list(phrase_views(DOCUMENTS, words=4, keep=0.5, views=6))
    phrases = ["one two three four", "five six seven eight", "a b c d", "e f g h"]
    assert len(rows) == 4
    for phrase, views in zip(phrases, rows, strict=True):
        assert len(views) == 6 and all(views) and len(set(views)) > 1
        for view in views:
            words = iter(phrase.split())
            assert all(word in words for word in view.split())  # each found behind the one before


def test_seeds_and_shares():
    assert list(phrase_views(DOCUMENTS, 4, seed=1)) == list(phrase_views(DOCUMENTS, 4, seed=1))
    assert list(phrase_views(DOCUMENTS, 4, seed=1)) != list(phrase_views(DOCUMENTS, 4, seed=2))
    assert set(next(phrase_views(DOCUMENTS, 4, keep=1.0))) == {"one two three four"}
    kept = [len(view.split()) for views in phrase_views(["w " * 7000], 7, keep=0.62) for view in views]
    assert sum(kept) / len(kept) == pytest.approx(0.62 * 7, abs=0.1)


def test_some_views_in_small_letters():
    document = ["Every Word Begins With A Capital Here " * 300]
    views = [view for row in phrase_views(document, 7, lowercase=0.25) for view in row]
    small = sum(view == view.lower() for view in views)
    assert small / len(views) == pytest.approx(0.25, abs=0.06)
    assert not any(view == view.lower() for row in phrase_views(document, 7) for view in row)


def test_nothing_to_compare_is_refused():
    with pytest.raises(ValueError, match="lowercase=2 is not a probability"):
        next(phrase_views(DOCUMENTS, lowercase=2))
    with pytest.raises(ValueError, match="leave no two parts of a phrase to compare"):
        next(phrase_views(DOCUMENTS, views=1))
