"""Texts as counts of words or of runs of letters: the baselines of the sentence evaluations."""

from collections.abc import Sequence

import torch

# Name -> options of scikit-learn's TfidfVectorizer.
KINDS = {
    "bag of words": {"token_pattern": r"(?u)\w+", "sublinear_tf": True},
    "letter n-grams": {"analyzer": "char_wb", "ngram_range": (2, 4), "sublinear_tf": True, "max_features": 30_000},
}


class CountEncoder:
    """TF-IDF vectors with the interface of `Encoder`.

    Args:
        kind: A key of `KINDS`.
        texts: Texts that define the words and their weights.

    Raises:
        ImportError: scikit-learn is missing.

    Example:
        >>> encoder = CountEncoder("letter n-grams", ["a dog", "a house"])
        >>> (encoder.texts(["the dogs"]) @ encoder.texts(["a dog", "a house"]).T).argmax().item()
        0
    """

    def __init__(self, kind: str, texts: Sequence[str]):
        try:
            from sklearn.feature_extraction.text import TfidfVectorizer
        except ImportError as error:
            raise ImportError(f"The {kind} need scikit-learn; pip install 'clippo[evaluation]'.") from error
        self._vectorizer = TfidfVectorizer(**KINDS[kind]).fit(texts)

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """float32 (N, E), unit length, or 0 for a text without a known word."""
        return torch.from_numpy(self._vectorizer.transform(texts).toarray()).float()
