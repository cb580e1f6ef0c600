"""Reader of WordNet's database files: lemmas, definitions, example sentences and word counts.

The files are those of the folder `dict` of a WordNet release (data.noun, cntlist.rev, ...). Debian ships them as the
package wordnet-base, in /usr/share/wordnet. The format is described in wndb(5WN) and cntlist(5WN).
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PARTS_OF_SPEECH = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}  # suffix of a file -> letter
NUMBER_OF_LETTER = {"n": "1", "v": "2", "a": "3", "r": "4"}  # letter -> number in the sense keys of cntlist.rev
EXAMPLE = re.compile(r'"([^"]+)"')


@dataclass(frozen=True)
class Synset:
    """One meaning: the words that have it, its definition and sentences that use it.

    Args:
        part: Letter of the part of speech: n, v, a or r.
        lemmas: Words and compounds, with spaces.
        definition: Definition.
        examples: Sentences or phrases.

    Example:
        >>> Synset("n", ("dog", "domestic dog"), "a member of the genus Canis", ("the dog barked all night",)).lemmas[1]
        'domestic dog'
    """

    part: str
    lemmas: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]


def parse_synset(line: str, part: str) -> Synset:
    """Parse one line of a data file.

    Args:
        line: Line of data.noun, data.verb, data.adj or data.adv.
        part: Letter of the part of speech.

    Example:
        >>> parse_synset('00001740 03 n 01 living_thing 0 000 | a thing that lives; "it is alive"', "n").definition
        'a thing that lives'
    """
    head, _, gloss = line.partition(" | ")
    fields = head.split()
    count = int(fields[3], 16)  # hexadecimal
    words = (fields[4 + 2 * i] for i in range(count))
    lemmas = tuple(re.sub(r"\((?:a|p|ip)\)$", "", word).replace("_", " ") for word in words)  # beautiful(p)
    definition = EXAMPLE.sub("", gloss).strip(" ;:\n")
    return Synset(part, lemmas, re.sub(r"\s*;[\s;]*", "; ", definition), tuple(EXAMPLE.findall(gloss)))


def read_synsets(folder: str | Path) -> Iterator[Synset]:
    """Yield all synsets of a WordNet folder.

    Args:
        folder: Folder with data.noun, data.verb, data.adj and data.adv.

    Raises:
        FileNotFoundError: A file is missing.
    """
    for name, part in PARTS_OF_SPEECH.items():
        path = Path(folder) / f"data.{name}"
        if not path.is_file():
            raise FileNotFoundError(f"There is no {path}; pass the folder of WordNet's data files, such as dict.")
        with open(path, encoding="latin-1") as file:
            yield from (parse_synset(line, part) for line in file if not line.startswith("  "))  # licence: 2 spaces


def read_counts(folder: str | Path) -> dict[str, Counter]:
    """Counts of the tagged uses of each single word, by the letter of the part of speech.

    Args:
        folder: Folder with cntlist.rev.

    Raises:
        FileNotFoundError: The file is missing.
    """
    counts: dict[str, Counter] = {letter: Counter() for letter in NUMBER_OF_LETTER}
    letters = {number: letter for letter, number in NUMBER_OF_LETTER.items()} | {"5": "a"}  # 5: satellite adjectives
    with open(Path(folder) / "cntlist.rev", encoding="latin-1") as file:
        for line in file:
            key, _, count = line.split()
            word, _, rest = key.partition("%")
            if word.isalpha():
                counts[letters[rest[0]]][word] += int(count)
    return counts
