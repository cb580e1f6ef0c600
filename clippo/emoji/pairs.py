"""The emoji data set as (image, text) pairs, with a new text and language each time an image is read."""

import copy
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as parquet

from clippo.data.samples import draw_several, read_image
from clippo.data.sampling import KeyedDataset, KeyedSampler, SampleKey, as_key
from clippo.emoji.growth import GrowingKeys, Growth

EVERY = "*"  # in a list of languages: all others
FILES = ("pictures.parquet", "annotations.parquet")


class EmojiRow(NamedTuple):
    """Texts of one image in one language; `picture` is the row of the image."""

    picture: int
    language: str
    name: str
    keywords: list[str]


class EmojiPairs(KeyedDataset):
    """The emoji data set as pairs of an image and one of its texts.

    With `sampling` an item is an image with a random language and text. Each image comes once an epoch, so no batch
    holds an image twice, and no text of an image counts as its negative. Without, an item is a fixed (image, language)
    row with its name, for validation.

    Args:
        folder: Folder that `clippo build emoji` wrote.
        split: "train" or "held_out" pairs.
        languages: CLDR codes of the languages of the texts, all by default. "*" stands for all that are not listed.
            `set_languages` changes it later.
        sampling: Draw texts at random.
        p_name: Probability that a text is the name; otherwise it consists of keywords, if there are any.
        p_join: Probability that a text of keywords joins two or three of them by a space.
        max_sharing: Most images of the split that a drawn keyword may belong to in one language; None sets no limit.
            "flag" belongs to 254 images, and the others in a batch would count as wrong. Without a limit an English
            text fits 24 images on average, with 32 it fits 3.
        texts_per_image: Texts drawn for each image, in different languages as far as it has them.
        anchor: Language of the first text of every image that has one in it. It keeps the places of the images in the
            embedding space while the model learns other languages.
        grow: Two numbers of batches, between which the languages join one after another, see `Growth`. The anchor
            comes first, then the order of `languages`; those that are not listed follow by their number of texts.
        balance: How much more often languages are drawn whose script few others have. A language has the weight
            n ** -balance, n being the languages of its script: 0 draws all alike, 1 draws all scripts alike. 67
            languages are Latin and teach each other words; Hangul has one.

    Returns:
        Items {"image": uint8 (S, S, 4), RGBA with straight alpha, "text", "language", "picture"}; "picture" is the
        index in `images`, `picture_ids` and `emoji`. "text" and "language" are lists when an image has several texts.
        With `sampling` also "seed", the seed of the key, and "skipped", which is 0.

    Raises:
        FileNotFoundError: The folder does not hold the data set.
        ValueError: An option is out of range, or nothing is left to read.

    Example:
        >>> from pathlib import Path
        >>> from clippo.emoji import EmojiPairs
        >>> if Path("data/emoji").is_dir():
        ...     pairs = EmojiPairs("data/emoji", languages=["en"])
        ...     assert pairs[0]["image"].shape == (136, 136, 4)
    """

    def __init__(
        self,
        folder: str | Path,
        split: str = "train",
        languages: Sequence[str] | None = None,
        sampling: bool = True,
        p_name: float = 0.5,
        p_join: float = 0.0,
        max_sharing: int | None = 32,
        texts_per_image: int = 1,
        anchor: str | None = None,
        grow: Sequence[int] | None = None,
        balance: float = 0.0,
    ):
        self.balance = balance
        self.grow = None if grow is None else Growth.of(grow)
        self.split, self.sampling, self.p_name, self.p_join = split, sampling, p_name, p_join
        self.texts_per_image, self.anchor = texts_per_image, anchor
        self._check(languages, max_sharing)
        self.folder = Path(folder)
        check_folder(self.folder)
        pictures = parquet.read_table(self.folder / FILES[0])
        self.picture_ids: list[str] = pictures["id"].to_pylist()
        self.emoji: list[str] = pictures["emoji"].to_pylist()
        # Decoded once: an epoch takes seconds, and decoding the PNGs again would be most of it.
        cells = pictures["image"].to_pylist()
        self.images = np.stack([np.asarray(read_image(cell).convert("RGBA")) for cell in cells])  # (P, S, S, 4)
        self.scripts: dict[str, str] = {}  # language -> script
        self._rows = _without_shared(self._read_rows(Path(folder) / FILES[1]), max_sharing)
        self.set_languages(languages)

    def _check(self, languages: Sequence[str] | None, max_sharing: int | None) -> None:
        if self.split not in ("train", "held_out"):
            raise ValueError(f'split must be "train" or "held_out", got {self.split!r}.')
        for label, value in (("p_name", self.p_name), ("p_join", self.p_join)):
            if not 0 <= value <= 1:
                raise ValueError(f"{label} is a probability, got {value}; give a number from 0 to 1.")
        if not 0 <= self.balance <= 1:
            raise ValueError(f"balance={self.balance} is out of range; give a number from 0 to 1.")
        if max_sharing is not None and max_sharing < 1:
            raise ValueError(f"max_sharing is a number of images or None, got {max_sharing}.")
        if self.texts_per_image < 1:
            raise ValueError(f"texts_per_image must be a positive number, got {self.texts_per_image}.")
        alone = languages is not None and set(languages) == {self.anchor}
        if self.anchor is not None and self.texts_per_image < 2 and not alone:
            raise ValueError(
                f"anchor={self.anchor!r} takes one text of each image; with it, texts_per_image must be 2 or more."
            )

    def _read_rows(self, file: Path) -> list[EmojiRow]:
        """Rows of the split; also fills `scripts`."""
        index = {picture_id: i for i, picture_id in enumerate(self.picture_ids)}
        columns = ("id", "language", "script", "name", "keywords", "split")
        table = parquet.read_table(file, columns=list(columns))
        rows = []
        for values in zip(*(table[column].to_pylist() for column in columns), strict=True):
            picture_id, language, script, name, keywords, split = values
            self.scripts[language] = script
            if split == self.split:
                rows.append(EmojiRow(index[picture_id], language, name, keywords))
        return rows

    def set_languages(self, languages: Sequence[str] | None) -> None:
        """Choose the languages of the texts; the length changes with them.

        Call it before the data loader starts an epoch: workers that already run keep their copy.

        Args:
            languages: CLDR codes, "*" for all that are not listed; None takes all.

        Raises:
            ValueError: A language has no texts, or the anchor is not among them.
        """
        if languages is not None and EVERY in languages:
            others = [language for language in self._by_texts() if language not in languages]
            languages = [other for code in languages for other in (others if code == EVERY else [code])]
        if languages is not None:
            unknown = sorted(set(languages) - set(self.scripts))
            if unknown:
                raise ValueError(f"No texts in {', '.join(unknown)}; there are {', '.join(sorted(self.scripts))}.")
        self.languages = sorted(set(self.scripts if languages is None else languages))
        self._rank = self._ranks(languages)
        of_script = Counter(self.scripts[language] for language in self.languages)
        self._patience = {name: of_script[self.scripts[name]] ** self.balance for name in self.languages}
        if self.anchor is not None and self.anchor not in self.languages:
            raise ValueError(f"The anchor {self.anchor!r} is not among the languages {', '.join(self.languages)}.")
        self._offers: tuple[int, dict[int, tuple[list[EmojiRow], list[EmojiRow]]]] | None = None
        chosen = set(self.languages)
        rows = [row for row in self._rows if row.language in chosen]
        if not rows:
            raise ValueError(f"No {self.split} pairs in {', '.join(self.languages)}.")
        if self.sampling:
            by_picture: dict[int, list[EmojiRow]] = {}
            for row in rows:
                by_picture.setdefault(row.picture, []).append(row)
            # Images whose pairs in these languages are all in the other split are left out.
            self._items = [by_picture[picture] for picture in sorted(by_picture)]
        else:
            self._items = [[row] for row in rows]

    def _by_texts(self) -> list[str]:
        """All languages, the one with the most texts first."""
        texts = Counter()
        for row in self._rows:
            texts[row.language] += 1 + len(row.keywords)
        return sorted(self.scripts, key=lambda language: (-texts[language], language))

    def _ranks(self, languages: Sequence[str] | None) -> dict[str, int]:
        """Place of each language in the order in which they join."""
        listed = dict.fromkeys(self._by_texts() if languages is None else languages)
        in_order = sorted(listed, key=lambda language: language != self.anchor)
        return {language: place for place, language in enumerate(in_order)}

    def train_sampler(self, batch_size: int, seed: int, processes: int = 1) -> KeyedSampler:
        """Order of a training run. The keys of a growing set of languages name the number of languages.

        Args:
            batch_size: Batch size of one process.
            seed: Seed of the run.
            processes: Number of processes that share the batches.
        """
        if self.grow is None:
            return super().train_sampler(batch_size, seed, processes)
        return GrowingKeys(len(self), batch_size, seed, processes, growth=self.grow, total=len(self.languages))

    def one_per_picture(self) -> "EmojiPairs":
        """New data set with one fixed row for each image, languages in turn, so that metrics rank over all images.

        Raises:
            ValueError: The data set was made with `sampling`, which has one item for each image.
        """
        if self.sampling:
            raise ValueError("one_per_picture() thins fixed rows: make the data set with sampling=False.")
        by_picture: dict[int, list[EmojiRow]] = {}
        for rows in self._items:
            by_picture.setdefault(rows[0].picture, []).extend(rows)
        thinned = copy.copy(self)
        thinned._items = [[rows[picture % len(rows)]] for picture, rows in sorted(by_picture.items())]
        return thinned

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, key: SampleKey | int) -> dict:
        if not self.sampling:
            (row,) = self._items[key]
            return {
                "image": self.images[row.picture],
                "text": row.name,
                "language": row.language,
                "picture": row.picture,
            }
        key = as_key(key)
        generator = key.generator()
        drawn = self._draw_rows(key, generator)
        texts = [self._draw_text(row, generator) for row in drawn]
        languages = [row.language for row in drawn]
        picture = drawn[0].picture
        if len(drawn) == 1:
            texts, languages = texts[0], languages[0]
        item = {"image": self.images[picture], "text": texts, "language": languages, "picture": picture}
        return {**item, "seed": key.seed, "skipped": 0}

    def _draw_rows(self, key: SampleKey, generator: np.random.Generator) -> list[EmojiRow]:
        first, rest = self._offered(key)
        wanted = self.texts_per_image - len(first)
        if not self.balance:
            return first + [rest[i] for i in draw_several(len(rest), wanted, generator)]
        patience = np.array([self._patience[row.language] for row in rest])
        drawn: list[int] = []
        while len(drawn) < wanted:
            # Clocks that ring at exponential times: the order of their first rings is a draw by weights.
            order = np.argsort(generator.standard_exponential(len(rest)) * patience)
            drawn += order[: wanted - len(drawn)].tolist()
        return first + [rest[i] for i in drawn]

    def _offered(self, key: SampleKey) -> tuple[list[EmojiRow], list[EmojiRow]]:
        """Rows of an image that are always taken, which is that of the anchor, and rows to draw from.

        A growing set of languages offers those that have joined, or the first that will join, if there is none yet.
        """
        joined = key.source if self.grow is not None else 0
        if self._offers is None or self._offers[0] != joined:
            self._offers = joined, {}  # of one number of languages: a run does not come back to an earlier one
        offers = self._offers[1]
        if key.row not in offers:
            rows = self._items[key.row]
            if joined:
                taking_part = [row for row in rows if self._rank[row.language] < joined]
                rows = taking_part or [min(rows, key=lambda row: self._rank[row.language])]
            first = [row for row in rows if row.language == self.anchor]
            rest = [row for row in rows if row.language != self.anchor]
            offers[key.row] = (first, rest) if first and rest else ([], rows)  # no anchor here, or nothing else
        return offers[key.row]

    def _draw_text(self, row: EmojiRow, generator: np.random.Generator) -> str:
        keywords = row.keywords
        if not keywords or generator.random() < self.p_name:
            return row.name
        count = 1
        if self.p_join and generator.random() < self.p_join:
            count = min(len(keywords), 2 + int(generator.integers(2)))
        return " ".join(keywords[i] for i in draw_several(len(keywords), count, generator))


def check_folder(folder: Path) -> None:
    """Raise `FileNotFoundError` unless a folder holds the emoji data set.

    Args:
        folder: Folder that `clippo build emoji` wrote.
    """
    for file in FILES:
        if not (folder / file).is_file():
            raise FileNotFoundError(
                f"No {file} in {folder}: build it with `clippo build emoji` (scripts/build_emoji_dataset.py)."
            )


def _without_shared(rows: list[EmojiRow], max_sharing: int | None) -> list[EmojiRow]:
    """Rows without the keywords that more than `max_sharing` images share in their language."""
    if max_sharing is None:
        return rows
    fits = Counter((row.language, word) for row in rows for word in row.keywords)
    return [
        row._replace(keywords=[word for word in row.keywords if fits[row.language, word] <= max_sharing])
        for row in rows
    ]
