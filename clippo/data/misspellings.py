"""Damaged spellings of a text: typing errors, look-alike letters, leetspeak, other case, split words.

A reader of pixels should find the text that was meant. Training uses typing errors and case; the evaluation of
robustness uses all of them. Every function is pure: the same generator gives the same result.
"""

from collections.abc import Callable

import numpy as np

# Neighbours on a QWERTY keyboard.
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
NEIGHBOURS = {letter: row[max(0, i - 1) : i] + row[i + 1 : i + 2] for row in ROWS for i, letter in enumerate(row)}
# Latin letters and letters of Cyrillic or Greek that fonts draw alike.
LOOK_ALIKES = dict(zip("aceopxyijsABEHIKMNOPTXYZ", "асеорхуіјѕАВЕНІКМΝОРТХҮΖ", strict=True))
LEET = dict(zip("aeiostAEIOST", "431057431057", strict=True))


def typing_errors(text: str, rate: float, generator: np.random.Generator) -> str:
    """Text in which each letter is mistyped with a probability.

    The four errors are equally frequent: two letters change places, a letter is missing, a letter is doubled, a
    neighbour on the keyboard is hit.

    Args:
        text: Text of any script; the keyboard is that of English.
        rate: Probability of each letter to be mistyped.
        generator: Source of randomness.

    Example:
        >>> typing_errors("The dog chased a ball.", 0.2, np.random.default_rng(6))
        'The dog cjsaeed a ball.'
    """
    hits = np.flatnonzero(generator.random(len(text)) < rate).tolist()
    if not hits:
        return text
    letters = list(text)
    kinds, sides = generator.integers(4, size=len(hits)).tolist(), generator.integers(2, size=len(hits)).tolist()
    for place, kind, side in zip(hits, kinds, sides, strict=True):
        letter = letters[place]
        if not letter.isalpha():
            continue
        if kind == 0 and place + 1 < len(letters) and letters[place + 1].isalpha():
            letters[place], letters[place + 1] = letters[place + 1], letter
        elif kind == 1:
            letters[place] = ""
        elif kind == 2:
            letters[place] = letter + letter
        else:
            near = NEIGHBOURS.get(letter.lower(), letter)
            other = near[side % len(near)]
            letters[place] = other.upper() if letter.isupper() else other
    return "".join(letters)


def _replace(table: dict[str, str]) -> Callable[[str, float, np.random.Generator], str]:
    def replaced(text: str, rate: float, generator: np.random.Generator) -> str:
        hits = (generator.random(len(text)) < rate).tolist()
        return "".join(table.get(c, c) if hit else c for c, hit in zip(text, hits, strict=True))

    return replaced


look_alikes = _replace(LOOK_ALIKES)
leetspeak = _replace(LEET)


def upper_case(text: str, rate: float, generator: np.random.Generator) -> str:
    """Text whose words are in capital letters, each with a probability."""
    words = text.split(" ")
    hits = (generator.random(len(words)) < rate).tolist()
    return " ".join(word.upper() if hit else word for word, hit in zip(words, hits, strict=True))


def split_words(text: str, rate: float, generator: np.random.Generator) -> str:
    """Text whose words of four letters or more have a space inside, each with a probability."""
    words = text.split(" ")
    hits = (generator.random(len(words)) < rate).tolist()
    places = generator.random(len(words)).tolist()
    for i, word in enumerate(words):
        if hits[i] and len(word) >= 4:
            place = 1 + int(places[i] * (len(word) - 1))
            words[i] = f"{word[:place]} {word[place:]}"
    return " ".join(words)


# Name -> function of text, rate and generator.
MISSPELLINGS = {
    "typing errors": typing_errors,
    "look-alike letters": look_alikes,
    "leetspeak": leetspeak,
    "upper case": upper_case,
    "split words": split_words,
}


def vary(text: str, typos: float, case: float, generator: np.random.Generator) -> str:
    """Variant of a text for training, which means the same: some are mistyped, some in another case.

    Args:
        text: Text.
        typos: Probability of a text to have typing errors. Their rate is uniform between 0 and 0.2.
        case: Probability of a text to be in capitals or in small letters, equally often.
        generator: Source of randomness.
    """
    mistyped, other_case, rate, small = generator.random(4).tolist()
    if mistyped < typos:
        text = typing_errors(text, 0.2 * rate, generator) or text
    if other_case < case:
        text = text.lower() if small < 0.5 else text.upper()
    return text
