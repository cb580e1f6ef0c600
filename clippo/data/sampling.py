"""Which row is drawn, and with which random numbers: an order of keys instead of a global generator.

A training item is a pure function of its key. Workers, processes and restarts can then not change what a run sees: the
order of keys follows from the seed alone, and Trainer skips to any place in it without loading anything.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler


class Draw(NamedTuple):
    """The key of one training item."""

    source: int  # which data set of a mixture
    row: int
    seed: int  # of everything that is random about the item: caption, language, augmentation

    def generator(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)


def as_draw(key: "Draw | int") -> Draw:
    """A key as it is; for a plain row number one with random numbers from torch's global generator."""
    return key if isinstance(key, Draw) else Draw(0, int(key), int(torch.randint(2**62, ())))


def rows_per_batch(weights: Sequence[float], names: Sequence[str], batch_size: int) -> list[int]:
    """How many rows of a batch each source gets: its share, rounded so that they add up (largest remainders first).

    Args:
        weights: Shares, which sum to 1.
        names: What errors call the sources.
        batch_size: Of one process.

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


class DrawSampler(Sampler):
    """Keys in blocks of one batch, every block with the same number of rows of each source.

    An epoch ends when the first source has been read once. Every source is read in passes, each a new permutation;
    what does not fill a last batch is left out of its pass, so that no batch holds a row twice. The other sources go on
    at the next epoch where they stopped.

    Blocks are dealt out to processes in turn. W processes with blocks of b rows see in every step what one process
    with blocks of W*b rows sees, if the shares of b are whole numbers of rows.

    Args:
        lengths: Rows of each source.
        counts: Rows of each source in a block, see `rows_per_batch`.
        names: What errors call the sources.
        seed: Decides the order and every key's own seed.
        processes: W.
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
        # Whole rounds of all processes, so that passes begin at the same step whatever their number.
        self.blocks_per_pass = [
            length // (count * processes) * processes for length, count in zip(lengths, counts, strict=True)
        ]
        self.lengths = list(lengths)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.blocks_per_pass[0] * sum(self.counts)

    def __iter__(self) -> Iterator[Draw]:
        first = self.epoch * self.blocks_per_pass[0]
        passes: list[tuple[int, np.ndarray, np.ndarray] | None] = [None] * len(self.counts)
        for block in range(first, first + self.blocks_per_pass[0]):
            for source, count in enumerate(self.counts):
                number, place = divmod(block, self.blocks_per_pass[source])
                if passes[source] is None or passes[source][0] != number:
                    passes[source] = number, *self._one_pass(source, number)
                _, rows, seeds = passes[source]
                for i in range(place * count, (place + 1) * count):
                    yield Draw(source, int(rows[i]), int(seeds[i]))

    def _one_pass(self, source: int, number: int) -> tuple[np.ndarray, np.ndarray]:
        generator = np.random.default_rng([self.seed, source, number])
        return generator.permutation(self.lengths[source]), generator.integers(2**62, size=self.lengths[source])


class KeyedDataset(Dataset):
    """A map-style data set whose items are read by `Draw`; plain row numbers work too, see `as_draw`."""

    def train_sampler(self, batch_size: int, seed: int, processes: int = 1) -> DrawSampler:
        """The order of a training run; `ContrastiveTrainer` asks for it.

        Args:
            batch_size: Of one process.
            seed: Of the run.
            processes: How many share the batches.
        """
        return DrawSampler([len(self)], [batch_size], ["The data set"], seed, processes)
