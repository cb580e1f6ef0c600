"""Lines to read aloud or to continue, cut from running text of any script."""

import re
import unicodedata
from collections.abc import Iterable

import numpy as np

MAX_PASSAGE = 400  # characters; a longer paragraph is cut, so that every part of a book is a row


def columns(text: str) -> int:
    """Width of a text in columns of 8 pixels: 2 for full-width characters, 0 for combining marks, 1 for all others.

    Example:
        >>> columns("ab"), columns("猫")
        (2, 2)
    """
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    return 0 if unicodedata.combining(character) else 1


def passages(text: str) -> list[str]:
    """Paragraphs of a document without their line breaks; long ones in parts, cut at a space if there is one.

    Example:
        >>> passages("One\\ntwo.\\n\\nThree.")
        ['One two.', 'Three.']
    """
    parts = []
    for paragraph in re.split(r"\n\s*\n", text):
        rest = " ".join(paragraph.split())
        while len(rest) > MAX_PASSAGE:
            cut = rest.rfind(" ", 0, MAX_PASSAGE)
            cut = cut if cut > 0 else MAX_PASSAGE
            parts.append(rest[:cut])
            rest = rest[cut:].strip()
        if rest:
            parts.append(rest)
    return parts


def draw_line(text: str, least: int, most: int, generator: np.random.Generator) -> str:
    """Draw a line of a passage: a random number of columns, from a random word on.

    Args:
        text: A passage.
        least: Smallest number of columns.
        most: Largest number of columns.
        generator: Source of randomness.

    Example:
        >>> import numpy as np
        >>> line = draw_line("one two three four five", 4, 12, np.random.default_rng(1))
        >>> line in "one two three four five", len(line) <= 12
        (True, True)
    """
    wanted = int(generator.integers(least, most + 1))
    spaced = text.count(" ") * 12 > len(text)  # otherwise words are not separated, as in Chinese
    starts = [0] + [i + 1 for i, character in enumerate(text) if character == " "] if spaced else range(len(text))
    starts = [i for i in starts if len(text) - i >= least] or [0]
    text = text[starts[generator.integers(len(starts))] :]
    end, used = 0, 0
    while end < len(text) and used + _width(text[end]) <= wanted:
        used += _width(text[end])
        end += 1
    line = text[:end]
    if spaced and end < len(text) and text[end] != " " and " " in line:
        line = line[: line.rindex(" ")]
    return line.strip()


def split_line(line: str, generator: np.random.Generator) -> tuple[str, str]:
    """Cut a line in two at a random space, or anywhere if it has none: the parts of SplitCap.

    Args:
        line: Text of at least two characters.
        generator: Source of randomness.

    Raises:
        ValueError: The text has fewer characters.

    Example:
        >>> import numpy as np
        >>> split_line("one two", np.random.default_rng(0))
        ('one', 'two')
    """
    places = [i for i, character in enumerate(line) if character == " " and i] or list(range(1, len(line)))
    if not places:
        raise ValueError(f"{line!r} cannot be cut in two; it needs two characters.")
    cut = places[generator.integers(len(places))]
    return line[:cut], line[cut:].strip()


def alphabet(texts: Iterable[str]) -> list[str]:
    """All characters of texts, sorted, without spaces."""
    return sorted(set().union(*map(set, texts)) - {" "})


def random_line(characters: list[str], least: int, most: int, generator: np.random.Generator) -> str:
    """Draw characters of equal probability in words of one to nine.

    Example:
        >>> import numpy as np
        >>> columns(random_line(["a", "b"], 6, 6, np.random.default_rng(0))) <= 6
        True
    """
    wanted, used, line = int(generator.integers(least, most + 1)), 0, []
    word = int(generator.integers(1, 10))
    for index in generator.integers(len(characters), size=wanted):
        character = characters[index]
        used += _width(character)
        if used > wanted:
            break
        line.append(character)
        word -= 1
        if word == 0:
            line.append(" ")
            used, word = used + 1, int(generator.integers(1, 10))
    return "".join(line).strip()
