"""Pairs from sources too large for random access: WebDataset shards, hub data sets read on the fly."""

import logging
import tarfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset

from clippo.data.damage import find_unreadable
from clippo.data.mixture import MAX_IN_A_ROW, check_mixture, report_unusable
from clippo.data.pictures import UnusableRow
from clippo.data.samples import document_item, image_text_item, text_text_item
from clippo.data.sampling import rows_per_batch
from clippo.data.sources import open_source
from clippo.data.specs import SourceSpec

logger = logging.getLogger(__name__)


class StreamedRow(NamedTuple):
    """A row as it was read, nothing of it decoded."""

    number: int  # in its pass
    cells: dict
    seed: int


class PairStream(IterableDataset):
    """An endless stream of pairs, the sources mixed by exact shares in every batch.

    Every process, and every worker of it, reads its own shards; where a source has fewer shards than there are readers,
    its own rows of all shards. Shards and, within a buffer, rows are shuffled anew in every pass; the order follows
    from the seed, the number of processes and the number of workers alone.

    Place n of a source in the stream belongs to row n. When that row is unusable, a row of the next batch stands in for
    it, and comes again at its own place. Hence what a place holds never depends on whether earlier rows were usable,
    and a resumed run can pass over rows without decoding them (`skip_batches`).

    A document gives one pair in a pass, drawn anew each time. Neighbouring pairs of one document would meet in the same
    batch, where the sentence that they share counts as its own negative.

    Args:
        specs: The sources, all of them streaming.
        batch_size: Of one process; the data loader's batches must be of this size for the shares to hold.
        seed: Of the order and of every item's random numbers.
        texts_per_image: As for `SourcePairs`.
        process, processes: Which of how many this is.
        buffer_size: Rows among which the next one is drawn.

    Attributes:
        skip_batches: Set it before the data loader starts to the number of batches that are going to be thrown away,
            for instance by Accelerate's `skip_first_batches`. They then hold None in place of every item, which
            `ContrastiveCollator` makes an empty batch of; what follows is what would have followed.
    """

    shards_itself = True  # Accelerate must not divide it once more

    def __init__(
        self,
        specs: Sequence[SourceSpec],
        batch_size: int,
        seed: int,
        texts_per_image: int = 1,
        process: int = 0,
        processes: int = 1,
        buffer_size: int = 1000,
    ):
        check_mixture(specs, texts_per_image)
        mapped = [spec.name for spec in specs if not spec.streaming]
        if mapped:
            raise ValueError(f"{', '.join(mapped)} does not stream; set streaming: true, or read it by PairMixture.")
        self.specs, self.seed, self.texts_per_image = list(specs), seed, texts_per_image
        self.process, self.processes, self.buffer_size = process, processes, buffer_size
        self.counts = rows_per_batch([spec.weight for spec in specs], [spec.name for spec in specs], batch_size)
        self.skip_batches = 0
        self.rows = [open_source(spec) for spec in specs]

    def __iter__(self) -> Iterator[dict | None]:
        worker = torch.utils.data.get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        part, parts = self.process * workers + number, self.processes * workers
        # The data loader takes batches from its workers in turn, so these are the ones of this worker.
        skipped = len(range(number, self.skip_batches, workers))
        for _ in range(skipped):
            yield from [None] * sum(self.counts)
        streams = [self._items(source, part, parts, skipped) for source in range(len(self.specs))]
        while True:
            for stream, count in zip(streams, self.counts, strict=True):
                yield from islice(stream, count)

    def _items(self, source: int, part: int, parts: int, skipped_batches: int) -> Iterator[dict]:
        """Items of one source without end, each with the number of rows passed over for it."""
        spec, count = self.specs[source], self.counts[source]
        make = self._maker(spec)
        rows = self._rows(source, part, parts)
        for _ in range(skipped_batches * count):
            next(rows)
        ahead: deque[StreamedRow] = deque()  # rows after the current one, read early as stand-ins; empty in good times
        while True:
            own = ahead.popleft() if ahead else next(rows)
            row = own
            for skipped in range(MAX_IN_A_ROW):
                try:
                    yield {**make(row.cells, np.random.default_rng(own.seed)), "seed": own.seed, "skipped": skipped}
                    break
                except UnusableRow as error:
                    report_unusable(spec.name, f"{row.number} of a pass of the stream", error)
                    # The next batch's row at this place: other unusable rows of this batch have other stand-ins.
                    while len(ahead) < count + skipped:
                        ahead.append(next(rows))
                    row = ahead[count + skipped - 1]
            else:
                raise RuntimeError(
                    f"{spec.name}: {MAX_IN_A_ROW} rows in a row could not be used, the last is row {row.number}; look "
                    "at the warnings above and mend the source or its columns."
                )

    def _maker(self, spec: SourceSpec) -> Callable[[dict, np.random.Generator], dict]:
        if spec.kind == "image_text":
            return lambda cells, generator: image_text_item(cells, spec, generator, self.texts_per_image)
        make = text_text_item if spec.text_column is None else document_item
        return lambda cells, generator: make(cells, spec, generator)

    def _rows(self, source: int, part: int, parts: int) -> Iterator[StreamedRow]:
        """Row by row in shuffled order, pass after pass."""
        spec, rows, step = self.specs[source], self.rows[source], 1
        if parts > 1 and rows.num_shards >= parts:
            rows = rows.shard(num_shards=parts, index=part)
        elif parts > 1:
            step = parts
            logger.warning(
                "%s has %d shards for %d readers (processes times workers): every reader reads all of them and takes "
                "its own rows. More shards are faster.",
                spec.name,
                rows.num_shards,
                parts,
            )
        number_of_pass = 0
        while True:
            # Seeded alike for all readers when they take turns on the same rows, or rows would be lost and doubled.
            shuffled = rows.shuffle(seed=self.seed + source, buffer_size=self.buffer_size)
            shuffled.set_epoch(number_of_pass)
            seeds = np.random.default_rng([self.seed, source, part, number_of_pass])
            count = 0
            try:
                # Not iter(shuffled): in a worker that would divide the rows a second time, by rules of its own.
                for batch in islice(shuffled.iter(batch_size=1), part if step > 1 else 0, None, step):
                    cells = {column: values[0] for column, values in batch.items()}
                    yield StreamedRow(count, cells, int(seeds.integers(2**62)))
                    count += 1
            except (OSError, EOFError, ValueError, tarfile.TarError) as error:  # pyarrow's are ValueErrors
                where = find_unreadable(spec.path, spec.name) or f"a shard of {spec.path}"
                raise RuntimeError(
                    f"{spec.name}: {where} cannot be read ({type(error).__name__}: {error}); found after {count} rows "
                    "of a pass. Download it again or take it out of the pattern."
                ) from error
            if not count:
                raise ValueError(
                    f"{spec.name} has no rows for reader {part} of {parts}; use fewer processes or workers."
                )
            number_of_pass += 1
