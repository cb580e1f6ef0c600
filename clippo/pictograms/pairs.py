"""The pictogram data set as training items: a concept, one of its pictures, and texts in several languages."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet

from clippo.data.misspellings import vary
from clippo.data.samples import draw_several
from clippo.data.sampling import KeyedDataset, KeyedSampler, SampleKey, as_key, rows_per_batch
from clippo.emoji.growth import Growth
from clippo.pictograms.compact import open_bank
from clippo.pictograms.texts import ConceptTexts, read_texts

FILES = ("pictures.parquet", "annotations.parquet")
LINKED, OTHERS = 0, 1  # sources of keys: concepts with texts in many languages, and with English ones alone
P_PICTURE_TEXT = 0.6  # probability that an English text comes from the picture and not from CLDR
P_TYPOS, P_CASE = 0.1, 0.15  # share of the texts that are mistyped, and in another case


class PictogramPairs(KeyedDataset):
    """Training items of the pictogram data set. An item is a concept; its key draws a picture and texts.

    A batch never holds a concept twice, so no picture or text of a concept counts as its negative. Popular concepts
    have hundreds of pictures; each pass over the concepts draws another one.

    Args:
        folder: Folder that `clippo build pictograms` wrote, or its compact form.
        texts_per_image: Texts of each item. The first is English; the others are in different languages. A single text
            is English or in another language, equally often.
        linked_share: Share of a batch for concepts with texts in many languages.
        text_share: Share of those items that are texts alone: an English text against its translations.
        grow: Two numbers of batches between which the languages join English one after another; None: all at once.
        max_sharing: Most concepts that a drawn keyword may belong to in one language; None sets no limit.
        least_sets: Concepts with English words alone are left out if fewer sets draw them for training.

    Returns:
        Items {"image": uint8 (S, S, 4), RGBA with straight alpha, "picture": its number, "text": list of texts,
        "seed", "skipped": 0}, or {"first_text", "text", "skipped"}; with `with_concepts` also "concept", its number.

    Raises:
        FileNotFoundError: The folder does not hold the data set.
        ValueError: An option is out of range, or nothing is left to read.

    Example:
        >>> from pathlib import Path
        >>> from clippo.pictograms import PictogramPairs
        >>> if Path("data/pictograms").is_dir():
        ...     assert len(PictogramPairs("data/pictograms", texts_per_image=4)[0]["text"]) == 4
    """

    def __init__(
        self,
        folder: str | Path,
        texts_per_image: int = 4,
        linked_share: float = 0.6,
        text_share: float = 0.1,
        grow: Sequence[int] | None = None,
        max_sharing: int | None = 32,
        least_sets: int = 1,
    ):
        if texts_per_image < 1:
            raise ValueError(f"texts_per_image must be a positive number, got {texts_per_image}.")
        for label, value in (("linked_share", linked_share), ("text_share", text_share)):
            if not 0 <= value < 1:
                raise ValueError(f"{label} is a share from 0 to below 1, got {value}.")
        self.folder = Path(folder)
        check_folder(self.folder)
        self.texts_per_image, self.linked_share, self.text_share = texts_per_image, linked_share, text_share
        self.grow = None if grow is None else Growth.of(grow)
        texts, self.scripts = read_texts(self.folder, "train", max_sharing)
        self.languages = ["en", *(language for language in self.scripts if language != "en")]
        self._arrange(texts)
        self._read_pictures(least_sets)
        self.images = open_bank(self.folder)

    def _arrange(self, texts: dict[str, list[ConceptTexts]]) -> None:
        """English texts of each concept, and the others in the order in which the languages join."""
        place = {language: number for number, language in enumerate(self.languages)}
        self._english = {one: row for one, rows in texts.items() for row in rows if row.language == "en"}
        self._others, self._joins = {}, {}
        for concept, rows in texts.items():
            rows = sorted((row for row in rows if row.language != "en"), key=lambda row: place[row.language])
            self._others[concept], self._joins[concept] = rows, [place[row.language] for row in rows]

    def _read_pictures(self, least_sets: int) -> None:
        columns = ["id", "set", "words", "texts", "concept", "split"]
        table = parquet.read_table(self.folder / FILES[0], columns=columns).to_pydict()
        self.picture_ids: list[str] = table["id"]
        self._words: list[str] = table["words"]
        self._more: list[list[str]] = table["texts"]
        pictures: dict[str, list[int]] = {}
        for number, (concept, split) in enumerate(zip(table["concept"], table["split"], strict=True)):
            if split == "train":
                pictures.setdefault(concept, []).append(number)
        self._pictures = pictures
        linked = sorted(concept for concept in pictures if concept in self._others)
        others = sorted(set(pictures) - set(linked))
        others = [one for one in others if len({table["set"][i] for i in pictures[one]}) >= least_sets]
        self._concepts = [linked, others]
        if not linked:
            raise ValueError(f"{self.folder} has no training picture with texts in several languages.")

    def __len__(self) -> int:
        return sum(map(len, self._concepts))

    def train_sampler(self, batch_size: int, seed: int, processes: int = 1) -> KeyedSampler:
        """Order of a training run: concepts of both kinds by their shares.

        Args:
            batch_size: Batch size of one process.
            seed: Seed of the run.
            processes: Number of processes that share the batches.
        """
        lengths, names = [len(self._concepts[LINKED])], ["Concepts in many languages"]
        counts = [batch_size]
        if self._concepts[OTHERS] and self.linked_share:
            lengths.append(len(self._concepts[OTHERS]))
            names.append("Concepts in English alone")
            counts = rows_per_batch([self.linked_share, 1 - self.linked_share], names, batch_size)
        return PictogramKeys(lengths, counts, names, seed, processes, grow=self.grow, languages=len(self.languages))

    def __getitem__(self, key: SampleKey | int) -> dict:
        key = as_key(key)
        joined, kind = divmod(key.source, 2)
        concept = self._concepts[kind][key.row]
        generator = key.generator()
        choices = self._pictures[concept]
        number = choices[int(generator.integers(len(choices)))]
        as_text = generator.random() < self.text_share
        texts = self._draw_texts(concept, number, joined or len(self.languages), generator)
        texts = [vary(text, P_TYPOS, P_CASE, generator) for text in texts]
        named = {"concept": key.row + kind * len(self._concepts[LINKED])} if self.with_concepts else {}
        if as_text and kind == LINKED:
            first = self._draw_english(concept, number, 1, generator)[0]
            return {"first_text": first, "text": texts, "skipped": 0, **named}
        picture = self.images.picture(number) if self.with_images else None
        return {"image": picture, "picture": number, "text": texts, "seed": key.seed, "skipped": 0, **named}

    def concept_texts(self, languages: int = 5) -> list[list[str]]:
        """Texts of each concept, by its number: the name in English and some other languages, or the English words.

        Args:
            languages: Languages beside English, evenly spaced among those of the concept.
        """
        texts = []
        for concept in self._concepts[LINKED]:
            names = [row.name for row in self._others[concept]]
            chosen = names[:: max(1, -(-len(names) // languages))]
            english = self._english.get(concept)
            texts.append(([english.name] if english else []) + chosen)
        return texts + [[self._words[self._pictures[concept][0]]] for concept in self._concepts[OTHERS]]

    def pictures_of(self, concept: str) -> list[int]:
        """Numbers of the training pictures of a concept.

        Args:
            concept: Its identifier.
        """
        return self._pictures.get(concept, [])

    # Set by a run whose device holds the pictures: items then name them only.
    with_images = True
    # Set by a run with anchors: items then name their concept.
    with_concepts = False

    def _draw_texts(self, concept: str, number: int, joined: int, generator: np.random.Generator) -> list[str]:
        rows = self._others.get(concept, [])
        offered = bisect_left(self._joins[concept], joined) if rows else 0
        others = self.texts_per_image - 1 or int(generator.integers(2))
        chosen = draw_several(offered, others, generator) if offered else []
        english = self._draw_english(concept, number, self.texts_per_image - len(chosen), generator)
        return english + [draw_text(rows[i], generator) for i in chosen]

    def _draw_english(self, concept: str, number: int, count: int, generator: np.random.Generator) -> list[str]:
        """English texts: names and tags of the picture, or name and keywords of the character."""
        row, own = self._english.get(concept), [self._words[number], *self._more[number]]
        texts = []
        for from_picture, place in generator.random((count, 2)).tolist():
            if row is not None and from_picture >= P_PICTURE_TEXT:
                texts.append(draw_text(row, generator))
            else:  # the name half of the time
                place = int(2 * place * len(own)) - len(own)
                texts.append(own[max(0, place)])
        return texts


def draw_text(row: ConceptTexts, generator: np.random.Generator) -> str:
    """The name or a keyword, equally often.

    Args:
        row: Texts of a concept in one language.
        generator: Source of randomness.
    """
    if not row.keywords or generator.random() < 0.5:
        return row.name
    return row.keywords[int(generator.integers(len(row.keywords)))]


class PictogramKeys(KeyedSampler):
    """Keys of both kinds of concepts; `source` is the kind plus twice the number of languages of the batch.

    Args:
        lengths, counts, names, seed, processes: As for `KeyedSampler`.
        grow: When languages join, or None.
        languages: Number of all languages.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        counts: Sequence[int],
        names: Sequence[str],
        seed: int,
        processes: int = 1,
        *,
        grow: Growth | None = None,
        languages: int = 1,
    ):
        super().__init__(lengths, counts, names, seed, processes)
        self.grow, self.languages, self.keys_per_step = grow, languages, sum(counts) * processes

    def __iter__(self) -> Iterator[SampleKey]:
        for place, key in enumerate(super().__iter__(), self.epoch * len(self)):
            joined = self.languages
            if self.grow is not None:
                joined = self.grow.languages_at(place // self.keys_per_step, self.languages)
            yield key._replace(source=key.source + 2 * joined)


def check_folder(folder: Path) -> None:
    """Raise `FileNotFoundError` unless a folder holds the pictogram data set.

    Args:
        folder: Folder that `clippo build pictograms` wrote.
    """
    for file in FILES:
        if not (folder / file).is_file():
            raise FileNotFoundError(f"No {file} in {folder}: build it with `clippo build pictograms`.")
