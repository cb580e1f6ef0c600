"""WordNet in miniature: two words of each part of speech."""

from pathlib import Path

LINE = '{offset} 03 n 02 {word} 0 {word}_house 0 000 | definition of {word}; "a {word} in the street"  '
WORDS = {"noun": ("dog", "cat"), "verb": ("run", "slice"), "adj": ("red", "tall"), "adv": ("slowly", "well")}
NUMBERS = {"noun": 1, "verb": 2, "adj": 3, "adv": 4}


def write_wordnet(folder: Path) -> Path:
    """Write the data files and the counts of `WORDS`."""
    folder.mkdir()
    counts = []
    for name, words in WORDS.items():
        lines = ["  1 This is a licence", *(LINE.format(offset=i, word=word) for i, word in enumerate(words))]
        (folder / f"data.{name}").write_text("\n".join(lines) + "\n", encoding="latin-1")
        counts += [f"{word}%{NUMBERS[name]}:00:00:: 1 {i + 1}" for i, word in enumerate(words)]
    (folder / "cntlist.rev").write_text("\n".join(counts) + "\n", encoding="latin-1")
    return folder
