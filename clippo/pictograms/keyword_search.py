"""BM25, the keyword search that users of icon sets have now, as the baseline of the evaluation."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from clippo.pictograms.words import words_of

K1, B = 1.2, 0.75  # usual constants of Okapi BM25
# Scripts without spaces between words: two letters in a row are the unit.
UNSPACED = frozenset({"Han", "Japanese", "Thai", "Lao", "Khmer", "Myanmar"})


def terms(text: str, script: str = "Latin") -> list[str]:
    """Terms of a text: words, or pairs of letters in a script without spaces.

    Args:
        text: Query or document.
        script: Script of the language.

    Example:
        >>> from clippo.pictograms.keyword_search import terms
        >>> terms("Trash can"), terms("ゴミ箱", "Japanese")
        (['trash', 'can'], ['ゴミ', 'ミ箱'])
    """
    words = list(words_of(text))
    if script not in UNSPACED:
        return words
    return [word[i : i + 2] for word in words for i in range(max(1, len(word) - 1))]


class KeywordSearch:
    """Okapi BM25 over short documents.

    Args:
        documents: Texts of each document.
        script: Script of the documents and queries.

    Example:
        >>> from clippo.pictograms.keyword_search import KeywordSearch
        >>> search = KeywordSearch([["trash", "garbage can"], ["soda can"], ["rocket"]])
        >>> search.scores(["garbage", "can"]).argmax(dim=1).tolist()
        [0, 1]
    """

    def __init__(self, documents: Sequence[Sequence[str]], script: str = "Latin"):
        self.script = script
        bags = [Counter(term for text in texts for term in terms(text, script)) for texts in documents]
        lengths = [sum(bag.values()) for bag in bags]
        mean = sum(lengths) / max(1, len(lengths)) or 1.0
        found: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for number, bag in enumerate(bags):
            for term, count in bag.items():
                norm = K1 * (1 - B + B * lengths[number] / mean)
                found[term].append((number, count * (K1 + 1) / (count + norm)))
        self.count = len(bags)
        self._postings = {}
        for term, places in found.items():
            weight = math.log(1 + (self.count - len(places) + 0.5) / (len(places) + 0.5))
            numbers, values = zip(*places, strict=True)
            self._postings[term] = torch.tensor(numbers), torch.tensor(values) * weight

    def scores(self, queries: Sequence[str]) -> Tensor:
        """Scores of all documents, float32 (Q, D); 0 without a common term.

        Args:
            queries: Q texts.
        """
        out = torch.zeros(len(queries), self.count)
        for row, query in enumerate(queries):
            for term in terms(query, self.script):
                if term in self._postings:
                    numbers, values = self._postings[term]
                    out[row].index_add_(0, numbers, values)
        return out
