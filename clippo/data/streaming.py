"""Pairs from sources too large for random access: WebDataset shards and data sets that are read from the hub."""

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count as count_up
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import IterableDataset

from clippo.data.damaged_files import READ_ERRORS, find_unreadable
from clippo.data.local_files import local_files
from clippo.data.mixture import check_mixture
from clippo.data.samples import document_item, first_usable, image_text_item, text_text_item
from clippo.data.sampling import rows_per_batch
from clippo.data.sources import Rows, open_source
from clippo.data.specs import SourceSpec

logger = logging.getLogger(__name__)


class StreamedRow(NamedTuple):
    """Row of a stream, not decoded yet.

    Attributes:
        number: Number of the row in its pass.
        cells: Cells by column.
        seed: Seed of its sample.
    """

    number: int
    cells: dict
    seed: int


class PairStream(IterableDataset):
    """Endless stream of pairs; the sources are mixed in every batch by exact shares.

    Every worker of every process reads its own shards. Where a source has fewer shards than there are readers, each
    reader takes its own rows of all shards. Every pass shuffles the shards anew and, within a buffer, the rows. The
    order depends on the seed, the number of processes and the number of workers alone.

    Place n of a source in the stream belongs to row n. An unusable row is replaced by a row of the next batch, which
    also comes again at its own place. So the content of a place never depends on earlier rows, and a resumed run skips
    rows without decoding them (`skip_batches`).

    A document gives one pair in a pass, drawn anew each time. Neighbouring pairs of one document would meet in the same
    batch, where the sentence that they share counts as its own negative.

    Args:
        specs: The sources, all with `streaming`.
        batch_size: Batch size of one process; the data loader must use it too.
        seed: Seed of the order and of all samples.
        texts_per_image: As for `SourcePairs`.
        process: Number of this process.
        processes: Number of processes.
        buffer_size: Rows among which the next one is drawn.

    Attributes:
        skip_batches: Number of batches that a resumed run discards. Set it before the data loader starts. These batches
            hold None for every item, and `ContrastiveCollator` makes an empty batch of them.

    Raises:
        ValueError: A source does not stream, or the sources do not go together.

    Example:
        >>> from clippo.data import PairStream, SourceSpec
        >>> columns = ["text", "picture"]
        >>> spec = SourceSpec("docs/pictures/queries.json", "text_text", caption_columns=columns, streaming=True)
        >>> sorted(next(iter(PairStream([spec], batch_size=8, seed=0))))
        ['first_text', 'seed', 'skipped', 'text']
    """

    shards_itself = True  # tells the trainer that Accelerate must not divide it once more

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
            raise ValueError(f"{', '.join(mapped)} does not stream; set streaming: true, or use PairMixture.")
        self.specs, self.seed, self.texts_per_image = list(specs), seed, texts_per_image
        self.process, self.processes, self.buffer_size = process, processes, buffer_size
        self.counts = rows_per_batch([spec.weight for spec in specs], [spec.name for spec in specs], batch_size)
        self.skip_batches = 0
        self.rows = [open_source(spec) for spec in specs]

    def __iter__(self) -> Iterator[dict | None]:
        worker = torch.utils.data.get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        part, parts = self.process * workers + number, self.processes * workers
        # The data loader takes batches from its workers in turn, and skips as many of this worker.
        skipped = len(range(number, self.skip_batches, workers))
        for _ in range(skipped):
            yield from [None] * sum(self.counts)
        streams = [self._items(source, part, parts, skipped) for source in range(len(self.specs))]
        while True:
            for stream, count in zip(streams, self.counts, strict=True):
                yield from islice(stream, count)

    def _items(self, source: int, part: int, parts: int, skipped_batches: int) -> Iterator[dict]:
        """Items of one source without end."""
        spec, count = self.specs[source], self.counts[source]
        make = self._maker(spec)
        rows = self._rows(source, part, parts)
        for _ in range(skipped_batches * count):
            next(rows)
        ahead: deque[StreamedRow] = deque()  # rows after the current one, read early as replacements

        def candidates(own: StreamedRow) -> Iterator[tuple[str, Callable[[], dict]]]:
            row = own
            for skipped in count_up():
                yield f"{row.number} of a pass of the stream", partial(make, row.cells, np.random.default_rng(own.seed))
                # The row of the next batch at this place, so that every unusable row of a batch gets another one.
                while len(ahead) < count + skipped:
                    ahead.append(next(rows))
                row = ahead[count + skipped - 1]

        while True:
            own = ahead.popleft() if ahead else next(rows)
            yield first_usable(candidates(own), own.seed, spec.name)

    def _maker(self, spec: SourceSpec) -> Callable[[dict, np.random.Generator], dict]:
        """Function that makes an item of cells and a generator."""
        if spec.kind == "image_text":
            return lambda cells, generator: image_text_item(cells, spec, generator, self.texts_per_image)
        make = text_text_item if spec.text_column is None else document_item
        return lambda cells, generator: make(cells, spec, generator)

    def _rows(self, source: int, part: int, parts: int) -> Iterator[StreamedRow]:
        """Rows of one reader in shuffled order, pass after pass."""
        spec, (rows, step) = self.specs[source], _share(self.specs[source], self.rows[source], parts, part)
        for number_of_pass in count_up():
            # All readers take the same seed when they take turns on the same rows; else rows would be lost and doubled.
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
            except READ_ERRORS as error:
                files = local_files(spec.path, None if spec.split == "train" else spec.split, spec.name)
                where = find_unreadable(files, spec.name) or f"a shard of {spec.path}"
                raise RuntimeError(
                    f"{spec.name}: {where} cannot be read ({type(error).__name__}: {error}); found after {count} rows "
                    "of a pass. Download it again or take it out of the pattern."
                ) from error
            if not count:
                raise ValueError(
                    f"{spec.name} has no rows for reader {part} of {parts}; use fewer processes or workers."
                )


def _share(spec: SourceSpec, rows: Rows, parts: int, part: int) -> tuple[Rows, int]:
    """Rows of one reader, and the step to take among them: 1 for shards of its own."""
    if parts > 1 and rows.num_shards >= parts:
        return rows.shard(num_shards=parts, index=part), 1
    if parts > 1:
        logger.warning(
            "%s has %d shards for %d readers (processes times workers): every reader reads all of them and takes its "
            "own rows. More shards are faster.",
            spec.name,
            rows.num_shards,
            parts,
        )
    return rows, parts
