"""Text against text: graded similarity (STS) and finding translations (bitext), as reports."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset

from clippo.data.writing_systems import dominant_script
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.metrics import BitextAccuracy, SemanticSimilarity
from clippo.evaluation.report import Report
from clippo.evaluation.retrieval import ranks


def read_sentences(
    data: str,
    split: str,
    columns: tuple[str, ...],
    language: str | None,
    languages: Iterable[str] | None,
    limit: int | None = None,
) -> dict[str, list[tuple]]:
    """Language -> rows of the given columns.

    Args:
        data: a Parquet file, a folder of them, or a name on the hub.
        split: of a folder, how the file names begin.
        columns: what to read.
        language: column that holds the language; None or one that is missing makes all rows one language, "all".
        languages: only these.
        limit: only the first so many rows of each language.

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: a column or a language is missing.
    """
    path = Path(data)
    if path.exists():
        files = [str(path)] if path.is_file() else sorted(str(file) for file in path.glob(f"{split}*.parquet"))
        if not files:
            raise FileNotFoundError(f"No {split}*.parquet in {data}: check the folder and the split.")
        rows: Any = load_dataset("parquet", data_files={"rows": files}, split="rows")
    else:
        rows = load_dataset(data, split=split)
    missing = [name for name in columns if name not in rows.column_names]
    if missing:
        raise ValueError(f"No column {', '.join(missing)} in {data}; it has {', '.join(rows.column_names)}.")
    groups: dict[str, list[tuple]] = defaultdict(list)
    codes = rows[language] if language in rows.column_names else ["all"] * len(rows)
    for code, *values in zip(codes, *(rows[name] for name in columns), strict=True):
        groups[code].append(tuple(values))
    if languages is not None:
        absent = [code for code in languages if code not in groups]
        if absent:
            raise ValueError(f"{data} has nothing in {', '.join(absent)}; it has {', '.join(sorted(groups))}.")
        groups = {code: groups[code] for code in languages}
    if not groups:
        raise ValueError(f"{data} is empty.")
    return {code: own[:limit] for code, own in sorted(groups.items())}


def sts_report(
    encoder: Encoder,
    data: str,
    split: str = "test",
    columns: tuple[str, str, str] = ("sentence1", "sentence2", "label"),
    language_column: str | None = "lang",
    languages: Iterable[str] | None = None,
    limit: int | None = None,
) -> Report:
    """Semantic textual similarity: Spearman's correlation of the cosine of two sentences with what people said.

    Arguments and errors as those of `read_sentences`; `columns` are the two sentences and the judgement.
    """
    table = []
    for language, rows in read_sentences(data, split, columns, language_column, languages, limit).items():
        first, second, judged = (list(values) for values in zip(*rows, strict=True))
        vectors = encoder.texts(first + second)
        cosines = (vectors[: len(first)] * vectors[len(first) :]).sum(1)
        scores = SemanticSimilarity().compute(predictions=cosines.tolist(), references=judged)
        script = dominant_script(first[:500])
        table.append({"language": language, "script": script, "pairs": len(rows), **scores})
    return Report(
        task="sts",
        data=data,
        protocol="Spearman's (and Pearson's) correlation of the cosine of two sentences with their judged similarity.",
        metrics={name: sum(row[name] for row in table) / len(table) for name in ("spearman", "pearson")},
        chance={"spearman": 0.0, "pearson": 0.0},
        counts={"pairs": sum(row["pairs"] for row in table), "languages": len(table)},
        rows=table,
        bars=("spearman", "language"),
    )


def pair_accuracy(first: torch.Tensor, second: torch.Tensor) -> dict[str, float]:
    """How often the nearest of the other side is the own partner, row i belonging to row i.

    Args:
        first, second: (N, D) each.

    Returns:
        The metrics of `BitextAccuracy`: forward, backward and their mean.
    """
    places = torch.arange(len(first))
    forward, backward = ranks(first, second, places), ranks(second, first, places)
    return BitextAccuracy().compute(predictions=forward.tolist(), references=backward.tolist())


def bitext_report(
    encoder: Encoder,
    data: str,
    split: str = "test",
    columns: tuple[str, str] = ("sentence", "english"),
    language_column: str | None = "lang",
    languages: Iterable[str] | None = None,
    limit: int | None = None,
) -> Report:
    """Finding translations, as with Tatoeba: how often the nearest sentence of the other language is the translation.

    Arguments and errors as those of `read_sentences`; `columns` are the sentence and its translation.
    """
    table, chances = [], []
    for language, rows in read_sentences(data, split, columns, language_column, languages, limit).items():
        own, other = (list(values) for values in zip(*rows, strict=True))
        scores = pair_accuracy(encoder.texts(own), encoder.texts(other))
        same = sum(first == second for first, second in rows) / len(rows)
        script = dominant_script(own[:500])
        table.append({"language": language, "script": script, "pairs": len(rows), **scores, "identical": same})
        chances.append(1 / len(rows))
    scripts = defaultdict(list)
    for row in table:
        scripts[row["script"]].append(row)
    by_script = [
        {
            "language": f"mean of {len(rows)}",
            "script": script,
            "pairs": sum(row["pairs"] for row in rows),
            **{
                name: sum(row[name] for row in rows) / len(rows)
                for name in ("forward", "backward", "mean", "identical")
            },
        }
        for script, rows in sorted(scripts.items(), key=lambda item: -len(item[1]))
    ]
    names = ("forward", "backward", "mean", "identical")
    return Report(
        task="bitext",
        data=data,
        protocol=(
            "Accuracy of the nearest sentence by cosine among all of the other language, from the language to its "
            "translation (forward), back, and the mean of the two. A tie, also with an equal sentence, counts as a "
            "miss. Identical: share of pairs whose two sides are the same string."
        ),
        metrics={name: sum(row[name] for row in table) / len(table) for name in names},
        chance=dict.fromkeys(("forward", "backward", "mean"), sum(chances) / len(chances)),
        counts={"pairs": sum(row["pairs"] for row in table), "languages": len(table)},
        rows=[*by_script, *table] if len(scripts) > 1 else table,
        bars=("mean", "language"),
    )
