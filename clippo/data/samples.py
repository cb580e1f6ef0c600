"""Rows of a data set as training samples.

A sample is a pure function of its row and its random generator. A row that gives no sample raises `UnusableRow`, and
`first_usable` takes the next candidate in its place.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from PIL import Image

from clippo.data.filters import is_descriptive
from clippo.data.sentences import RULES_VERSION, consecutive_sentences
from clippo.data.specs import SourceSpec
from clippo.processing import check_image, open_image, upright

logger = logging.getLogger(__name__)

MAX_IN_A_ROW = 100  # unusable rows after which a source counts as broken
_REPORTED: set[tuple[str, str]] = set()


class UnusableRow(Exception):
    """A row that training skips and counts. The message is a kind of defect, then perhaps ":" and details.

    Example:
        >>> from clippo.data.samples import UnusableRow, read_image
        >>> try:
        ...     read_image(b"not an image")
        ... except UnusableRow as error:
        ...     print(str(error).partition(":")[0])
        broken image
    """


def first_usable(candidates: Iterable[tuple[Any, Callable[[], dict]]], seed: int, name: str) -> dict:
    """Sample of the first candidate that gives one.

    Args:
        candidates: (row for messages, function that makes the sample or raises `UnusableRow`), without end.
        seed: Seed of the sample.
        name: Name of the source in messages.

    Returns:
        The sample with "seed" and with "skipped", the number of candidates before it.

    Raises:
        RuntimeError: 100 candidates in a row are unusable.
    """
    for skipped, (row, make) in enumerate(islice(candidates, MAX_IN_A_ROW)):
        try:
            return {**make(), "seed": seed, "skipped": skipped}
        except UnusableRow as error:
            report_unusable(name, row, error)
    raise RuntimeError(
        f"{name}: {MAX_IN_A_ROW} rows in a row could not be used, the last is row {row}; read the warnings above and "
        "mend the source or its columns."
    )


def report_unusable(name: str, row: Any, error: UnusableRow) -> None:
    """Warn once for each kind of defect of a source; the trainer logs the number of rows.

    Args:
        name: Name of the source.
        row: Number or description of the row.
        error: Defect of the row.
    """
    kind = str(error).partition(":")[0]
    if (name, kind) not in _REPORTED:
        _REPORTED.add((name, kind))
        logger.warning("%s: row %s is skipped (%s). Further rows like it are counted, not shown.", name, row, error)


def image_bytes(cell: Any) -> bytes | None:
    """Encoded file of an image cell; None for a decoded image, b"" for an empty cell.

    Args:
        cell: {"bytes", "path"}, bytes, a file name, an address, None, or a decoded image.

    Raises:
        FileNotFoundError: The cell is a file name or an address, and nothing is there.
    """
    if isinstance(cell, Mapping):
        cell = cell["bytes"] if cell.get("bytes") is not None else cell.get("path")
    if cell is None:
        return b""
    if isinstance(cell, bytes):
        return cell
    if not isinstance(cell, str | Path):
        return None
    with fsspec.open(str(cell), "rb") as file:  # a streamed image folder holds addresses
        return file.read()


def read_image(cell: Any, jpeg_side: int | None = None) -> Any:
    """Decoded, upright image of a cell.

    `datasets` would decode too, but there one broken image ends the whole run.

    Args:
        cell: As for `image_bytes`.
        jpeg_side: As for `open_image`.

    Raises:
        UnusableRow: The cell is empty, cannot be decoded, or decodes to an image that cannot be used.
    """
    try:
        content = image_bytes(cell)
        if content != b"":
            image = cell if content is None else open_image(content, jpeg_side=jpeg_side)
            check_image(image)
            return upright(image) if isinstance(image, Image.Image) else image
    except FileNotFoundError as error:
        raise UnusableRow(f"no image: {error}") from error
    # Damaged files raise nearly every class: OSError, SyntaxError, ValueError, Image.DecompressionBombError, ...
    except Exception as error:
        raise UnusableRow(f"broken image: {error}") from error
    raise UnusableRow("no image")


def cell_texts(cell: Any) -> list[str]:
    """Texts of a cell that are not blank.

    Args:
        cell: A string, a list of strings, or None.
    """
    return [text for text in ([cell] if isinstance(cell, str) else cell or []) if text and text.strip()]


def draw_several(count: int, wanted: int, generator: np.random.Generator) -> list[int]:
    """Random numbers below `count`; none repeats before all were drawn.

    Args:
        count: Numbers to draw from.
        wanted: Numbers to draw.
        generator: Source of randomness.
    """
    drawn: list[int] = []
    while len(drawn) < wanted:
        drawn += generator.permutation(count)[: wanted - len(drawn)].tolist()
    return drawn


def captions_of(row: Mapping[str, Any], columns: Sequence[str], descriptive_only: bool = False) -> list[list[str]]:
    """Texts of a row, one list for each column that has any.

    Args:
        row: Cells by column.
        columns: Columns of texts; "json.title" is the field `title` of the column `json`.
        descriptive_only: Drop texts that describe nothing.
    """
    found = [cell_texts(_cell(row, column)) for column in columns]
    if descriptive_only:
        found = [list(filter(is_descriptive, texts)) for texts in found]
    return [texts for texts in found if texts]


def _cell(row: Mapping[str, Any], column: str) -> Any:
    if column in row:
        return row[column]
    top, _, field = column.partition(".")
    return (row[top] or {}).get(field)


def image_text_item(
    row: Mapping[str, Any], spec: SourceSpec, generator: np.random.Generator | None, texts_per_image: int = 1
) -> dict[str, Any]:
    """Image and caption of a row: {"image", "text"}, "text" being a list when it holds several.

    Args:
        row: Cells by column.
        spec: Source of the row.
        generator: Source of randomness; None takes the first caption, for evaluation.
        texts_per_image: Captions to draw.

    Raises:
        UnusableRow: The row has no caption, or no image that can be decoded.
    """
    text = draw_captions(row, spec, generator, texts_per_image)
    return {"image": read_image(row[spec.image_column], spec.jpeg_side), "text": text}


def draw_captions(
    row: Mapping[str, Any], spec: SourceSpec, generator: np.random.Generator | None, texts_per_image: int = 1
) -> str | list[str]:
    """Caption of a row, or a list when it holds several.

    Args:
        row: Cells by column.
        spec: Source of the row.
        generator: Source of randomness; None takes the first caption, for evaluation.
        texts_per_image: Captions to draw.

    Raises:
        UnusableRow: The row has no caption.
    """
    by_column = captions_of(row, spec.caption_columns, spec.descriptive_only)
    if not by_column:
        raise UnusableRow("no caption" + (" that describes anything" if spec.descriptive_only else ""))
    if generator is None:
        texts = [by_column[0][0]]
    else:
        if spec.fields == "one":
            by_column = [by_column[generator.integers(len(by_column))]]
        every = [text for texts in by_column for text in texts]
        texts = [every[i] for i in draw_several(len(every), texts_per_image, generator)]
    return texts[0] if len(texts) == 1 else texts


def text_text_item(row: Mapping[str, Any], spec: SourceSpec, generator: np.random.Generator | None) -> dict[str, Any]:
    """Two texts of a row: {"first_text", "text"}.

    Args:
        row: Row of `sentence_pairs`, or cells by column, of which two different texts are drawn.
        spec: Source of the row.
        generator: Source of randomness; None takes the first two texts.

    Raises:
        UnusableRow: The row has fewer than two different texts.
    """
    if spec.text_column is not None:
        return {"first_text": row["first"], "text": row["second"]}
    every = [text for texts in captions_of(row, spec.caption_columns, spec.descriptive_only) for text in texts]
    every = list(dict.fromkeys(every))
    if len(every) < 2:
        raise UnusableRow("fewer than two different texts")
    first, second = (0, 1) if generator is None else draw_several(len(every), 2, generator)
    return {"first_text": every[first], "text": every[second]}


def document_item(row: Mapping[str, Any], spec: SourceSpec, generator: np.random.Generator) -> dict[str, Any]:
    """Two random consecutive sentences of a document: {"first_text", "text"}.

    Args:
        row: Cells by column.
        spec: Source of the row.
        generator: Source of randomness.

    Raises:
        UnusableRow: The document has no two consecutive sentences.
    """
    pairs = consecutive_sentences(_cell(row, spec.text_column) or "", spec.min_chars, spec.max_chars)
    if not pairs:
        raise UnusableRow("no two consecutive sentences")
    first, second = pairs[generator.integers(len(pairs))]
    return {"first_text": first, "text": second}


def sentence_pairs(
    documents: Mapping[str, list], column: str, min_chars: int, max_chars: int, rules: int = RULES_VERSION
) -> dict[str, list]:
    """Consecutive sentences of a batch of documents, for `map(batched=True)`.

    Args:
        documents: Cells by column.
        column: Column of the documents.
        min_chars: Shortest sentence.
        max_chars: Longest sentence.
        rules: Unused; as an argument it is part of the fingerprint of the cached result.

    Returns:
        Columns "first" and "second"; a document without a pair gives one row of None.
    """
    first, second = [], []
    top = column if column in documents else column.partition(".")[0]
    for cell in documents[top]:
        pairs = consecutive_sentences(_cell({top: cell}, column) or "", min_chars, max_chars) or [(None, None)]
        first += [pair[0] for pair in pairs]
        second += [pair[1] for pair in pairs]
    return {"first": first, "second": second}
