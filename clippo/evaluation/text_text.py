"""Text against text: graded similarity (STS) and search for translations (bitext)."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from clippo.data.writing_systems import dominant_script
from clippo.evaluation.benchmarks import open_split, require_columns
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.metrics import BitextAccuracy, SemanticSimilarity
from clippo.evaluation.report import Report, column_means
from clippo.evaluation.retrieval import ranks

STS_COLUMNS = ("sentence1", "sentence2", "label")
BITEXT_COLUMNS = ("sentence", "english")


@dataclass(frozen=True)
class Sentences:
    """Data set of texts, with the meaning of its columns.

    Args:
        path: Data set, as `clippo.data.sources.load_rows` opens it.
        split: Split. For a local folder, the beginning of the file names. None means "test" where there are splits.
        columns: Columns to read. None takes the usual columns of the evaluation.
        language: Column of language codes. None, or a missing column, makes all rows one language, "all".
        languages: Only these languages. None reads all.
        limit: Number of rows to read of each language. None reads all.

    Example:
        >>> Sentences("docs/pictures/queries.json", columns=["text"], language="language").read(())["German"][0]
        ('Schmetterling',)
    """

    path: str
    split: str | None = None
    columns: Sequence[str] | None = None
    language: str | None = "lang"
    languages: Iterable[str] | None = None
    limit: int | None = None

    def read(self, usual_columns: Sequence[str]) -> dict[str, list[tuple]]:
        """Reads rows by language, each a tuple of the cells of the columns.

        Args:
            usual_columns: Columns to read if `columns` is None.

        Raises:
            FileNotFoundError: The files do not exist.
            ValueError: A column or a language is missing, or the data set is empty.
        """
        rows, columns = open_split(self.path, self.split), self.columns or usual_columns
        require_columns(rows, columns, self.path)
        groups: dict[str, list[tuple]] = defaultdict(list)
        codes = rows[self.language] if self.language in rows.column_names else ["all"] * len(rows)
        for code, *values in zip(codes, *(rows[name] for name in columns), strict=True):
            groups[code].append(tuple(values))
        if self.languages is not None:
            absent = [code for code in self.languages if code not in groups]
            if absent:
                raise ValueError(f"{self.path} has no rows in {', '.join(absent)}; it has {', '.join(sorted(groups))}.")
            groups = {code: groups[code] for code in self.languages}
        if not groups:
            raise ValueError(f"{self.path} is empty.")
        return {code: own[: self.limit] for code, own in sorted(groups.items())}


def sts_report(encoder: Encoder, sentences: Sentences) -> Report:
    """Measures semantic textual similarity: correlation of the cosine of two sentences with human judgement.

    Args:
        encoder: Encoder of the model.
        sentences: Data set of two sentences and their judged similarity.
    """
    table, notes = [], []
    for language, rows in sentences.read(STS_COLUMNS).items():
        first, second, judged = (list(values) for values in zip(*rows, strict=True))
        vectors = encoder.texts(first + second)
        cosines = (vectors[: len(first)] * vectors[len(first) :]).sum(1)
        scores = SemanticSimilarity().compute(predictions=cosines.tolist(), references=judged)
        script = dominant_script(first[:500])
        table.append({"language": language, "script": script, "pairs": len(rows), **scores})
        if math.isnan(scores["pearson"]):
            notes.append(
                f"{language}: all cosines or all judgements are equal, so the correlation is undefined and left out."
            )
    defined = [row for row in table if not math.isnan(row["pearson"])]
    return Report(
        task="sts",
        data=sentences.path,
        protocol="Spearman's (and Pearson's) correlation of the cosine of two sentences with their judged similarity.",
        metrics=column_means(defined, ("spearman", "pearson")) if defined else {},
        chance={"spearman": 0.0, "pearson": 0.0},
        counts={"pairs": sum(row["pairs"] for row in table), "languages": len(table)},
        rows=table,
        notes=notes,
        bars=("spearman", "language"),
    )


def pair_accuracy(first: torch.Tensor, second: torch.Tensor) -> dict[str, float]:
    """Computes the share of rows whose nearest row of the other side is their partner. Row i belongs to row i.

    Args:
        first: (N, D).
        second: (N, D).

    Returns:
        Metrics of `BitextAccuracy`: forward, backward and their mean.
    """
    places = torch.arange(len(first))
    forward, backward = ranks(first, second, places), ranks(second, first, places)
    return BitextAccuracy().compute(predictions=forward.tolist(), references=backward.tolist())


def bitext_report(encoder: Encoder, sentences: Sentences) -> Report:
    """Measures search for translations (Tatoeba): share of sentences whose nearest sentence is the translation.

    Args:
        encoder: Encoder of the model.
        sentences: Data set of sentences and their translations.
    """
    table, chances = [], []
    for language, rows in sentences.read(BITEXT_COLUMNS).items():
        own, other = (list(values) for values in zip(*rows, strict=True))
        scores = pair_accuracy(encoder.texts(own), encoder.texts(other))
        same = sum(first == second for first, second in rows) / len(rows)
        script = dominant_script(own[:500])
        table.append({"language": language, "script": script, "pairs": len(rows), **scores, "identical": same})
        chances.append(1 / len(rows))
    names = ("forward", "backward", "mean", "identical")
    by_script = defaultdict(list)
    for row in table:
        by_script[row["script"]].append(row)
    means = [
        {
            "language": f"mean of {len(rows)}",
            "script": script,
            "pairs": sum(row["pairs"] for row in rows),
            **column_means(rows, names),
        }
        for script, rows in sorted(by_script.items(), key=lambda item: -len(item[1]))
    ]
    return Report(
        task="bitext",
        data=sentences.path,
        protocol=(
            "Accuracy of the nearest sentence by cosine among all of the other language, from the language to its "
            "translation (forward), back, and the mean of the two. A tie, also with an equal sentence, counts as a "
            "miss. Identical: share of pairs whose two sides are the same string."
        ),
        metrics=column_means(table, names),
        chance=dict.fromkeys(("forward", "backward", "mean"), sum(chances) / len(chances)),
        counts={"pairs": sum(row["pairs"] for row in table), "languages": len(table)},
        rows=[*means, *table] if len(by_script) > 1 else table,
        bars=("mean", "language"),
    )
