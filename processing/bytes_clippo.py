"""Texts to byte ids and back: the output alphabet of the decoder.

The ids are those of `ByT5Tokenizer` (arXiv 2105.13626): 0 padding and start, 1 end, 2 unknown, 3 + byte of the UTF-8
form. Markup such as "</s>" in a text stays text, byte by byte.
"""

import codecs
from collections.abc import Iterable, Sequence
from queue import Queue

import numpy as np

PAD_ID, END_ID, FIRST_BYTE, IGNORED = 0, 1, 3, -100


def to_ids(text: str, max_length: int | None = None) -> list[int]:
    """Converts a text to byte ids with the end id.

    Args:
        text: Any string. A lone surrogate, which UTF-8 cannot hold, becomes "?".
        max_length: Number of ids. A longer text is cut after a whole character, and has no end id.

    Example:
        >>> to_ids("hé")
        [107, 198, 172, 1]
        >>> to_ids("hé", max_length=2)
        [107]
    """
    data = text.encode("utf-8", "replace")
    ids = [byte + FIRST_BYTE for byte in data] + [END_ID]
    if max_length is None or len(ids) <= max_length:
        return ids
    return [byte + FIRST_BYTE for byte in data[:max_length].decode("utf-8", "ignore").encode()]


def to_text(ids: Iterable[int]) -> str:
    """Converts byte ids to text, up to the end id. Bytes that are not UTF-8 become U+FFFD; other ids are left out.

    Example:
        >>> to_text([0, 107, 198, 172, 1, 100])
        'hé'
        >>> to_text([107, 198])
        'h\\ufffd'
    """
    return _to_bytes(ids).decode("utf-8", "replace")


def _to_bytes(ids: Iterable[int]) -> bytes:
    data = bytearray()
    for index in ids:
        if index == END_ID:
            break
        if FIRST_BYTE <= index < FIRST_BYTE + 256:
            data.append(index - FIRST_BYTE)
    return bytes(data)


def to_labels(texts: Sequence[str], max_length: int | None = None) -> np.ndarray:
    """Converts texts to labels, int64 (B, L), -100 after the end.

    Args:
        texts: B strings.
        max_length: Largest L, see `to_ids`.

    Raises:
        TypeError: An item is not a string.

    Example:
        >>> to_labels(["a", "bc"]).tolist()
        [[100, 1, -100], [101, 102, 1]]
    """
    wrong = next(((i, text) for i, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise TypeError(f"Target {wrong[0]} is of type {type(wrong[1]).__name__} ({wrong[1]!r}); give a string.")
    rows = [to_ids(text, max_length) for text in texts]
    labels = np.full((len(rows), max(map(len, rows), default=0)), IGNORED)
    for label, row in zip(labels, rows, strict=True):
        label[: len(row)] = row
    return labels


class ByteStreamer:
    """Streamer of `generate` for one text. It gives whole characters as soon as their last byte is there.

    Pass it as `streamer` to `generate` in another thread, and iterate over it. `TextIteratorStreamer` of transformers
    decodes by the rules of word pieces, which cut characters apart.

    Example:
        >>> streamer = ByteStreamer()
        >>> for ids in ([0], [107], [198], [172], [1]):
        ...     streamer.put(ids)
        >>> streamer.end()
        >>> list(streamer)
        ['h', 'é']
    """

    def __init__(self):
        self.pieces = Queue()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def put(self, value) -> None:
        """Takes ids as `generate` gives them, a tensor or a list."""
        ids = np.asarray(value)
        if ids.ndim > 1 and len(ids) > 1:
            raise ValueError(f"ByteStreamer takes one text, but got a batch of {len(ids)}; generate one at a time.")
        self._give(self._decoder.decode(_to_bytes(ids.reshape(-1).tolist())))

    def end(self) -> None:
        """Gives what is left; an incomplete character becomes U+FFFD."""
        self._give(self._decoder.decode(b"", final=True))
        self.pieces.put(None)

    def _give(self, text: str) -> None:
        if text:
            self.pieces.put(text)

    def __iter__(self):
        return iter(self.pieces.get, None)
