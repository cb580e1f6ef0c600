"""Pairs from one or several sources with random access, mixed in every batch by exact shares.

The paper co-trains on images with their texts and on consecutive sentences, in the same batch and under one loss.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import datasets
import numpy as np

from clippo.data.samples import UnusableRow, first_usable, image_text_item, sentence_pairs, text_text_item
from clippo.data.sampling import KeyedDataset, KeyedSampler, SampleKey, as_key, rows_per_batch
from clippo.data.sentences import RULES_VERSION
from clippo.data.sources import Rows, open_source
from clippo.data.specs import SourceSpec
from clippo.data.vector_pairs import VectorSource

logger = logging.getLogger(__name__)

PAIR_FEATURES = datasets.Features({"first": datasets.Value("string"), "second": datasets.Value("string")})


class SourcePairs(KeyedDataset):
    """Pairs of one source with random access.

    With `sampling` an unusable row is replaced by a random other one. Without, it is an error, since leaving it out
    would change what is measured.

    Args:
        spec: The source.
        sampling: Draw texts at random; False takes the first ones, for evaluation.
        texts_per_image: Texts drawn for each image, with `sampling`.
        rows: The source already opened; by default `open_source` opens it.

    Returns:
        Items {"image", "text"}, {"vector", "text"} or {"first_text", "text"}; "text" is a list when an image has
        several texts. With `sampling` also "seed" and "skipped", see `first_usable`.

    Raises:
        ValueError: The source has no rows or streams, or `texts_per_image` does not fit its kind.

    Example:
        >>> from clippo.data import SourcePairs, SourceSpec
        >>> spec = SourceSpec("docs/pictures/queries.json", "text_text", caption_columns=["text", "picture"])
        >>> SourcePairs(spec, sampling=False)[0]
        {'first_text': 'Schmetterling', 'text': 'butterfly'}
    """

    def __init__(
        self, spec: SourceSpec, sampling: bool = True, texts_per_image: int = 1, rows: datasets.Dataset | None = None
    ):
        if texts_per_image < 1:
            raise ValueError(f"texts_per_image must be a positive number, got {texts_per_image}.")
        if texts_per_image > 1 and spec.kind == "text_text":
            raise ValueError(f"{spec.name}: texts_per_image={texts_per_image} is for images; pairs of texts take 1.")
        self.spec, self.sampling, self.texts_per_image = spec, sampling, texts_per_image
        if rows is None and spec.streaming:
            raise ValueError(f"{spec.name} is read by row numbers, which a stream does not have; set streaming: false.")
        self.vectors = VectorSource(spec) if spec.kind == "vectors" else None
        if rows is None:
            rows = open_source(spec) if self.vectors is None else self.vectors.open()
        self.rows: Rows = rows
        if spec.text_column is not None:
            self.rows = _split_documents(spec, self.rows)
        if not len(self.rows):
            raise ValueError(f"{spec.name} has no rows; check its path and split.")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: SampleKey | int) -> dict:
        if self.sampling:
            return draw_item(self.read, as_key(key), len(self), self.spec.name)
        try:
            return self.read(int(key), None)
        except UnusableRow as error:
            raise ValueError(
                f"{self.spec.name}: row {key} cannot be evaluated ({error}); mend it or take it out of the files."
            ) from error

    def read(self, row: int, generator: np.random.Generator | None) -> dict:
        """Item of one row.

        Args:
            row: Number of the row.
            generator: Source of randomness; None takes the first texts.

        Raises:
            UnusableRow: The row gives no item.
        """
        try:
            cells = self.rows[row]
        except UnicodeDecodeError as error:  # a JSON file that is not UTF-8; nothing checks it before
            raise UnusableRow(f"broken text: {error}") from error
        if self.vectors is not None:
            return self.vectors.item(row, cells, generator, self.texts_per_image)
        if self.spec.kind == "image_text":
            return image_text_item(cells, self.spec, generator, self.texts_per_image)
        return text_text_item(cells, self.spec, generator)


def draw_item(read: Callable[[int, np.random.Generator], dict], key: SampleKey, length: int, name: str) -> dict:
    """Item of a key; an unusable row is replaced by rows that the generator of the key draws.

    Args:
        read: Makes an item of a row number and a generator; raises `UnusableRow`.
        key: Key of the item.
        length: Rows of the source.
        name: Name of the source in messages.
    """

    def candidates() -> Iterator[tuple[int, Callable[[], dict]]]:
        generator, row = key.generator(), key.row
        while True:
            yield row, partial(read, row, generator)
            row = int(generator.integers(length))

    return first_usable(candidates(), key.seed, name)


def _split_documents(spec: SourceSpec, documents: datasets.Dataset) -> datasets.Dataset:
    """Documents as rows of two consecutive sentences, cached by `datasets`."""
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


class PairMixture(KeyedDataset):
    """Several sources, mixed in every batch by exact shares.

    The first source defines the epoch, see `KeyedSampler`.

    Args:
        sources: `SourcePairs`, or data sets with a method `read(row, generator)`.
        weights: Shares of the batch, which sum to 1.
        names: Names of the sources in messages.

    Returns:
        The items of the sources.

    Raises:
        ValueError: The weights do not sum to 1.

    Example:
        >>> from clippo.data import PairMixture, SourceSpec
        >>> file = "docs/pictures/queries.json"
        >>> specs = [
        ...     SourceSpec(file, "text_text", name="names", weight=0.75, caption_columns=["text", "picture"]),
        ...     SourceSpec(file, "text_text", name="languages", weight=0.25, caption_columns=["text", "language"]),
        ... ]
        >>> mixture = PairMixture.from_specs(specs)
        >>> [key.source for key in mixture.train_sampler(batch_size=4, seed=0)][:8]
        [0, 0, 0, 1, 0, 0, 0, 1]
    """

    def __init__(self, sources: Sequence[SourcePairs], weights: Sequence[float], names: Sequence[str]):
        rows_per_batch(weights, names, 10**6)  # checks the sum now and not at the first batch
        self.sources, self.weights, self.names = list(sources), list(weights), list(names)

    @classmethod
    def from_specs(cls, specs: Sequence[SourceSpec], texts_per_image: int = 1) -> "PairMixture":
        """Open the sources of a recipe.

        Args:
            specs: The sources.
            texts_per_image: As for `SourcePairs`.

        Raises:
            ValueError: The sources do not go together, or `open_source` raises it.
        """
        check_mixture(specs, texts_per_image)
        return cls(
            [SourcePairs(spec, texts_per_image=texts_per_image) for spec in specs],
            [spec.weight for spec in specs],
            [spec.name for spec in specs],
        )

    def train_sampler(self, batch_size: int, seed: int, processes: int = 1) -> KeyedSampler:
        """Order of a training run; `ContrastiveTrainer` asks for it.

        Args:
            batch_size: Batch size of one process.
            seed: Seed of the run.
            processes: Number of processes that share the batches.
        """
        counts = rows_per_batch(self.weights, self.names, batch_size)
        shares = ", ".join(f"{name} {count}" for name, count in zip(self.names, counts, strict=True))
        logger.info("Rows of each batch of %d: %s", batch_size, shares)
        return KeyedSampler([len(source) for source in self.sources], counts, self.names, seed, processes)

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def __getitem__(self, key: SampleKey) -> dict:
        if not isinstance(key, SampleKey):
            raise TypeError(f"A mixture is read by keys of its train_sampler, not by {key!r}.")
        source = self.sources[key.source]
        return draw_item(source.read, key, len(source), self.names[key.source])


def check_mixture(specs: Sequence[SourceSpec], texts_per_image: int) -> None:
    """Raise `ValueError` for sources that do not go together, before any is opened.

    Args:
        specs: The sources.
        texts_per_image: Texts drawn for each image.
    """
    if not specs:
        raise ValueError("There are no sources: name at least one.")
    rows_per_batch([spec.weight for spec in specs], [spec.name for spec in specs], 10**6)
    if texts_per_image > 1 and any(spec.kind == "text_text" for spec in specs):
        raise ValueError(
            f"texts_per_image={texts_per_image} does not go with pairs of texts in the same batch; set it to 1."
        )
    if len({spec.streaming for spec in specs}) > 1:
        raise ValueError("Sources that stream and sources that do not cannot be mixed; set streaming for all or none.")
