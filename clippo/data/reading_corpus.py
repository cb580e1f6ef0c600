"""Texts from which a reader learns a sentence encoder's vectors: the command `clippo build sentences`.

No text needs a label, because the encoder (the teacher) gives a vector to each. A row has a text and its target, the
English text whose vector the reader should give. They are equal for English; a translation has the English sentence as
target. The rows are

    sentence      sentences of documents
    definition    WordNet's definitions, and its example sentences
    word          words of the sentences, WordNet's words and compounds
    phrase        random runs of words of the sentences
    swapped       sentences in which some words are replaced by words of other sentences
    grammar       simple sentences of WordNet's words
    translation   sentences of other languages

A share of the English sentences that have translations is held out: they and their translations are in no row.
"""

import argparse
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as parquet

from clippo.data.sentences import clean_sentence, sentence_spans
from clippo.data.simple_sentences import SimpleSentences
from clippo.data.sources import load_rows
from clippo.data.wordnet import read_synsets

HELD_OUT_COLUMNS = ("lang", "sentence", "english")
# Tokenized text of wikitext -> running text, in order.
DETOKENIZED = (
    (re.compile(r" @([-,.])@ "), r"\1"),
    (re.compile(r" ([,.;:!?)\]%]|'(?:s|t|re|ve|ll|d|m)\b|n't\b)"), r"\1"),
    (re.compile(r"([(\[$]) "), r"\1"),
    (re.compile(r'" ([^"]*?) "'), r'"\1"'),
)
LANGUAGE_COLUMN = re.compile(r"[a-z]{2,3}([-_][A-Za-z0-9]+)*")  # of tables with a column for each language
EDGES = ",.;:!?\"'()[]“”‘’«»—-*_"


class ReadingRow(NamedTuple):
    """A text and the English text whose vector is its target."""

    text: str
    target: str
    kind: str
    language: str = "eng"


@dataclass
class CorpusOptions:
    """Options of a corpus.

    Args:
        min_chars, max_chars: Shortest and longest sentence.
        phrases: Phrases cut from each sentence.
        swaps: Sentences with swapped words made of each sentence.
        grammar: Number of sentences of the grammar.
        held_out: Share of the English sentences with translations that is held out.
        seed: Seed; the same inputs and seed give the same rows.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> CorpusOptions(phrases=1).max_chars
        200
    """

    min_chars: int = 8
    max_chars: int = 200
    phrases: int = 3
    swaps: int = 1
    grammar: int = 200_000
    held_out: float = 0.3
    seed: int = 0

    def __post_init__(self):
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out={self.held_out} is not a share; give a number from 0 to below 1.")
        if min(self.phrases, self.swaps, self.grammar) < 0 or not 1 <= self.min_chars <= self.max_chars:
            raise ValueError(
                f"phrases={self.phrases}, swaps={self.swaps}, grammar={self.grammar}, min_chars={self.min_chars}, "
                f"max_chars={self.max_chars}: counts must not be negative, and the lengths a rising range from 1."
            )


@dataclass
class CorpusFiles:
    """Inputs of a corpus.

    Args:
        documents: Files of running text, as for `load_rows`.
        text_columns: Columns of documents; each file is read for those it has.
        translations: Files of sentences beside their English translation: columns lang, sentence, english, or a
            column of English and one column for each language, whose name is a language code, such as de or zho_CN.
        english_column: Name of the column of English where each language has a column.
        wordnet: Folder of WordNet's data files.
        exclude: Files of texts that must not be in the corpus, such as test sets; all columns of strings count.

    Example:
        >>> CorpusFiles(documents=["data/books/train.parquet"]).text_columns
        ['text']
    """

    documents: list[str] = field(default_factory=list)
    text_columns: list[str] = field(default_factory=lambda: ["text"])
    translations: list[str] = field(default_factory=list)
    english_column: str = "eng"
    wordnet: str | None = None
    exclude: list[str] = field(default_factory=list)


def detokenize(text: str) -> str:
    """Running text from text whose words and marks are separated by spaces.

    Example:
        >>> detokenize('It has 1 @,@ 200 well @-@ known parts , " he said " .')
        'It has 1,200 well-known parts, "he said".'
    """
    for pattern, replacement in DETOKENIZED:
        text = pattern.sub(replacement, text)
    return text


