"""A data loader whose workers outlive the epochs.

An epoch of a small data set has a few batches. A loader that ends there starts its workers anew, with nothing fetched
ahead. Here one run through the keys goes on through all epochs.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from accelerate.data_loader import DataLoaderShard
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from clippo.data.sampling import EndlessKeys

KEPT = ("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context")
KEPT += ("prefetch_factor", "persistent_workers", "in_order")


class EndlessLoader(DataLoaderShard):
    """Accelerate's loader over `EndlessKeys`. Each iteration yields the batches of one epoch, from one long run.

    A new run, with new workers, begins only where an iteration does not follow the one before it, as in a resumed
    training. `make_endless` makes a loader of this class.
    """

    _run: Iterator[Any] | None = None
    _place = 0  # batches that the run has yielded, counted from the first epoch

    def __iter__(self) -> Iterator[Any]:
        place = self.iteration * len(self)
        if self._run is None or self._place != place:
            self._run, self._place = super().__iter__(), place
        for batch in islice(self._run, len(self)):
            self._place += 1
            yield batch
        self.iteration += 1

    def stop(self) -> None:
        """End the run and its workers."""
        if self._run is not None:
            self._run.close()
            self._run = None


def make_endless(loader: DataLoader) -> DataLoader:
    """Let a data loader go on through all epochs, if it reads `EndlessKeys`.

    Args:
        loader: Result of `Accelerator.prepare`.

    Returns:
        An `EndlessLoader`. A loader with another sampler, or one that the main process reads for all, is returned as
        it is.
    """
    batches = getattr(loader, "batch_sampler", None)
    batches = getattr(batches, "batch_sampler", batches)  # of several processes
    if type(loader) is not DataLoaderShard or not isinstance(getattr(batches, "sampler", None), EndlessKeys):
        return loader
    return EndlessLoader(
        loader.dataset,
        device=loader.device,
        rng_types=loader.rng_types,
        synchronized_generator=loader.synchronized_generator,
        batch_sampler=loader.batch_sampler,
        # A copy from pinned memory that the host waits for would also wait for the step before it.
        _non_blocking=loader._non_blocking or loader.pin_memory,
        # A run draws a seed for its workers. Drawn from the global generator, it would come at another place in a
        # resumed training, whose dropout would then differ. The seeds of samples come with their keys.
        generator=torch.Generator(),
        **{name: getattr(loader, name) for name in KEPT},
    )


class StopWorkers(TrainerCallback):
    """Ends the workers of an `EndlessLoader` with the training."""

    def on_train_end(self, args, state, control, train_dataloader=None, **kwargs):
        if type(train_dataloader) is EndlessLoader:
            train_dataloader.stop()
