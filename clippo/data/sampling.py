"""Order of training samples as keys.

A sample is a pure function of its key. The order of keys follows from the seed alone, so workers, processes and
restarts do not change what a run sees. Trainer skips to any place of the order without loading anything.
"""

from collections.abc import Iterator, Sequence
from itertools import count as count_up
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler


class SampleKey(NamedTuple):
    """Key of one training sample.

    Attributes:
        source: Number of the data set in a mixture.
        row: Row of the data set.
        seed: Seed of everything random about the sample: caption, language, augmentation.

    Example:
        >>> from clippo.data.sampling import SampleKey
        >>> int(SampleKey(source=0, row=7, seed=3).generator().integers(10))
        8
    """

    source: int
    row: int
    seed: int

    def generator(self) -> np.random.Generator:
        """Random generator of the sample."""
        return np.random.default_rng(self.seed)


def as_key(key: "SampleKey | int") -> SampleKey:
    """Key of a sample.

    Args:
        key: A key, or a row number, which gets a seed from torch's global generator.
    """
    return key if isinstance(key, SampleKey) else SampleKey(0, int(key), int(torch.randint(2**62, ())))


def rows_per_batch(weights: Sequence[float], names: Sequence[str], batch_size: int) -> list[int]:
    """Rows of each source in a batch, rounded so that they add up (largest remainders first).

    Args:
        weights: Shares, which sum to 1.
        names: Names of the sources in errors.
        batch_size: Batch size of one process.

    Raises:
        ValueError: The shares do not sum to 1, or one is less than a row.
    """
    if any(weight <= 0 for weight in weights) or abs(sum(weights) - 1) > 1e-6:
        given = ", ".join(f"{name} {weight:g}" for name, weight in zip(names, weights, strict=True))
        raise ValueError(f"The weights of the sources must be positive and sum to 1, got {sum(weights):g} ({given}).")
    exact = np.asarray(weights) * batch_size
    counts = np.floor(exact + 1e-9).astype(int)
    missing = batch_size - counts.sum()
    counts[np.argsort(counts - exact, kind="stable")[:missing]] += 1
    for name, weight, count in zip(names, weights, counts, strict=True):
        if count == 0:
            raise ValueError(
                f"{name} has a weight of {weight:g}, which is less than one row of a batch of {batch_size}; make the "
                f"batch {int(np.ceil(1 / weight))} or larger, or the weight at least {1 / batch_size:.3g}."
            )
    return counts.tolist()


class KeyedSampler(Sampler):
    """Keys in blocks of one batch; every block has the same number of rows of each source.

    An epoch ends when the first source was read once. Every source is read in passes, each a new permutation. Rows that
    do not fill a last batch are left out of their pass, so no batch holds a row twice. The other sources continue in
    the next epoch where they stopped.

    Processes take blocks in turn. W processes with blocks of b rows see in every step what one process with blocks of
    W*b rows sees, if the shares of b are whole numbers of rows.

    Args:
        lengths: Rows of each source.
        counts: Rows of each source in a block, see `rows_per_batch`.
        names: Names of the sources in errors.
        seed: Seed of the order and of the seeds of all keys.
        processes: Number of processes W.

    Raises:
        ValueError: A source has fewer rows than one step takes.

    Example:
        >>> from clippo.data.sampling import KeyedSampler
        >>> keys = list(KeyedSampler([4, 9], [2, 1], ["photos", "books"], seed=0))
        >>> [key.source for key in keys]
        [0, 0, 1, 0, 0, 1]
        >>> sorted(key.row for key in keys if key.source == 0)
        [0, 1, 2, 3]
    """

    def __init__(
        self, lengths: Sequence[int], counts: Sequence[int], names: Sequence[str], seed: int, processes: int = 1
    ):
        for length, count, name in zip(lengths, counts, names, strict=True):
            if length < count * processes:
                raise ValueError(
                    f"{name} has {length} rows, but a batch takes {count} of them on each of {processes} processes; "
                    "lower per_device_train_batch_size or the source's weight."
                )
        self.counts, self.seed, self.epoch = list(counts), seed, 0
        # Whole rounds of all processes, so that passes begin at the same step with any number of them.
        self.blocks_per_pass = [
            length // (count * processes) * processes for length, count in zip(lengths, counts, strict=True)
        ]
        self.lengths = list(lengths)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields.

        Args:
            epoch: Number of the epoch, from 0.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return self.blocks_per_pass[0] * sum(self.counts)

    def __iter__(self) -> Iterator[SampleKey]:
        first = self.epoch * self.blocks_per_pass[0]
        passes: list[tuple[int, np.ndarray, np.ndarray] | None] = [None] * len(self.counts)
        for block in range(first, first + self.blocks_per_pass[0]):
            for source, count in enumerate(self.counts):
                number, place = divmod(block, self.blocks_per_pass[source])
                if passes[source] is None or passes[source][0] != number:
                    passes[source] = number, *self._one_pass(source, number)
                _, rows, seeds = passes[source]
                for i in range(place * count, (place + 1) * count):
                    yield SampleKey(source, int(rows[i]), int(seeds[i]))

    def _one_pass(self, source: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng([self.seed, source, number])
        return generator.permutation(self.lengths[source]), generator.integers(2**62, size=self.lengths[source])


class EndlessKeys(Sampler):
    """Keys of all epochs one after another, without end. Its length is that of one epoch.

    An epoch is a number in the log then, and no reason to stop a data loader and its workers.

    Args:
        sampler: Sampler of one epoch, with `set_epoch`.

    Example:
        >>> from itertools import islice
        >>> from clippo.data.sampling import EndlessKeys, KeyedSampler
        >>> keys = EndlessKeys(KeyedSampler([3], [3], ["photos"], seed=0))
        >>> len(keys), [key.row for key in islice(keys, 6)]
        (3, [2, 0, 1, 1, 2, 0])
    """

    def __init__(self, sampler: KeyedSampler):
        self.sampler, self.epoch = sampler, sampler.epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch with which the next iteration begins.

        Args:
            epoch: Number of the epoch, from 0.
        """
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[SampleKey]:
        for epoch in count_up(self.epoch):
            self.sampler.set_epoch(epoch)
            yield from self.sampler


class KeyedDataset(Dataset):
    """Map-style data set that is read by `SampleKey`, or by row number with a random seed.

    Example:
        >>> from clippo.data.sampling import KeyedDataset, as_key
        >>> class Numbers(KeyedDataset):
        ...     def __len__(self):
        ...         return 4
        ...     def __getitem__(self, key):
        ...         return as_key(key).row
        >>> sorted(Numbers()[key] for key in Numbers().train_sampler(batch_size=2, seed=0))
        [0, 1, 2, 3]
    """

    def train_sampler(self, batch_size: int, seed: int, processes: int = 1) -> KeyedSampler:
        """Order of a training run; `ContrastiveTrainer` asks for it.

        Args:
            batch_size: Batch size of one process.
            seed: Seed of the run.
            processes: Number of processes that share the batches.
        """
        return KeyedSampler([len(self)], [batch_size], ["The data set"], seed, processes)
