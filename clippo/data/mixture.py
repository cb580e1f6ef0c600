"""Pairs from one or several sources, mixed in the same batch by exact shares.

The paper co-trains on images with their texts and on consecutive sentences (a share of every batch, one loss over all).
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import datasets
import numpy as np

from clippo.data.pictures import UnusableRow
from clippo.data.samples import image_text_item, sentence_pairs, text_text_item
from clippo.data.sampling import Draw, DrawSampler, KeyedDataset, as_draw, rows_per_batch
from clippo.data.sentences import RULES_VERSION
from clippo.data.sources import open_source
from clippo.data.specs import SourceSpec

logger = logging.getLogger(__name__)

MAX_IN_A_ROW = 100  # unusable rows after which a source is called broken instead of searched on
PAIR_FEATURES = datasets.Features({"first": datasets.Value("string"), "second": datasets.Value("string")})
_REPORTED: set[tuple[str, str]] = set()


def first_usable(read: Callable[[int, np.random.Generator], dict], draw: Draw, length: int, name: str) -> dict:
    """The item of a key, or of the next row that its generator draws when a row cannot be used.

    Args:
        read: Row number and generator to an item; raises `UnusableRow`.
        draw: The key.
        length: Rows of the source.
        name: What messages call it.

    Returns:
        The item with the key's "seed" and "skipped", the number of rows passed over.

    Raises:
        RuntimeError: 100 rows in a row are unusable.
    """
    generator, row = draw.generator(), draw.row
    for skipped in range(MAX_IN_A_ROW):
        try:
            return {**read(row, generator), "seed": draw.seed, "skipped": skipped}
        except UnusableRow as error:
            report_unusable(name, row, error)
            row = int(generator.integers(length))
    raise RuntimeError(
        f"{name}: {MAX_IN_A_ROW} rows in a row could not be used, the last is row {row}; look at the warnings above "
        "and mend the source or its columns."
    )


def report_unusable(name: str, row: Any, error: UnusableRow) -> None:
    """One warning for each kind of defect of a source; the trainer logs how many there are."""
    kind = str(error).partition(":")[0]
    if (name, kind) not in _REPORTED:
        _REPORTED.add((name, kind))
        logger.warning("%s: row %s is skipped (%s). Further rows like it are counted, not shown.", name, row, error)


class SourcePairs(KeyedDataset):
    """Pairs of one map-style source.

    Args:
        spec: Where it is and how it is read.
        sampling: Draw texts at random; otherwise the first, for evaluation.
        texts_per_image: Image-text with `sampling`: texts drawn for each picture.
        rows: The source already opened (`open_source`); opened here by default.

    Items: {"image", "text"} or {"first_text", "text"}, "text" being a list with several texts an image. With `sampling`
    also "seed" and "skipped", see `first_usable`; without, an unusable row is an error, since leaving it out would
    change what is measured.
    """

    def __init__(self, spec: SourceSpec, sampling: bool = True, texts_per_image: int = 1, rows=None):
        if texts_per_image < 1:
            raise ValueError(f"texts_per_image is a positive number, got {texts_per_image}.")
        if texts_per_image > 1 and spec.kind == "text_text":
            raise ValueError(f"{spec.name}: texts_per_image={texts_per_image} is for pictures; pairs of texts take 1.")
        self.spec, self.sampling, self.texts_per_image = spec, sampling, texts_per_image
        if rows is None and spec.streaming:
            raise ValueError(f"{spec.name} is read by row numbers, which a stream does not have; set streaming: false.")
        self.rows = open_source(spec) if rows is None else rows
        if spec.text_column is not None:
            self.rows = self._split_documents(self.rows)
        if not len(self.rows):
            raise ValueError(f"{spec.name} has no rows.")

    def _split_documents(self, documents: datasets.Dataset) -> datasets.Dataset:
        spec = self.spec
        options = {"column": spec.text_column, "min_chars": spec.min_chars, "max_chars": spec.max_chars}
        pairs = documents.map(
            sentence_pairs,
            batched=True,
            batch_size=16,  # documents may be books
            remove_columns=documents.column_names,
            fn_kwargs={**options, "rules": RULES_VERSION},
            features=PAIR_FEATURES,
            desc=f"Splitting {spec.name} into sentences",
        )
        usable = pairs.filter(lambda first: [text is not None for text in first], input_columns="first", batched=True)
        if not len(usable):
            raise ValueError(
                f"{spec.name}: no document of {len(documents)} has two consecutive sentences of {spec.min_chars} to "
                f"{spec.max_chars} characters; widen min_chars and max_chars, or check text_column."
            )
        if len(usable) < len(pairs):
            logger.warning(
                "%s: %d of %d documents have no two consecutive sentences and are left out.",
                spec.name,
                len(pairs) - len(usable),
                len(documents),
            )
        return usable

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Draw | int) -> dict:
        if self.sampling:
            return first_usable(self.read, as_draw(key), len(self), self.spec.name)
        try:
            return self.read(int(key), None)
        except UnusableRow as error:
            raise ValueError(
                f"{self.spec.name}: row {key} cannot be evaluated ({error}); mend it or take it out of the files."
            ) from error

    def read(self, row: int, generator: np.random.Generator | None) -> dict:
        """One row as an item. Raises `UnusableRow`."""
        cells = self.rows[row]
        if self.spec.kind == "image_text":
            return image_text_item(cells, self.spec, generator, self.texts_per_image)
        return text_text_item(cells, self.spec, generator)


class PairMixture(KeyedDataset):
    """Several sources by their weights, exactly so in every batch.

    The first source defines the epoch, see `DrawSampler`. Items are those of the sources.

    Args:
        sources: `SourcePairs` and the like, each with a `read(row, generator)`.
        weights: Shares of the batch, which sum to 1.
        names: What messages call the sources.
    """

    def __init__(self, sources: Sequence[SourcePairs], weights: Sequence[float], names: Sequence[str]):
        rows_per_batch(weights, names, 10**6)  # the sum is checked here and not at the first batch
        self.sources, self.weights, self.names = list(sources), list(weights), list(names)

    @classmethod
    def from_specs(cls, specs: Sequence[SourceSpec], texts_per_image: int = 1) -> "PairMixture":
        """Opens the sources.

        Raises:
            ValueError: Several texts an image beside pairs of texts, weights that do not sum to 1, or what
                `open_source` raises.
        """
        check_mixture(specs, texts_per_image)
        return cls(
            [SourcePairs(spec, texts_per_image=texts_per_image) for spec in specs],
            [spec.weight for spec in specs],
            [spec.name for spec in specs],
        )

    def train_sampler(self, batch_size: int, seed: int, processes: int = 1) -> DrawSampler:
        counts = rows_per_batch(self.weights, self.names, batch_size)
        shares = ", ".join(f"{name} {count}" for name, count in zip(self.names, counts, strict=True))
        logger.info("Rows of each batch of %d: %s", batch_size, shares)
        return DrawSampler([len(source) for source in self.sources], counts, self.names, seed, processes)

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def __getitem__(self, key: Draw) -> dict:
        if not isinstance(key, Draw):
            raise TypeError(f"A mixture is read by keys of its train_sampler, not by {key!r}.")
        source = self.sources[key.source]
        return first_usable(source.read, key, len(source), self.names[key.source])


def check_mixture(specs: Sequence[SourceSpec], texts_per_image: int) -> None:
    """What a mixture cannot be, said before anything is opened."""
    if not specs:
        raise ValueError("There are no sources: name at least one.")
    rows_per_batch([spec.weight for spec in specs], [spec.name for spec in specs], 10**6)
    if texts_per_image > 1 and any(spec.kind == "text_text" for spec in specs):
        raise ValueError(
            f"texts_per_image={texts_per_image} does not go with pairs of texts in the same batch; set it to 1."
        )
    if len({spec.streaming for spec in specs}) > 1:
        raise ValueError("Sources that stream and sources that do not cannot be mixed; set streaming for all or none.")