def document_sentences(files: CorpusFiles, options: CorpusOptions) -> Iterator[str]:
    """Yield the sentences of the documents that have a usable length and no unknown word."""
    for file in files.documents:
        rows = load_rows(file)
        columns = [name for name in files.text_columns if name in rows.column_names]
        if not columns:
            raise ValueError(
                f"{file} has none of the columns {', '.join(files.text_columns)}; it has "
                f"{', '.join(rows.column_names)}. Name others with --text_columns."
            )
        for column in columns:
            for document in rows[column]:
                for start, end in sentence_spans(document or ""):
                    sentence = detokenize(clean_sentence(document[start:end]))
                    if options.min_chars <= len(sentence) <= options.max_chars and "<unk>" not in sentence:
                        yield sentence


def read_translations(files: CorpusFiles) -> Iterator[tuple[str, str, str]]:
    """Yield (language, sentence, English sentence) of all files of translations."""
    for file in files.translations:
        rows = load_rows(file)
        if set(HELD_OUT_COLUMNS) <= set(rows.column_names):
            yield from zip(*(rows[name] for name in HELD_OUT_COLUMNS), strict=True)
            continue
        if files.english_column not in rows.column_names:
            raise ValueError(
                f"{file} has neither the columns {', '.join(HELD_OUT_COLUMNS)} nor {files.english_column}; it has "
                f"{', '.join(rows.column_names)}. Name the English one with --english_column."
            )
        english = rows[files.english_column]
        for language in filter(LANGUAGE_COLUMN.fullmatch, rows.column_names):  # not `document` or `image_id`
            if language != files.english_column and rows.features[language].dtype == "string":
                yield from ((language, own, other) for own, other in zip(rows[language], english, strict=True) if own)


def is_held_out(english: str, share: float) -> bool:
    """Decide by the hash of a sentence, so that every corpus of any inputs holds out the same ones."""
    return int(hashlib.sha256(english.encode()).hexdigest()[:8], 16) < share * 16**8


def cut_phrase(words: Sequence[str], draw: random.Random) -> str:
    """Random run of words, shorter ones more often; marks at its ends and capitals are removed from half of them."""
    length = min(1 + int(draw.expovariate(0.25)), len(words))
    start = draw.randrange(len(words) - length + 1)
    phrase = " ".join(words[start : start + length])
    if draw.random() < 0.5:
        phrase = phrase.strip(EDGES)
    return phrase.lower() if draw.random() < 0.5 else phrase


def swap_words(words: Sequence[str], others: Sequence[str], draw: random.Random) -> str:
    """Sentence in which each longer word is replaced with probability 1/4 by one of `others`."""
    return " ".join(draw.choice(others) if len(word) > 3 and draw.random() < 0.25 else word for word in words)


def _spelled_words(sentences: Iterable[str]) -> Counter:
    return Counter(word for sentence in sentences for word in re.findall(r"[^\W\d_][\w'’-]*[^\W_]", sentence))


def expand(sentences: Sequence[str], options: CorpusOptions) -> Iterator[ReadingRow]:
    """Yield words, phrases and swapped sentences made of sentences.

    Args:
        sentences: English sentences.
        options: Options of the corpus.
    """
    counts = _spelled_words(sentences)
    yield from (ReadingRow(word, word, "word") for word, count in counts.items() if count > 1)
    others = [word for word in counts.elements() if len(word) > 3]  # as frequent as in the text
    for number, sentence in enumerate(sentences):
        draw, words = random.Random(f"{options.seed} {number}"), sentence.split()
        for _ in range(options.phrases if len(words) > 3 else 0):
            phrase = cut_phrase(words, draw)
            if phrase:
                yield ReadingRow(phrase, phrase, "phrase")
        for _ in range(options.swaps if others else 0):
            swapped = swap_words(words, others, draw)
            yield ReadingRow(swapped, swapped, "swapped")


def wordnet_rows(folder: str | Path) -> Iterator[ReadingRow]:
    """Yield WordNet's definitions, examples and words."""
    for synset in read_synsets(folder):
        for kind, texts in (("definition", (synset.definition, *synset.examples)), ("word", synset.lemmas)):
            yield from (ReadingRow(text, text, kind) for text in texts if text)


