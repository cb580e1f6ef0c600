"""Pairs from sources too large for random access: WebDataset shards, hub data sets read on the fly."""

import logging
import tarfile
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from torch.utils.data import IterableDataset

from clippo.data.keys import rows_per_batch
from clippo.data.mixture import MAX_IN_A_ROW, PAIR_FEATURES, check_mixture, report_unusable
from clippo.data.pictures import UnusableRow
from clippo.data.rows import image_text_item, sentence_pairs, text_text_item
from clippo.data.sources import SourceSpec, open_source

logger = logging.getLogger(__name__)


class PairStream(IterableDataset):
    """An endless stream of pairs, the sources mixed by exact shares in every batch.

    Every process, and every worker of it, reads its own shards; where a source has fewer shards than there are readers,
    its own rows of all shards. Shards and, within a buffer, rows are shuffled anew in every pass; the order follows
    from the seed, the number of processes and the number of workers alone, so a resumed run that skips the batches it
    has seen goes on exactly. (It reads them again to do so.)

    Args:
        specs: The sources, all of them streaming.
        batch_size: Of one process; the data loader's batches must be of this size for the shares to hold.
        seed: Of the order and of every item's random numbers.
        texts_per_image: As for `SourcePairs`.
        process, processes: Which of how many this is.
        buffer_size: Rows among which the next one is drawn.
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
        self.specs, self.seed, self.texts_per_image = list(specs), seed, texts_per_image
        self.process, self.processes, self.buffer_size = process, processes, buffer_size
        self.counts = rows_per_batch([spec.weight for spec in specs], [spec.name for spec in specs], batch_size)
        self.rows = [self._open(spec) for spec in specs]

    @staticmethod
    def _open(spec: SourceSpec):
        rows = open_source(spec)
        if spec.text_column is None:
            return rows
        options = {"column": spec.text_column, "min_chars": spec.min_chars, "max_chars": spec.max_chars}
        names = rows.column_names
        return rows.map(sentence_pairs, batched=True, batch_size=16, remove_columns=names, fn_kwargs=options).cast(
            PAIR_FEATURES
        )

    def __iter__(self) -> Iterator[dict]:
        worker = torch.utils.data.get_worker_info()
        workers, number = (worker.num_workers, worker.id) if worker else (1, 0)
        part, parts = self.process * workers + number, self.processes * workers
        streams = [self._items(source, part, parts) for source in range(len(self.specs))]
        while True:
            for stream, count in zip(streams, self.counts, strict=True):
                yield from islice(stream, count)

    def _items(self, source: int, part: int, parts: int) -> Iterator[dict]:
        """Usable items of one source without end; each tells how many rows were passed over before it."""
        spec, skipped = self.specs[source], 0
        make = image_text_item if spec.kind == "image_text" else text_text_item
        options = {"texts_per_image": self.texts_per_image} if spec.kind == "image_text" else {}
        for number, cells, seed in self._rows(source, part, parts):
            try:
                item = make(cells, spec, np.random.default_rng(seed), **options)
            except UnusableRow as error:
                skipped += 1
                report_unusable(spec.name, f"{number} of the stream", error)
                if skipped >= MAX_IN_A_ROW:
                    raise RuntimeError(
                        f"{spec.name}: {skipped} rows in a row could not be used; look at the warnings above and mend "
                        "the source or its columns."
                    ) from error
                continue
            yield {**item, "seed": seed, "skipped": skipped}
            skipped = 0

    def _rows(self, source: int, part: int, parts: int) -> Iterator[tuple[int, dict, int]]:
        """Row by row in shuffled order, pass after pass: its number in the pass, its cells, its seed."""
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
                    yield count, cells, int(seeds.integers(2**62))
                    count += 1
            except (OSError, EOFError, ValueError, tarfile.TarError) as error:  # pyarrow's are ValueErrors
                raise RuntimeError(
                    f"{spec.name}: a shard of {spec.path} cannot be read ({type(error).__name__}: {error}) after "
                    f"{count} rows; download it again or take it out of the pattern."
                ) from error
            if not count:
                raise ValueError(
                    f"{spec.name} has no rows for reader {part} of {parts}; use fewer processes or workers."
                )
            number_of_pass += 1
