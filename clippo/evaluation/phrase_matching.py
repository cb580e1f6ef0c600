"""Does it read? Two random parts of one phrase have to find each other among those of other phrases.

Nothing but recognizing the words is asked for, on text in any domain, without labels: what a model lacks here it lacks
in every task on text. A bag of words, which is given the words, says how much the parts give away. Ours.
"""

import numpy as np
import torch

from clippo.data.phrases import phrase_views
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.report import Report
from clippo.evaluation.text_text import pair_accuracy, read_sentences


def reading_report(
    encoder: Encoder,
    data: str,
    split: str = "test",
    columns: tuple[str, ...] = ("text",),
    words: int = 8,
    keep: float = 0.6,
    limit: int | None = 1000,
    seed: int = 0,
) -> Report:
    """How often the nearest part is the other one of the same phrase.

    Args:
        encoder: the model.
        data, split: as `read_sentences` takes them.
        columns: of texts; each is cut into phrases.
        words: of a phrase; a text with fewer gives none.
        keep: probability of a word to be in a part.
        limit: phrases, drawn from all; None takes all.
        seed: of phrases and parts.

    Raises:
        ImportError: scikit-learn, for the bag of words, is not installed.
        ValueError: no text has as many words.
    """
    rows = [row for own in read_sentences(data, split, tuple(columns), None, None).values() for row in own]
    parts = list(phrase_views((text for row in rows for text in row), words, keep, views=2, seed=seed))
    told_apart = [pair for pair in parts if pair[0] != pair[1]]  # equal parts ask for nothing
    if not told_apart:
        raise ValueError(f"No text of {data} has {words} words to draw two parts from; choose fewer (--words).")
    order = np.random.default_rng(seed).permutation(len(told_apart))[:limit]
    first, second = ([told_apart[i][side] for i in order] for side in (0, 1))
    vectors = encoder.texts(first + second)
    found = pair_accuracy(vectors[: len(first)], vectors[len(first) :])["mean"]
    given = pair_accuracy(*_bags_of_words(first, second))["mean"]
    return Report(
        task="reading",
        data=data,
        protocol=(
            f"Two parts of each phrase of {words} consecutive words, every word kept with probability {keep}; how "
            "often the nearest part by cosine is the other one of the same phrase, both ways. A tie counts as a miss. "
            "Bag of words: the same with TF-IDF vectors, which are given the words."
        ),
        metrics={"found": found, "bag of words": given},
        chance={"found": 1 / len(first)},
        counts={"phrases": len(first), "phrases left out, their parts equal": len(parts) - len(told_apart)},
    )


def _bags_of_words(first: list[str], second: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise ImportError("The bag of words needs scikit-learn; pip install 'clippo[evaluation]'.") from error
    vectorizer = TfidfVectorizer(token_pattern=r"\S+", lowercase=False).fit(first + second)
    return tuple(torch.from_numpy(vectorizer.transform(texts).toarray()).float() for texts in (first, second))