def collect(files: CorpusFiles, options: CorpusOptions) -> tuple[list[ReadingRow], list[tuple[str, str, str]]]:
    """Read the inputs: sentences, WordNet, translations.

    Returns:
        Rows without repetitions, and the held-out translations (language, sentence, English sentence).
    """
    rows, held_out, kept_away = [], [], set()
    for language, sentence, english in read_translations(files):
        if is_held_out(english, options.held_out):
            held_out.append((language, sentence, english))
            kept_away |= {sentence, english}
        else:
            rows.append(ReadingRow(sentence, english, "translation", language))
            rows.append(ReadingRow(english, english, "sentence"))
    rows += (ReadingRow(text, text, "sentence") for text in document_sentences(files, options))
    if files.wordnet:
        rows += wordnet_rows(files.wordnet)
    for file in files.exclude:
        table = load_rows(file)
        for column, feature in table.features.items():
            kept_away |= set(table[column]) if getattr(feature, "dtype", None) == "string" else set()
    return [row for row in dict.fromkeys(rows) if row.text not in kept_away and row.target not in kept_away], held_out


def build_corpus(files: CorpusFiles, options: CorpusOptions, output_dir: str | Path) -> dict:
    """Write a parquet file for each kind of rows, such as phrase.parquet, held_out.parquet and corpus.json.

    Args:
        files: Inputs.
        options: Options.
        output_dir: Folder to write.

    Returns:
        The content of corpus.json: the options, the number of rows of each kind and language, the hash of the rows.

    Raises:
        FileNotFoundError: A file is missing.
        ValueError: A file lacks its columns, or there is no text.
    """
    rows, held_out = collect(files, options)
    sentences = [row.text for row in rows if row.kind == "sentence"]
    rows += expand(sentences, options)
    if files.wordnet:
        made = SimpleSentences.from_wordnet(files.wordnet, options.seed)
        rows += (ReadingRow(text, text, "grammar") for text in islice(made, options.grammar))
    rows = list({(row.text, row.target): row for row in reversed(rows)}.values())[::-1]
    if not rows:
        raise ValueError("There is no text; give --documents, --translations or --wordnet.")
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    kinds = Counter(row.kind for row in rows)
    hashes = [
        _write([row for row in rows if row.kind == kind], ReadingRow._fields, folder / f"{kind}.parquet")
        for kind in sorted(kinds)
    ]
    _write(held_out, HELD_OUT_COLUMNS, folder / "held_out.parquet")
    told = {
        "options": asdict(options),
        "kinds": dict(kinds.most_common()),
        "languages": len({row.language for row in rows}),
        "held_out": len(held_out),
        "sha256": hashlib.sha256("".join(hashes).encode()).hexdigest(),
    }
    (folder / "corpus.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return told


def _write(rows: Sequence[tuple], names: Sequence[str], path: Path) -> str:
    """Write rows as a table of strings, and return the hash of their content."""
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    table = pa.table({name: pa.array(column, pa.string()) for name, column in zip(names, columns, strict=True)})
    parquet.write_table(table, path, compression="zstd")
    state = hashlib.sha256()
    for row in rows:
        state.update(("\x1f".join(row) + "\x1e").encode("utf-8", "surrogatepass"))
    return state.hexdigest()


def main(argv: Sequence[str] | None = None) -> None:
    """Build a corpus from the command line.

    Raises:
        SystemExit: An input is missing or wrong.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--documents", nargs="*", default=[], help="Files of running English text.")
    add("--text_columns", nargs="+", default=["text"], help="Columns of texts of the documents.")
    add("--translations", nargs="*", default=[], help="Files of sentences beside their English translation.")
    add("--english_column", default="eng", help="Column of English where each language has a column.")
    add("--wordnet", help="Folder of WordNet's data files (data.noun, ...; Debian: /usr/share/wordnet).")
    add("--exclude", nargs="*", default=[], help="Files of texts that must not be in the corpus, such as test sets.")
    add("--output_dir", default="data/sentences", help="Folder for the parquet files and corpus.json.")
    add("--phrases", type=int, default=3, help="Phrases cut from each sentence.")
    add("--swaps", type=int, default=1, help="Sentences with swapped words made of each sentence.")
    add("--grammar", type=int, default=200_000, help="Sentences of the grammar.")
    add("--held_out", type=float, default=0.3, help="Share of the English sentences with translations to hold out.")
    add("--min_chars", type=int, default=8, help="Shortest sentence of a document.")
    add("--max_chars", type=int, default=200, help="Longest sentence of a document.")
    add("--seed", type=int, default=0, help="Seed; the same inputs and seed give the same rows.")
    given = vars(parser.parse_args(argv))
    output_dir = given.pop("output_dir")
    files = CorpusFiles(**{name: given.pop(name) for name in CorpusFiles.__dataclass_fields__})
    try:
        print(json.dumps(build_corpus(files, CorpusOptions(**given), output_dir), indent=2))
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
