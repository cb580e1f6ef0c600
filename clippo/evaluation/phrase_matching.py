"""Phrase matching: two random parts of one phrase have to find each other among the parts of other phrases.

The task needs no labels and nothing but recognition of words, in text of any domain. A model that fails here fails in
every task on text. A bag of words, which receives the words, shows how much the parts give away.
"""

from dataclasses import dataclass

import numpy as np
import torch

from clippo.data.phrases import phrase_views
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.report import Report
from clippo.evaluation.text_text import Sentences, pair_accuracy


@dataclass(frozen=True)
class PhraseProtocol:
    """Settings of phrase matching.

    Args:
        words: Number of words in a phrase. A shorter text gives no phrase.
        keep: Probability of a word to be in a part.
        limit: Number of phrases, drawn from all. None takes all.
        seed: Seed of phrases and parts.

    Example:
        >>> PhraseProtocol(words=5).keep
        0.6
    """

    words: int = 8
    keep: float = 0.6
    limit: int | None = 1000
    seed: int = 0


def phrase_report(encoder: Encoder, sentences: Sentences, protocol: PhraseProtocol | None = None) -> Report:
    """Measures the share of parts whose nearest part is the other one of the same phrase.

    Args:
        encoder: Encoder of the model.
        sentences: Data set of texts. Each column is cut into phrases.
        protocol: Settings.

    Raises:
        ImportError: scikit-learn, which makes the bag of words, is missing.
        ValueError: No text has as many words.
    """
    protocol = protocol or PhraseProtocol()
    texts = [text for rows in sentences.read(["text"]).values() for row in rows for text in row]
    parts = list(phrase_views(texts, protocol.words, protocol.keep, views=2, seed=protocol.seed))
    different = [pair for pair in parts if pair[0] != pair[1]]  # equal parts need no recognition
    if not different:
        raise ValueError(
            f"No text of {sentences.path} has {protocol.words} words to draw two parts from; choose fewer (--words)."
        )
    order = np.random.default_rng(protocol.seed).permutation(len(different))[: protocol.limit]
    first, second = ([different[i][side] for i in order] for side in (0, 1))
    vectors = encoder.texts(first + second)
    return Report(
        task="phrases",
        data=sentences.path,
        protocol=(
            f"Two parts of each phrase of {protocol.words} consecutive words, every word kept with probability "
            f"{protocol.keep}; how often the nearest part by cosine is the other one of the same phrase, both ways. A "
            "tie counts as a miss. Bag of words: the same with TF-IDF vectors, which are given the words."
        ),
        metrics={
            "found": pair_accuracy(vectors[: len(first)], vectors[len(first) :])["mean"],
            "bag of words": pair_accuracy(*_bags_of_words(first, second))["mean"],
        },
        chance={"found": 1 / len(first)},
        counts={"phrases": len(first), "phrases left out, their parts equal": len(parts) - len(different)},
    )


def _bags_of_words(first: list[str], second: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as error:
        raise ImportError("The bag of words needs scikit-learn; pip install 'clippo[evaluation]'.") from error
    vectorizer = TfidfVectorizer(token_pattern=r"\S+", lowercase=False).fit(first + second)
    return tuple(torch.from_numpy(vectorizer.transform(texts).toarray()).float() for texts in (first, second))
