"""A set of languages that grows during training.

With all languages at once the loss stays near that of guessing for long, because the same word shape is rarely read
twice. One language goes first, until the tower tells images apart; the others join it one after another.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from clippo.data.sampling import KeyedSampler, SampleKey


class Growth(NamedTuple):
    """Batches between which the number of languages grows from 1 to all.

    It grows by equal factors: as many batches from 2 to 4 languages as from 50 to 100.

    Attributes:
        first: Batches with one language.
        last: Batch from which on all languages take part.

    Example:
        >>> from clippo.emoji.growth import Growth
        >>> [Growth(first=100, last=200).languages_at(batch, 64) for batch in (0, 99, 150, 175, 200)]
        [1, 1, 8, 22, 64]
    """

    first: int
    last: int

    @classmethod
    def of(cls, batches: Sequence[int]) -> "Growth":
        """The growth that two numbers of a recipe describe.

        Raises:
            ValueError: They are not two rising numbers.
        """
        if len(batches) != 2 or not 0 <= batches[0] <= batches[1]:
            raise ValueError(f"grow={list(batches)} must be two rising numbers of batches, such as [200, 800].")
        return cls(*batches)

    def languages_at(self, batch: int, total: int) -> int:
        """Number of languages of a batch, 1 to `total`.

        Args:
            batch: Number of the batch, from 0.
            total: Number of all languages.
        """
        if batch >= self.last:
            return total
        share = max(batch - self.first, 0) / max(self.last - self.first, 1)
        return int(total**share + 1e-9)


class GrowingKeys(KeyedSampler):
    """Keys of one data set, in which `source` is the number of languages of the batch.

    Args:
        length: Rows of the data set.
        batch_size: Batch size of one process.
        seed: Seed of the order and of the seeds of all keys.
        processes: Number of processes.
        growth: When languages join.
        total: Number of all languages.

    Example:
        >>> from clippo.emoji.growth import GrowingKeys, Growth
        >>> keys = GrowingKeys(8, batch_size=2, seed=0, growth=Growth(1, 3), total=9)
        >>> [key.source for key in keys]
        [1, 1, 1, 1, 3, 3, 9, 9]
    """

    def __init__(self, length: int, batch_size: int, seed: int, processes: int = 1, *, growth: Growth, total: int):
        super().__init__([length], [batch_size], ["The data set"], seed, processes)
        self.growth, self.total, self.keys_per_step = growth, total, batch_size * processes

    def __iter__(self) -> Iterator[SampleKey]:
        for place, key in enumerate(super().__iter__(), self.epoch * len(self)):
            yield key._replace(source=self.growth.languages_at(place // self.keys_per_step, self.total))
