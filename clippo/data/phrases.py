"""Views of phrases: a first lesson in reading, before a model is asked which sentence follows which.

Two random parts of the same few words, drawn at different places of the canvas, belong together. Telling them from the
other phrases of the batch takes nothing but recognizing the words, so the loss starts to fall within minutes, where
consecutive sentences alone stay at guessing. Ours; docs/results/text_models.md has the measurement.
"""

from collections.abc import Iterable, Iterator

import numpy as np


def phrase_views(
    documents: Iterable[str],
    words: int = 7,
    keep: float = 0.62,
    views: int = 4,
    seed: int = 0,
    lowercase: float = 0.0,
) -> Iterator[list[str]]:
    """For every `words` consecutive words of the documents, several random parts of them.

    Args:
        documents: Running text; None is passed over.
        words: Of a phrase; what is left at a document's end is passed over.
        keep: Probability of each word to be in a view, its place among the others kept.
        views: Of each phrase, at least two.
        seed: The same seed gives the same views.
        lowercase: Probability of a view to be in small letters, so that the same word in both cases is read alike.

    Raises:
        ValueError: An option that leaves nothing to compare.
    """
    if views < 2 or words < 2 or not 0 < keep <= 1:
        raise ValueError(f"views={views}, words={words}, keep={keep} leave no two parts of a phrase to compare.")
    if not 0 <= lowercase <= 1:
        raise ValueError(f"lowercase={lowercase} is no probability.")
    draw = np.random.default_rng(seed)
    for document in documents:
        tokens = (document or "").split()
        for start in range(0, len(tokens) - words + 1, words):
            phrase = tokens[start : start + words]
            chosen = draw.random((views, words)) < keep
            chosen[~chosen.any(1)] = True  # a view without a word would be the blank canvas
            texts = [" ".join(phrase[i] for i in np.flatnonzero(row)) for row in chosen]
            small = draw.random(views) < lowercase if lowercase else [False] * views
            yield [text.lower() if is_small else text for text, is_small in zip(texts, small, strict=True)]
