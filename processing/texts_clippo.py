"""Text arguments of a tokenizer call, in all their forms, as lists of strings."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np


class TextBatch(NamedTuple):
    """The texts of one call.

    Args:
        firsts: B strings.
        seconds: The second text of every pair, None where there is none; None if the call has no pair at all.
        is_single: Whether the call gave one text rather than a batch.
    """

    firsts: list[str]
    seconds: list[str | None] | None
    is_single: bool


def read_texts(text, text_pair, is_split_into_words: bool) -> TextBatch:
    """Reads the arguments `text` and `text_pair` of a tokenizer call.

    Args:
        text: A string, or a sequence of strings, of [text, text_pair], or of both. With `is_split_into_words` a text is
            a list of words.
        text_pair: None, or as many texts as `text` has.
        is_split_into_words: Whether a text is a list of words, to be drawn with spaces between.

    Raises:
        TypeError: An item is not a string.
        ValueError: No text is given, or `text` and `text_pair` have different lengths.
    """
    if text is None:
        raise ValueError("There is no text to render; pass a string or a list of strings.")
    is_single = _is_single(text, is_split_into_words)
    items = [text] if is_single else _to_list(text)
    if text_pair is not None:
        pair_is_single = _is_single(text_pair, is_split_into_words)
        pairs = [text_pair] if pair_is_single else _to_list(text_pair)
        if pair_is_single != is_single or len(pairs) != len(items):
            raise ValueError(
                f"text has {len(items)} and text_pair {len(pairs)} texts; give two strings, or two lists of one length."
            )
        firsts = [_as_text(i, item, is_split_into_words) for i, item in enumerate(items)]
        return TextBatch(firsts, [_as_text(i, item, is_split_into_words) for i, item in enumerate(pairs)], is_single)
    if is_split_into_words or not any(map(_is_pair, items)):
        return TextBatch([_as_text(i, item, is_split_into_words) for i, item in enumerate(items)], None, is_single)
    firsts = [_as_text(i, item[0] if _is_pair(item) else item, False) for i, item in enumerate(items)]
    seconds = [_as_text(i, item[1], False) if _is_pair(item) else None for i, item in enumerate(items)]
    return TextBatch(firsts, seconds, is_single)


def _is_pair(item) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2


def _is_sequence(value) -> bool:
    # Columns of data sets and of data frames behave as sequences without being registered as such. Arrays without an
    # axis and tables do too, but iterate over something else than texts.
    if getattr(value, "ndim", 1) != 1 and not isinstance(value, str):
        return value.ndim == 2 and isinstance(value, np.ndarray)
    return not isinstance(value, str | bytes | Mapping) and hasattr(value, "__len__") and hasattr(value, "__getitem__")


def _is_single(text, is_split_into_words: bool) -> bool:
    if not is_split_into_words:
        return not _is_sequence(text)
    return not (_is_sequence(text) and len(text) > 0 and _is_sequence(_to_list(text)[0]))


def _to_list(values) -> list:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _as_text(index: int, item, is_split_into_words: bool) -> str:
    if is_split_into_words and _is_sequence(item):
        return " ".join(_as_text(index, word, False) for word in _to_list(item))
    if isinstance(item, np.ndarray) and item.ndim == 0:
        item = item.item()
    if not isinstance(item, str):
        raise TypeError(
            f"Text {index} is of type {type(item).__name__} ({str(item)[:60]!r}); give a string"
            + (", or pass is_split_into_words=True for a list of words." if isinstance(item, list | tuple) else ".")
        )
    return item
