"""Texts of concepts and pictures for training: names and keywords by language, English words of each picture."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as parquet


class ConceptTexts(NamedTuple):
    """Texts of one concept in one language."""

    language: str
    name: str
    keywords: list[str]


def read_texts(
    folder: Path, split: str, max_sharing: int | None = 32
) -> tuple[dict[str, list[ConceptTexts]], dict[str, str]]:
    """Texts by concept, and the script of each language.

    Args:
        folder: Folder of the data set.
        split: "train", "held_out" or "held_out_concept".
        max_sharing: Most concepts of the split that share a keyword in one language; None sets no limit.

    Returns:
        Concept -> its texts, ordered by language; and language -> script.
    """
    table = parquet.read_table(folder / "annotations.parquet")
    columns = ("id", "language", "script", "name", "keywords", "split")
    rows = list(zip(*(table[column].to_pylist() for column in columns), strict=True))
    scripts = {language: script for _, language, script, *_ in rows}
    rows = [row for row in rows if row[5] == split]
    fits = Counter((language, word) for _, language, _, _, keywords, _ in rows for word in keywords)
    texts: dict[str, list[ConceptTexts]] = {}
    for concept, language, _, name, keywords, _ in rows:
        if max_sharing is not None:
            keywords = [word for word in keywords if fits[language, word] <= max_sharing]
        texts.setdefault(concept, []).append(ConceptTexts(language, name, keywords))
    return texts, dict(sorted(scripts.items()))
