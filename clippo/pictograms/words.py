"""Names of icons to English words, with the words of the drawing style apart."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# Words of the drawing style. Each of them can be meant ("format-bold"), so a set must use it at the end of many names.
_OUTLINE = "outline outlined line lined linear stroke light thin regular broken baseline"
_FILLED = "fill filled solid bold glyph flat sharp"
_OTHERS = "duotone duo twotone round rounded remix color colour multicolor mono monochrome pop pencil print"
_SIZES = "10 12 16 20 24 28 32 48 96 12px 16px 20px 24px 32px 1x1 4x3"
OUTLINE, FILLED = frozenset(_OUTLINE.split()), frozenset(_FILLED.split())
STYLE_WORDS = OUTLINE | FILLED | frozenset(f"{_OTHERS} {_SIZES}".split())
SHARE = 0.05  # least share of a set's names that end with a style word
SEPARATOR = re.compile(r"[^\w]+|_+")
LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Name:
    """Words of a name.

    Attributes:
        words: Lower-case words of the meaning; empty when the name has none.
        style: Lower-case words of the style.
    """

    words: tuple[str, ...]
    style: tuple[str, ...]


@dataclass
class SetNames:
    """Names of one set, split into words.

    Args:
        names: All names of the set.
        prefixes, suffixes: Style parts that the set declares, such as "outline-rounded".

    Example:
        >>> from clippo.pictograms.words import SetNames
        >>> names = SetNames(["arrow-left-circle-outline", "home", "home-2", "home-outline", "format-bold"])
        >>> names.split("arrow-left-circle-outline")
        Name(words=('arrow', 'left', 'circle'), style=('outline',))
        >>> names.split("home-2").words, names.split("format-bold").words
        (('home',), ('format', 'bold'))
    """

    names: Sequence[str]
    prefixes: Sequence[str] = ()
    suffixes: Sequence[str] = ()
    _style: frozenset[str] = field(init=False, repr=False)
    _known: frozenset[tuple[str, ...]] = field(init=False, repr=False)

    def __post_init__(self):
        tokens = [tuple(_tokens(name)) for name in self.names]
        last = Counter(words[-1] for words in tokens if len(words) > 1)
        least = max(2, SHARE * len(tokens))
        self._style = frozenset(word for word, count in last.items() if word in STYLE_WORDS and count >= least)
        self._known = frozenset(tuple(self._without_style(name)[0]) for name in self.names)

    def split(self, name: str) -> Name:
        """Words of one name.

        Args:
            name: Name as the set writes it.
        """
        words, style = self._without_style(name)
        # The number of a variant says nothing: "home-2" beside "home", "user-02".
        if len(words) > 1 and words[-1].isdigit() and (words[-1][0] == "0" or tuple(words[:-1]) in self._known):
            words.pop()
        return Name(tuple(words) if any(LETTER.search(word) for word in words) else (), tuple(style))

    def _without_style(self, name: str) -> tuple[list[str], list[str]]:
        """Words of the meaning, with numbers, and words of the style."""
        rest, style = name, []
        for part in sorted(self.prefixes, key=len, reverse=True):
            if rest.startswith(f"{part}-"):
                rest = rest[len(part) + 1 :]
                style += _tokens(part)
                break
        for part in sorted(self.suffixes, key=len, reverse=True):
            if rest.endswith(f"-{part}"):
                rest = rest[: -len(part) - 1]
                style += _tokens(part)
                break
        words = _tokens(rest)
        while len(words) > 1 and words[-1] in self._style:
            style.append(words.pop())
        return words, style


def _tokens(name: str) -> list[str]:
    return [word for word in SEPARATOR.split(name.lower()) if word]


def drawing_style(style: Iterable[str], in_colour: bool, stroked: bool) -> str:
    """One of "colour", "outline" and "filled".

    Args:
        style: Style words of the name.
        in_colour: True when the picture has colours of its own.
        stroked: True when the drawing has strokes.
    """
    if in_colour:
        return "colour"
    words = set(style)
    if words & OUTLINE:
        return "outline"
    if words & FILLED:
        return "filled"
    return "outline" if stroked else "filled"


def words_of(text: str) -> tuple[str, ...]:
    """Lower-case words of a name or keyword, without punctuation.

    Args:
        text: Name or keyword.

    Example:
        >>> from clippo.pictograms.words import words_of
        >>> words_of("A button (blood type)")
        ('a', 'button', 'blood', 'type')
    """
    return tuple(_tokens(text.replace("’", "").replace("'", "")))
