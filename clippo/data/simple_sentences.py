"""Simple English sentences from a small grammar and WordNet's words.

A sentence encoder gives a vector to any sentence, so training texts for a reader need no author. Words are drawn by the
square root of their count, so that rare words are read too.
"""

import random
from collections.abc import Iterator, Mapping
from itertools import accumulate
from pathlib import Path

from clippo.data.wordnet import NUMBER_OF_LETTER, read_counts


def _words(text: str) -> list[str]:
    return text.split()


AGENTS = _words(
    "man woman boy girl child person dog cat people player singer worker student teacher doctor horse bird baby lady "
    "guy crowd team family couple group officer soldier company government president driver police"
)
PLURAL_AGENTS = _words("men women boys girls children people dogs cats players workers students soldiers kids birds")
PREPOSITIONS = _words("on in at near under behind with without for from over into through against around across by")
NUMBERS = _words(
    "two three four five six seven eight ten twenty 2 3 12 15 40 100 300 1,500 2008 2013 some many several"
)
TEMPLATES = (
    "A {agent} is {ving} a {n}.",
    "The {agent} is {ving} {prep} the {n}.",
    "A {adj} {agent} {ving} a {adj} {n}",
    "Two {agents} are {ving} {prep} a {n}.",
    "{number} {ns} {prep} the {n}",
    "The {n} is {adj}.",
    "The {adj} {n} and the {n}",
    "A {agent} is not {ving} the {n}.",
    "There is no {n} {prep} the {n}.",
    "How do you {v} a {n}?",
    "Is it {adj} to {v} {ns}?",
    "The {agent} will {v} the {n} {adv}.",
    "{n} {n}",
    "{adj} {n}",
    "{ving} {ns}",
    "{agent} {prep} {n}",
    "I have never seen a {n} that can {v}.",
    "You should {v} the {n} before you {v}.",
    "The {n} of the {n} {prep} the {n}",
    "{ns} {prep} {number} {ns}, {agent} says",
)
VOWELS = "aeiou"


def gerund(verb: str) -> str:
    """Form of a verb that ends in -ing, by the rules of spelling.

    Example:
        >>> [gerund(verb) for verb in ("cut", "slice", "play", "die", "see")]
        ['cutting', 'slicing', 'playing', 'dying', 'seeing']
    """
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    closed = len(verb) in (3, 4) and verb[-1] not in VOWELS + "wxy" and verb[-2] in VOWELS and verb[-3] not in VOWELS
    return verb + verb[-1] * closed + "ing"


def plural(noun: str) -> str:
    """Regular plural of a noun.

    Example:
        >>> [plural(noun) for noun in ("dog", "box", "city", "day")]
        ['dogs', 'boxes', 'cities', 'days']
    """
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2:-1] not in VOWELS:
        return noun[:-1] + "ies"
    return noun + "s"


class SimpleSentences:
    """Endless sentences from `TEMPLATES`.

    Args:
        counts: Count of each word, by the letter of the part of speech, see `clippo.data.wordnet.read_counts`.
        seed: Seed; the same seed gives the same sentences.

    Example:
        >>> words = {"n": {"apple": 4}, "v": {"cut": 9}, "a": {"red": 1}, "r": {"slowly": 1}}
        >>> len([sentence for sentence, _ in zip(SimpleSentences(words, seed=0), range(3))])
        3
    """

    def __init__(self, counts: Mapping[str, Mapping[str, int]], seed: int = 0):
        self.words = {letter: sorted(counts[letter]) for letter in NUMBER_OF_LETTER}
        self.sums = {
            letter: list(accumulate(counts[letter][word] ** 0.5 for word in words))
            for letter, words in self.words.items()
        }
        self.seed = seed

    @classmethod
    def from_wordnet(cls, folder: str | Path, seed: int = 0) -> "SimpleSentences":
        """Sentences of the words that WordNet counts."""
        return cls(read_counts(folder), seed)

    def __iter__(self) -> Iterator[str]:
        draw = random.Random(self.seed)
        while True:
            yield self._fill(draw.choice(TEMPLATES), draw)

    def _fill(self, template: str, draw: random.Random) -> str:
        def word(letter: str) -> str:
            return draw.choices(self.words[letter], cum_weights=self.sums[letter])[0]

        makers = {
            "{agents}": lambda: draw.choice(PLURAL_AGENTS),
            "{agent}": lambda: draw.choice(AGENTS),
            "{prep}": lambda: draw.choice(PREPOSITIONS),
            "{number}": lambda: draw.choice(NUMBERS),
            "{ns}": lambda: plural(word("n")),
            "{ving}": lambda: gerund(word("v")),
            "{adj}": lambda: word("a"),
            "{adv}": lambda: word("r"),
            "{n}": lambda: word("n"),
            "{v}": lambda: word("v"),
        }
        for slot, make in makers.items():
            while slot in template:
                template = template.replace(slot, make(), 1)
        return template[:1].upper() + template[1:] if template.endswith((".", "?")) else template
