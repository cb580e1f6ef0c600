"""The emoji data set as tensors on a device, for models so small that a loader would be the slow part.

Pictures, views and canvases of all names are computed once. A batch is a few gathers.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import IterableDataset

from clippo.emoji.augmentation import RandomView
from clippo.emoji.pairs import EmojiPairs
from clippo.processing import TextRenderer

FIRST = ("en", "de", "es", "fr", "pt", "id", "ru", "ar", "hi", "zh", "ja", "ko")  # the order in which languages join


def draw_texts(texts: Sequence[str], size: int) -> tuple[torch.Tensor, np.ndarray]:
    """Renders texts on square canvases.

    Args:
        texts: B texts.
        size: Side of a canvas in pixels.

    Returns:
        Packed canvases of all texts, and bool (B,): the whole text is on its canvas.
    """
    renderer = TextRenderer(canvas_size=size)
    parts = [renderer(texts[i : i + 4096], format="packed") for i in range(0, len(texts), 4096)]
    fits = np.concatenate([part.chars_cut == 0 for part in parts])
    return torch.cat([torch.from_numpy(part.canvases) for part in parts]), fits


class EmojiTables:
    """Names of pictures in several languages, with pictures, views and canvases on a device.

    Args:
        folder: Folder that `clippo build emoji` wrote.
        languages: CLDR codes of the languages; None means all.
        size: Side of pictures and canvases in pixels.
        pictures: Number of pictures, drawn with a fixed seed; None means all.
        views: Augmented views of each picture. 0 uses the plain picture alone.
        device: Device of the tensors.

    Attributes:
        rows: (picture, language, text) of the trained names, then of the held-out ones.
        split: Number of trained names.
        scripts: Language -> script.
        pictures: Numbers of the P pictures in the data set.
        canvases: Packed canvases of all names.
        views: uint8 (views, P, 3, size, size).
        plain: uint8 (P, 3, size, size), pictures without augmentation.

    Raises:
        FileNotFoundError: The folder does not hold the data set.

    Example:
        >>> from pathlib import Path
        >>> from clippo.emoji.device_tables import EmojiTables
        >>> if Path("data/emoji").is_dir():
        ...     tables = EmojiTables("data/emoji", ["en", "de"], size=64, pictures=10, views=0)
        ...     assert tables.views.shape == (1, 10, 3, 64, 64)
    """

    def __init__(
        self,
        folder: str | Path,
        languages: Sequence[str] | None,
        size: int,
        pictures: int | None = None,
        views: int = 0,
        device: torch.device | str = "cpu",
    ):
        train = EmojiPairs(folder, "train", languages, sampling=False)
        held_out = EmojiPairs(folder, "held_out", languages, sampling=False)
        self.device, self.scripts = torch.device(device), train.scripts
        chosen = set(np.random.default_rng(0).permutation(len(train.images))[:pictures].tolist())
        trained, kept = (
            [(item["picture"], item["language"], item["text"]) for item in pairs if item["picture"] in chosen]
            for pairs in (train, held_out)
        )
        self.rows, self.split = trained + kept, len(trained)
        self.canvases = draw_texts(self.texts, size)[0].to(device)
        self._sort_by_language()
        self._draw_views(train.images, size, views)

    @property
    def texts(self) -> list[str]:
        """Names, one for each row."""
        return [text for _, _, text in self.rows]

    def _sort_by_language(self) -> None:
        """Table (pictures, most texts) of the training names of each picture, in the order in which languages join."""
        counts = defaultdict(int)
        for _, language, _ in self.rows[: self.split]:
            counts[language] += 1
        others = sorted(counts.keys() - set(FIRST), key=lambda code: (-counts[code], code))
        order = [code for code in FIRST if code in counts] + others
        rank = {code: i for i, code in enumerate(order)}
        members = defaultdict(list)
        for i, (picture, language, _) in enumerate(self.rows[: self.split]):
            members[picture].append((rank[language], i))
        self.languages, self.pictures = len(order), sorted(members)
        longest = max(map(len, members.values()))
        table = torch.full((len(members), longest, 2), len(order), dtype=torch.int64)
        for place, picture in enumerate(self.pictures):
            own = torch.tensor(sorted(members[picture]))
            table[place, : len(own)] = own
        self.ranks, self.of_picture = table[..., 0].to(self.device), table[..., 1].to(self.device)

    def _draw_views(self, images: np.ndarray, size: int, views: int) -> None:
        pixels = torch.from_numpy(images[self.pictures]).to(self.device)
        view = RandomView(size, dtype=torch.uint8)
        plain = RandomView(size, scale=(1.0, 1.0), shift=0.0, degrees=0.0, p_color=0.0, dtype=torch.uint8)

        def drawn(how, seed):
            return how.views(pixels, how.draw(range(seed * len(pixels), (seed + 1) * len(pixels))).to(self.device))

        self.plain = drawn(plain, 0)
        self.views = torch.stack([drawn(view, seed) for seed in range(views)] or [self.plain])  # (views, P, 3, S, S)


class TableBatches(IterableDataset):
    """Endless batches of pictures with K names each, of an image side and a text side.

    Batches depend on the seed alone, so models that are compared see the same ones. Languages join one after another,
    up to 5/8 of `steps`. With K > 1 the first name of a picture is in the first language that it has.

    Args:
        tables: Pictures and names.
        images: Rows of a batch.
        texts_per_image: K, names of each picture.
        steps: Steps of the run.
        seed: Seed of the draws.
        first_languages: Languages that take part up to 1/8 of `steps`.
        texts: Canvases or token ids of all names, `tables.canvases` by default.
        key: Name of the text side of a batch.
        text_pairs: Share of the rows whose first side is a text, too.
        sentences: Canvases of the two sides of such rows.

    Example:
        >>> from pathlib import Path
        >>> from clippo.emoji.device_tables import EmojiTables, TableBatches
        >>> if Path("data/emoji").is_dir():
        ...     tables = EmojiTables("data/emoji", ["en", "de"], size=64, pictures=10)
        ...     batch = next(iter(TableBatches(tables, images=8, texts_per_image=2, steps=100)))
        ...     assert len(batch["pixel_values"]) == 8 and len(batch["text_pixel_values"]) == 16
    """

    def __init__(
        self,
        tables: EmojiTables,
        images: int,
        texts_per_image: int,
        steps: int,
        seed: int = 0,
        first_languages: int = 12,
        texts: torch.Tensor | None = None,
        key: str = "text_pixel_values",
        text_pairs: float = 0.0,
        sentences: Sequence[torch.Tensor] | None = None,
    ):
        self.tables, self.images, self.texts_per_image, self.steps = tables, images, texts_per_image, steps
        self.seed, self.first_languages, self.key = seed, min(first_languages, tables.languages), key
        self.texts = tables.canvases if texts is None else texts
        self.pairs, self.sentences = int(images * text_pairs), sentences

    def __iter__(self) -> Iterator[dict]:
        tables, count, pairs = self.tables, self.texts_per_image, self.pairs
        # A generator of its own for sentences, so that every share of text pairs draws the same pictures.
        names, sentences = (torch.Generator(tables.device).manual_seed(self.seed + i) for i in (0, 1_000))

        def draw(*shape, generator=names):
            return torch.rand(*shape, device=tables.device, generator=generator)

        for step in itertools.count():
            times = [self.steps / 8, self.steps * 5 / 8]
            joined = np.interp(step, times, [self.first_languages, tables.languages])
            chosen = draw(len(tables.pictures)).argsort()[: self.images]  # places of the pictures
            known = (tables.ranks[chosen] < int(joined)).sum(1, keepdim=True).clamp_min(1)  # (B, 1)
            others = (draw(self.images, count) * known).long().minimum(known - 1)
            if count > 1:
                others[:, 0] = 0
            texts = tables.of_picture[chosen].gather(1, others)[pairs:]  # (B - pairs, K)
            view = (draw(self.images) * len(tables.views)).long()
            batch = {"pixel_values": tables.views[view[pairs:], chosen[pairs:]], "return_loss": True}
            sets = [self.texts[own] for own in texts.T]
            if pairs:
                left, right = self.sentences
                drawn = draw(len(left), generator=sentences).argsort()[:pairs]
                batch["first_" + self.key] = left[drawn]
                sets = [torch.cat([own, right[drawn]]) for own in sets]
            yield {**batch, self.key: torch.cat(sets)}
