"""Phrases in several views: the first stage of text pretraining.

Two random parts of the same few words are a pair. Telling them from the other phrases of a batch takes nothing but
recognising words, so the loss falls within minutes, where consecutive sentences alone stay at chance. The paper has no
such stage; the GLUE results have the measurement.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

from clippo.data.sources import load_rows


def phrase_views(
    documents: Iterable[str | None],
    words: int = 7,
    keep: float = 0.62,
    views: int = 4,
    seed: int = 0,
    lowercase: float = 0.0,
) -> Iterator[list[str]]:
    """Random parts of every `words` consecutive words of the documents.

    Args:
        documents: Running text; None is skipped.
        words: Words of a phrase; a shorter rest at the end of a document is skipped.
        keep: Probability of each word to be in a view; the order of words stays.
        views: Views of each phrase, at least two.
        seed: Seed; the same seed gives the same views.
        lowercase: Probability of a view to be in small letters, so that a word in both cases is read alike.

    Raises:
        ValueError: The options leave nothing to compare.
    """
    if views < 2 or words < 2 or not 0 < keep <= 1:
        raise ValueError(f"views={views}, words={words}, keep={keep} leave no two parts of a phrase to compare.")
    if not 0 <= lowercase <= 1:
        raise ValueError(f"lowercase={lowercase} is not a probability; give a number from 0 to 1.")
    draw = np.random.default_rng(seed)
    for document in documents:
        tokens = (document or "").split()
        for start in range(0, len(tokens) - words + 1, words):
            phrase = tokens[start : start + words]
            chosen = draw.random((views, words)) < keep
            chosen[~chosen.any(1)] = True  # a view without a word would be a blank canvas
            texts = [" ".join(phrase[i] for i in np.flatnonzero(row)) for row in chosen]
            small = draw.random(views) < lowercase if lowercase else [False] * views
            yield [text.lower() if is_small else text for text, is_small in zip(texts, small, strict=True)]


def write_phrases(
    files: Sequence[str | Path], output_dir: str | Path, text_columns: Sequence[str] = ("text",), **options
) -> tuple[int, Path]:
    """Write the phrases of files to `train.parquet`, column "views".

    Args:
        files: Files of documents, as for `load_rows`.
        output_dir: Folder to write.
        text_columns: Columns of texts; each file is read for those it has.
        options: Arguments of `phrase_views`.

    Returns:
        The number of phrases and the path of the file.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file has none of the columns, or an option is wrong.
    """
    documents = (text for file in files for text in _read_texts(file, text_columns))
    rows = list(phrase_views(documents, **options))
    path = Path(output_dir) / "train.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({"views": rows}), path, compression="zstd")
    return len(rows), path


def _read_texts(file: str | Path, columns: Sequence[str]) -> Iterator[str | None]:
    """Texts of one file, column by column."""
    rows = load_rows(file)
    there = [name for name in columns if name in rows.column_names]
    if not there:
        raise ValueError(
            f"{file} has none of the columns {', '.join(columns)}; name others with --text_columns. It has "
            f"{', '.join(rows.column_names)}."
        )
    for name in there:
        yield from rows[name]
