"""From a row of a source to one training item; what is random about it comes from the generator that is handed in."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clippo.data.filters import is_descriptive
from clippo.data.pictures import UnusableRow, read_picture
from clippo.data.sentences import RULES_VERSION, consecutive_sentences
from clippo.data.specs import SourceSpec


def draw_several(count: int, wanted: int, generator: np.random.Generator) -> list[int]:
    """`wanted` numbers in [0, count), none twice before all were drawn."""
    drawn: list[int] = []
    while len(drawn) < wanted:
        drawn += generator.permutation(count)[: wanted - len(drawn)].tolist()
    return drawn


def _cell(row: Mapping[str, Any], column: str) -> Any:
    """The cell of a column; of "json.title" the entry `title` of the cell `json`."""
    if column in row:
        return row[column]
    top, _, field = column.partition(".")
    return (row[top] or {}).get(field)


def captions_of(row: Mapping[str, Any], columns: Sequence[str], descriptive_only: bool = False) -> list[list[str]]:
    """The texts of a row, one list a column; empty texts and empty columns are left out."""
    found = []
    for column in columns:
        cell = _cell(row, column)
        texts = [cell] if isinstance(cell, str) else cell or []
        texts = [text for text in texts if text and text.strip()]
        if descriptive_only:
            texts = [text for text in texts if is_descriptive(text)]
        if texts:
            found.append(texts)
    return found


def image_text_item(
    row: Mapping[str, Any], spec: SourceSpec, generator: np.random.Generator | None, texts_per_image: int = 1
) -> dict[str, Any]:
    """{"image", "text"}; "text" is a list with several texts an image.

    Args:
        generator: None takes the first caption, for evaluation.

    Raises:
        UnusableRow: No caption, or no picture that can be decoded.
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
    image = read_picture(row[spec.image_column])
    return {"image": image, "text": texts[0] if len(texts) == 1 else texts}


def text_text_item(row: Mapping[str, Any], spec: SourceSpec, generator: np.random.Generator | None) -> dict[str, Any]:
    """{"first_text", "text"}: the two sentences of a row of `sentence_pairs`, or two texts of a row in random order.

    Raises:
        UnusableRow: There are no two different texts.
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
    """{"first_text", "text"}: two consecutive sentences of a document, drawn among all that there are.

    Raises:
        UnusableRow: There are none.
    """
    pairs = consecutive_sentences(_cell(row, spec.text_column) or "", spec.min_chars, spec.max_chars)
    if not pairs:
        raise UnusableRow("no two consecutive sentences")
    first, second = pairs[generator.integers(len(pairs))]
    return {"first_text": first, "text": second}


def sentence_pairs(
    documents: Mapping[str, list], column: str, min_chars: int, max_chars: int, rules: int = RULES_VERSION
) -> dict[str, list]:
    """For `map(batched=True)`: documents to rows {"first", "second"}; a document without a pair gives one of None.

    `rules` is not read: as an argument it is part of the fingerprint under which `datasets` caches the result.
    """
    first, second = [], []
    top, _, field = (column, "", "") if column in documents else column.partition(".")
    for cell in documents[top]:
        text = (cell or {}).get(field) if field else cell
        pairs = consecutive_sentences(text or "", min_chars, max_chars) or [(None, None)]
        first += [pair[0] for pair in pairs]
        second += [pair[1] for pair in pairs]
    return {"first": first, "second": second}
