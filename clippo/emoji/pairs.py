"""The emoji data set as (image, text) pairs: a fresh text, and language, each time a picture is read."""

import copy
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from PIL import Image as PILImage

from clippo.data.samples import draw_several
from clippo.data.sampling import KeyedDataset, SampleKey, as_key


class EmojiPairs(KeyedDataset):
    """The emoji data set (`scripts/build_emoji_dataset.py`) as pairs of one picture and one of its texts.

    With `sampling` an item is a picture, read with a language and text drawn at random: each picture comes once an
    epoch, so no batch holds a picture twice and no text's own picture counts as its negative. Without, an item is a
    fixed (picture, language) row with its name, for validation.

    Args:
        folder: where `pictures.parquet` and `annotations.parquet` are.
        split: "train" or "held_out" pairs.
        languages: CLDR codes to take texts from; None takes all. `set_languages` changes it later.
        sampling: draw texts at random (see above).
        p_name: probability of the name; otherwise the text is made of keywords, if there are any.
        p_join: probability that a keyword text joins two or three keywords by a space.
        max_sharing: keywords that this split's pictures share more often than this in one language are not drawn
            ("flag" fits 254 pictures); None draws all. In a batch the others that such a keyword fits would all count
            as wrong: without a limit an English text fits 24 pictures on average, with 32 it fits 3.
        texts_per_image: with `sampling`, texts drawn for each picture, in different languages where it has so many.
        anchor: with `sampling`, the language of the first text of every picture that has training texts in it. It
            keeps the pictures' places in the embedding space while languages are learnt that the model cannot read yet.

    Items: {"image": uint8 (S, S, 4) RGBA with straight alpha, "text": str, "language": str, "picture": int}, where
    `picture` is the index into `images`, `picture_ids` and `emoji`. With several texts an image, "text" and "language"
    are lists. With `sampling` also "seed", the key's, and "skipped", which is 0.
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
    ):
        if split not in ("train", "held_out"):
            raise ValueError(f'split must be "train" or "held_out", got {split!r}.')
        for label, value in (("p_name", p_name), ("p_join", p_join)):
            if not 0 <= value <= 1:
                raise ValueError(f"{label} is a probability, got {value}.")
        if max_sharing is not None and max_sharing < 1:
            raise ValueError(f"max_sharing is a number of pictures or None, got {max_sharing}.")
        self.texts_per_image, self.anchor = _positive(texts_per_image), anchor
        if anchor is not None and texts_per_image < 2 and (languages is None or set(languages) != {anchor}):
            raise ValueError(
                f"anchor={anchor!r} takes one text of each image; with it, texts_per_image must be 2 or more."
            )
        folder = Path(folder)
        for file in ("pictures.parquet", "annotations.parquet"):
            if not (folder / file).is_file():
                raise FileNotFoundError(f"No {file} in {folder}: build it with scripts/build_emoji_dataset.py.")
        self.split, self.sampling, self.p_name, self.p_join = split, sampling, p_name, p_join

        pictures = parquet.read_table(folder / "pictures.parquet")
        self.picture_ids: list[str] = pictures["id"].to_pylist()
        self.emoji: list[str] = pictures["emoji"].to_pylist()
        # Decoded once: an epoch lasts seconds, decoding the PNGs again would be most of it.
        self.images = np.stack([_decode(cell["bytes"]) for cell in pictures["image"].to_pylist()])  # (P, S, S, 4)

        index = {picture_id: i for i, picture_id in enumerate(self.picture_ids)}
        columns = ("id", "language", "script", "name", "keywords", "split")
        table = parquet.read_table(folder / "annotations.parquet", columns=list(columns))
        self.scripts: dict[str, str] = {}  # language -> script
        self._rows: list[tuple[int, str, str, list[str]]] = []  # picture, language, name, keywords
        for values in zip(*(table[column].to_pylist() for column in columns), strict=True):
            picture_id, language, script, name, keywords, row_split = values
            self.scripts[language] = script
            if row_split == split:
                self._rows.append((index[picture_id], language, name, keywords))
        if max_sharing is not None:
            fits = Counter((language, word) for _, language, _, keywords in self._rows for word in keywords)
            self._rows = [
                (picture, language, name, [word for word in keywords if fits[language, word] <= max_sharing])
                for picture, language, name, keywords in self._rows
            ]
        self.set_languages(languages)

    def set_languages(self, languages: Sequence[str] | None) -> None:
        """Takes texts from these languages from now on (a curriculum grows them); changes the length.

        Call it before the data loader starts an epoch: workers that already run keep the copy they were given.
        """
        if languages is not None:
            unknown = sorted(set(languages) - set(self.scripts))
            if unknown:
                raise ValueError(f"No texts in {', '.join(unknown)}; there are {', '.join(sorted(self.scripts))}.")
        self.languages = sorted(set(self.scripts if languages is None else languages))
        if self.anchor is not None and self.anchor not in self.languages:
            raise ValueError(f"The anchor {self.anchor!r} is not among the languages {', '.join(self.languages)}.")
        chosen = set(self.languages)
        rows = [row for row in self._rows if row[1] in chosen]
        if not rows:
            raise ValueError(f"No {self.split} pairs in {', '.join(self.languages)}.")
        if self.sampling:
            by_picture: dict[int, list] = {}
            for row in rows:
                by_picture.setdefault(row[0], []).append(row)
            # Pictures all of whose pairs in these languages are in the other split have nothing to offer here.
            self._items = [by_picture[picture] for picture in sorted(by_picture)]
        else:
            self._items = [[row] for row in rows]

    def one_per_picture(self) -> "EmojiPairs":
        """The fixed rows thinned to one a picture, languages in turn: ranking their texts is ranking over all pictures.

        A new data set that shares the pictures. Raises `ValueError` with `sampling`: that has one item a picture.
        """
        if self.sampling:
            raise ValueError("one_per_picture() thins fixed rows: make the data set with sampling=False.")
        by_picture: dict[int, list] = {}
        for rows in self._items:
            by_picture.setdefault(rows[0][0], []).extend(rows)
        thinned = copy.copy(self)
        thinned._items = [[rows[picture % len(rows)]] for picture, rows in sorted(by_picture.items())]
        return thinned

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, key: SampleKey | int) -> dict:
        if not self.sampling:
            ((picture, language, name, _),) = self._items[key]
            return {"image": self.images[picture], "text": name, "language": language, "picture": picture}
        draw = as_key(key)
        generator = draw.generator()
        drawn = self._draw_rows(self._items[draw.row], generator)
        texts = [self._draw_text(name, keywords, generator) for _, _, name, keywords in drawn]
        languages = [language for _, language, _, _ in drawn]
        picture = drawn[0][0]
        if len(drawn) == 1:
            texts, languages = texts[0], languages[0]
        item = {"image": self.images[picture], "text": texts, "language": languages, "picture": picture}
        return {**item, "seed": draw.seed, "skipped": 0}

    def _draw_rows(self, rows: list, generator: np.random.Generator) -> list:
        first = [row for row in rows if row[1] == self.anchor]
        rest = [row for row in rows if row[1] != self.anchor]
        if not first or not rest:  # no anchor here, or nothing else
            first, rest = [], rows
        wanted = self.texts_per_image - len(first)
        return first + [rest[i] for i in draw_several(len(rest), wanted, generator)]

    def _draw_text(self, name: str, keywords: list[str], generator: np.random.Generator) -> str:
        if not keywords or generator.random() < self.p_name:
            return name
        count = 1
        if self.p_join and generator.random() < self.p_join:
            count = min(len(keywords), 2 + int(generator.integers(2)))
        return " ".join(keywords[i] for i in draw_several(len(keywords), count, generator))


def _positive(texts_per_image: int) -> int:
    if texts_per_image < 1:
        raise ValueError(f"texts_per_image is a positive number, got {texts_per_image}.")
    return texts_per_image


def _decode(png: bytes) -> np.ndarray:
    with PILImage.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGBA"))
