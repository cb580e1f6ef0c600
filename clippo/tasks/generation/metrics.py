"""Metrics of generated texts as `evaluate.Metric` classes; they work offline and without Java."""

from collections.abc import Sequence

import datasets

from clippo.evaluation.metrics import LocalMetric
from clippo.tasks.generation.overlap import bleu_4, cider_d, words

STRINGS = {"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}


class CaptionOverlap(LocalMetric):
    """CIDEr-D and BLEU-4 against several references, and how different the captions are.

    Args:
        predictions: One caption an image.
        references: A list of captions an image.
        language: Code of the language. Characters count as words in Chinese, Japanese and Thai.

    Returns:
        {"CIDEr-D": 0 to about 10 (papers give it times 100), "BLEU-4": 0 to 1, "distinct": share of different captions
        among all of them}.

    Example:
        >>> captions = ["a red dog runs", "two cats sleep here"]
        >>> scores = CaptionOverlap().compute(predictions=captions, references=[[text] for text in captions])
        >>> {name: round(value, 3) for name, value in scores.items()}
        {'CIDEr-D': 10.0, 'BLEU-4': 1.0, 'distinct': 1.0}
    """

    citation = "Vedantam et al., CIDEr, CVPR 2015; Papineni et al., BLEU, ACL 2002"
    inputs = STRINGS

    def _compute(self, predictions: list[str], references: list[list[str]], language: str = "") -> dict[str, float]:
        found = [words(text, language) for text in predictions]
        wanted = [[words(text, language) for text in several] for several in references]
        return {
            "CIDEr-D": sum(cider_d(found, wanted)) / len(found),
            "BLEU-4": bleu_4(found, wanted),
            "distinct": len(set(predictions)) / len(predictions),
        }


def edit_distance(first: Sequence, second: Sequence) -> int:
    """Fewest insertions, deletions and replacements that turn one sequence into the other.

    Example:
        >>> edit_distance("kitten", "sitting")
        3
    """
    previous = list(range(len(second) + 1))
    for i, left in enumerate(first, 1):
        current = [i]
        for j, right in enumerate(second, 1):
            current.append(min(previous[j] + 1, current[j - 1] + 1, previous[j - 1] + (left != right)))
        previous = current
    return previous[-1]


def lower_ascii(text: str) -> str:
    """A-Z as a-z, as the renderer draws them; letters of other scripts keep their case.

    Example:
        >>> lower_ascii("ABC Ж")
        'abc Ж'
    """
    return "".join(character.lower() if character.isascii() else character for character in text)


class CharacterErrorRate(LocalMetric):
    """Edits of characters divided by the characters of the references, and the share of texts without an error.

    Args:
        predictions: Read texts.
        references: One right text each, in a list.

    Returns:
        {"CER": 0 for perfect reading, may exceed 1; "exact_lines": 0 to 1}.

    Example:
        >>> CharacterErrorRate().compute(predictions=["cat", "dig"], references=[["cat"], ["dog"]])
        {'CER': 0.16666666666666666, 'exact_lines': 0.5}
    """

    citation = "Levenshtein, Soviet Physics Doklady 10(8), 1966"
    inputs = STRINGS

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        edits = [edit_distance(text, several[0]) for text, several in zip(predictions, references, strict=True)]
        characters = sum(len(several[0]) for several in references)
        return {"CER": sum(edits) / max(1, characters), "exact_lines": sum(e == 0 for e in edits) / len(edits)}
