"""Robustness: damaged spellings of a text should have the vector of the text that was meant.

Two numbers for each damage: the correlation with judged similarity (STS) when both sentences are damaged, and how often
a damaged sentence finds itself among all whole ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from clippo.data.misspellings import MISSPELLINGS
from clippo.evaluation.metrics import SemanticSimilarity
from clippo.evaluation.report import Report
from clippo.evaluation.retrieval import ranks
from clippo.evaluation.text_text import STS_COLUMNS, Sentences
from clippo.evaluation.word_counts import KINDS, CountEncoder

# Damages and their rates, as shares of the letters or of the words.
DAMAGES = (
    ("none", 0.0),
    ("typing errors", 0.05),
    ("typing errors", 0.1),
    ("typing errors", 0.2),
    ("look-alike letters", 0.2),
    ("look-alike letters", 1.0),
    ("leetspeak", 0.2),
    ("leetspeak", 1.0),
    ("upper case", 1.0),
    ("split words", 0.25),
    ("split words", 1.0),
)


def damage(texts: Sequence[str], name: str, rate: float, seed: int) -> list[str]:
    """Damage each text with a generator of its own.

    Args:
        texts: Texts.
        name: A key of `MISSPELLINGS`, or "none".
        rate: Share of letters or words.
        seed: Seed.
    """
    if name == "none":
        return list(texts)
    return [MISSPELLINGS[name](text, rate, np.random.default_rng([seed, i])) for i, text in enumerate(texts)]


def robustness_report(
    encoder: Any, sentences: Sentences, others: Mapping[str, Any] | None = None, seed: int = 0
) -> Report:
    """Measures a model, baselines and other models on damaged sentences.

    Args:
        encoder: Encoder of the model.
        sentences: Data set of two sentences and their judged similarity.
        others: Name -> encoder of further models.
        seed: Seed of the damages.
    """
    rows = [row for group in sentences.read(STS_COLUMNS).values() for row in group]
    first, second, judged = (list(values) for values in zip(*rows, strict=True))
    encoders = {"model": encoder, **(others or {}), **{kind: CountEncoder(kind, first + second) for kind in KINDS}}
    whole = list(dict.fromkeys(first + second))
    places = torch.tensor([whole.index(text) for text in first])
    targets = {name: one.texts(whole) for name, one in encoders.items()}
    table = []
    for kind, rate in DAMAGES:
        damaged = [damage(texts, kind, rate, seed + side) for side, texts in enumerate((first, second))]
        line: dict[str, Any] = {"damage": kind, "share": f"{rate:.0%}"}
        found = {}
        for name, one in encoders.items():
            a, b = (one.texts(texts) for texts in damaged)
            scores = SemanticSimilarity().compute(predictions=(a * b).sum(1).tolist(), references=judged)
            line[f"{name}, spearman"] = scores["spearman"]
            found[f"{name}, found"] = (ranks(a, targets[name], places) == 0).float().mean().item()
        table.append(line | found)
    damaged_rows = table[1:]
    return Report(
        task="robustness",
        data=sentences.path,
        protocol=(
            "Spellings are damaged: typing errors, look-alike letters of Cyrillic and Greek, leetspeak and capitals by "
            "letter or word, spaces inside words. Share: letters or words that are damaged. Spearman: correlation of "
            "the cosine of two damaged sentences with their judged similarity. Found: share of damaged first sentences "
            "whose nearest whole sentence of the data set is the one that was damaged; a tie counts as a miss."
        ),
        metrics={
            key: sum(row[key] for row in damaged_rows) / len(damaged_rows)
            for key in damaged_rows[0]
            if key not in ("damage", "share")
        },
        counts={"pairs": len(rows), "sentences to find": len(whole)},
        rows=table,
    )
