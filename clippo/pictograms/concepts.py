"""Concepts of CLDR and the pictures that show them: the link that brings other languages to an icon.

An icon has an English name. CLDR names 3,900 characters in 116 languages. A picture is linked to a character

1. by the code points that its set names (emoji sets),
2. by a region code, in a set of flags ("us" -> flag: United States),
3. by its name, when its words are exactly those of the English CLDR name, in any order ("arrow left", "left arrow"),
4. by hand, from the short table of `interface_words.py` ("search" -> magnifying glass),
5. by a keyword, when its words are exactly an English CLDR keyword *and* tags of icons with these words name the
   same character: "garbage" has the tags "trash" and "waste", which are keywords of the wastebasket too.

The last rule needs witnesses, because a keyword alone says little: "clever" is a keyword of the brain. A tag that is a
keyword of many characters ("food") is a weak witness: it counts one divided by their number. A name that holds the
words counts too, each further word of the name against it. Of several characters the one with the most points is
taken, and none below `LEAST_POINTS`.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from clippo.emoji.build import VARIANT_MARKS
from clippo.emoji.cldr import Annotation
from clippo.pictograms.interface_words import INTERFACE_WORDS, OTHER_THINGS
from clippo.pictograms.words import words_of

REGION_A = 0x1F1E6  # REGIONAL INDICATOR SYMBOL LETTER A
LEAST_POINTS = 0.9
NAME_POINTS, WORD_POINTS = 1.5, 0.15  # a name that holds the words; each word of the name
NEGATIONS = frozenset({"no", "not", "without", "non", "off", "prohibited"})
LEAST_JOINED = 7  # letters of a name that a set writes without spaces: "admissiontickets"


def concept_id(text: str) -> str:
    """Identifier of a character or sequence: hexadecimal code points joined by "-", without U+FE0F.

    Args:
        text: Character or sequence.

    Example:
        >>> from clippo.pictograms.concepts import concept_id
        >>> concept_id("🗑️")
        '1f5d1'
    """
    return "-".join(f"{ord(char):x}" for char in text if char != "\ufe0f")


@dataclass
class Concepts:
    """Characters with an English name, and the ways to find them.

    Args:
        english: CLDR annotations of English by character.

    Example:
        >>> from clippo.emoji.cldr import Annotation
        >>> from clippo.pictograms.concepts import Concepts
        >>> bin, brain = Annotation("wastebasket", ("litter", "rubbish")), Annotation("brain", ("clever",))
        >>> concepts = Concepts({"🗑": bin, "🧠": brain})
        >>> concepts.link(("rubbish",), {"litter", "wastebasket"}), concepts.link(("trash",), ())
        (('1f5d1', 'keyword'), ('1f5d1', 'hand'))
        >>> concepts.link(("clever",), {"smart"}) is None
        True
    """

    english: dict[str, Annotation]
    text: dict[str, str] = field(init=False)  # id -> character
    _names: dict[tuple[str, ...], str] = field(init=False, repr=False)
    _joined: dict[str, str] = field(init=False, repr=False)
    _keywords: dict[tuple[str, ...], set[str]] = field(init=False, repr=False)
    _phrases: dict[str, set[tuple[str, ...]]] = field(init=False, repr=False)

    def __post_init__(self):
        self.text, self._names, self._joined = {}, {}, {}
        self._keywords, self._phrases = defaultdict(set), {}
        for character in sorted(self.english, key=lambda text: (not _is_emoji(text), len(text), text)):
            if character.isascii() or not VARIANT_MARKS.isdisjoint(character):
                continue
            annotation, identifier = self.english[character], concept_id(character)
            self.text[identifier] = character
            words = words_of(annotation.name)
            self._names.setdefault(tuple(sorted(words)), identifier)
            if len(words) > 1 and len("".join(words)) >= LEAST_JOINED:
                self._joined.setdefault("".join(words), identifier)
            phrases = {words, *map(words_of, annotation.keywords)} - {()}
            self._phrases[identifier] = phrases
            for phrase in phrases:
                self._keywords[phrase].add(identifier)

    def link(self, words: tuple[str, ...], tags: Iterable[str] = ()) -> tuple[str, str] | None:
        """Concept of English words, and the rule that found it.

        Args:
            words: Words of an icon's name, style words apart.
            tags: Tags of all icons with these words.

        Returns:
            (identifier, "name", "hand" or "keyword"), or None.
        """
        if not words or " ".join(words) in OTHER_THINGS:
            return None
        found = self._names.get(tuple(sorted(words)))
        if found is None and len(words) == 1:
            found = self._joined.get(words[0])
        if found is not None:
            return found, "name"
        by_hand = INTERFACE_WORDS.get(" ".join(words))
        if by_hand and (found := self._names.get(tuple(sorted(words_of(by_hand))))):
            return found, "hand"
        others = {words_of(tag) for tag in tags} - {words}
        candidates = {one: self._points(words, others, one) for one in self._keywords.get(words, ())}
        best = min(candidates, key=lambda one: (-candidates[one], len(one), one), default=None)
        return (best, "keyword") if best and candidates[best] >= LEAST_POINTS else None

    def _points(self, words: tuple[str, ...], others: set[tuple[str, ...]], identifier: str) -> float:
        """Points of a character whose keywords hold the words; 0 without a witness among the other phrases."""
        name = words_of(self.english[self.text[identifier]].name)
        witnesses = others & self._phrases[identifier]
        if not witnesses or NEGATIONS & (set(name) - set(words)):
            return 0.0
        points = sum(1 / len(self._keywords[phrase]) for phrase in witnesses)
        if all(any(part == word or (len(word) > 3 and part.startswith(word)) for part in name) for word in words):
            points += NAME_POINTS
        return points - WORD_POINTS * len(name)

    def words(self) -> frozenset[str]:
        """Every word of an English name or keyword."""
        return frozenset(word for phrases in self._phrases.values() for phrase in phrases for word in phrase)

    def titles(self) -> dict[str, str]:
        """Identifier -> English CLDR name."""
        return {identifier: self.english[text].name for identifier, text in self.text.items()}

    def of_code_points(self, chars: Iterable[str]) -> str | None:
        """First of the sequences that CLDR names.

        Args:
            chars: Hexadecimal code points joined by "-", as Iconify writes them.
        """
        for one in chars:
            identifier = "-".join(part for part in one.lower().split("-") if part != "fe0f")
            if identifier in self.text:
                return identifier
        return None

    def of_region(self, code: str) -> str | None:
        """Flag of a region.

        Args:
            code: Two letters, ISO 3166.
        """
        if len(code) != 2 or not code.isascii() or not code.isalpha():
            return None
        identifier = "-".join(f"{REGION_A + ord(letter) - ord('a'):x}" for letter in code.lower())
        return identifier if identifier in self.text else None


def _is_emoji(text: str) -> bool:
    """True for characters of the emoji planes, which have more keywords than the symbols of the same name."""
    return ord(text[0]) >= 0x1F000
