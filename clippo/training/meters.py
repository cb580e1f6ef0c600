"""Meters of a training run: throughput, wait for data, utilisation, both losses, in-batch R@1, skipped rows.

Sums stay on the device and are read once a log, so that no step waits for a number to arrive.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

# Dense bf16 FLOP/s by a part of the device's name, from the vendors' data sheets (without sparsity); first match wins.
PEAK_FLOPS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "A10": 125e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "MI300X": 1307e12,
}


def peak_flops(device: torch.device) -> float | None:
    """Returns the dense bf16 FLOP/s of the device, or None where it is not known, as for CPUs."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


class WaitClock:
    """Clock of a training loop that measures the wait for data.

    Args:
        clock: Function that returns seconds; replaced in tests.

    Example:
        >>> from clippo.training.meters import WaitClock
        >>> times = iter([0.0, 1.0, 3.0, 8.0])
        >>> clock = WaitClock(lambda: next(times))
        >>> clock.lap()  # the first lap has no beginning
        (None, 0.0)
        >>> with clock.waiting():
        ...     batch = [1, 2, 3]
        >>> clock.lap()
        (8.0, 2.0)
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock
        self._waited = self._excluded = 0.0
        self._began: float | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time spent inside as a wait for the next batch."""
        start = self.clock()
        yield
        self._waited += self.clock() - start

    @contextmanager
    def excluded(self) -> Iterator[None]:
        """Leaves the time spent inside, such as evaluation, out of the lap."""
        start = self.clock()
        yield
        self._excluded += self.clock() - start

    def lap(self) -> tuple[float | None, float]:
        """Ends a lap and starts the next.

        Returns:
            Seconds of the lap, None for the first one, and the seconds of them that were spent waiting.
        """
        now = self.clock()
        elapsed = None if self._began is None else max(now - self._began - self._excluded, 1e-9)
        waited = self._waited
        self._began, self._excluded, self._waited = now, 0.0, 0.0
        return elapsed, waited


class TrainingMeters(WaitClock):
    """Sums over a logging window of one process.

    Args:
        clock: Function that returns seconds; replaced in tests.

    Example:
        >>> import torch
        >>> from clippo.training.meters import TrainingMeters
        >>> meters = TrainingMeters()
        >>> meters.update(loss_per_pair=torch.ones(4), hit_per_pair=torch.tensor([1.0, 1.0, 0.5, 0.0]), image_rows=4)
        >>> meters.read(reduce=lambda sums: sums, processes=1, peak=None)
        {'in_batch_R@1': 0.625, 'pairs': 4, 'skipped': 0}
    """

    FIELDS = ("image_pairs", "text_pairs", "skipped", "flops", "image_loss", "text_loss", "hits")

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        super().__init__(clock)
        self._counts = [0, 0, 0, 0.0]  # known to the host: sending them to the device in every step would wait for it
        self._sums: torch.Tensor | None = None

    def update(
        self,
        loss_per_pair: torch.Tensor,
        hit_per_pair: torch.Tensor,
        image_rows: int,
        skipped: int = 0,
        flops: float | torch.Tensor = 0.0,
    ) -> None:
        """Adds one forward pass.

        Args:
            loss_per_pair: (B,) image-text pairs first, text-text pairs after them.
            hit_per_pair: (B,) share of the two directions in which the partner came first.
            image_rows: Number of image-text pairs.
            skipped: Rows of the data that were skipped to make this batch.
            flops: FLOPs of the model for them, forward and backward.
        """
        loss, hit = loss_per_pair.detach().double(), hit_per_pair.detach().double()
        image, text = loss[:image_rows], loss[image_rows:]
        counts = [len(image), len(text), skipped, 0.0 if isinstance(flops, torch.Tensor) else flops]
        self._counts = [total + count for total, count in zip(self._counts, counts, strict=True)]
        on_device = flops if isinstance(flops, torch.Tensor) else loss.new_zeros(())
        step = torch.stack([on_device.double(), image.sum(), text.sum(), hit.sum()])
        self._sums = step if self._sums is None else self._sums + step

    def read(self, reduce: Callable[[torch.Tensor], torch.Tensor], processes: int, peak: float | None) -> dict:
        """Returns the numbers of the window over all processes and starts the next window.

        Args:
            reduce: Function that sums a tensor over the processes; every process calls it.
            processes: Number of processes.
            peak: FLOP/s of one device, None if unknown.

        Returns:
            `in_batch_R@1`, `pairs` and `skipped` of the window; `image_text_loss` and `text_text_loss` when there are
            both; from the second window on `pairs_per_second`, `data_wait` (share of the time) and, where the peak is
            known, `mfu`. The dict is empty without an update.
        """
        elapsed, waited = self.lap()
        sums, self._sums, counts, self._counts = self._sums, None, self._counts, [0, 0, 0, 0.0]
        if sums is None:
            return {}
        *known, flops = counts
        sums = torch.cat([sums.new_tensor(known), sums, sums.new_tensor([waited])])
        sums[len(known)] += flops
        *totals, wait = reduce(sums).tolist()
        total = dict(zip(self.FIELDS, totals, strict=True))
        pairs = total["image_pairs"] + total["text_pairs"]
        logs = {
            "in_batch_R@1": round(total["hits"] / pairs, 4),
            "pairs": int(pairs),
            "skipped": int(total["skipped"]),
        }
        if total["image_pairs"] and total["text_pairs"]:  # with one kind alone it is the loss itself
            logs["image_text_loss"] = round(total["image_loss"] / total["image_pairs"], 4)
            logs["text_text_loss"] = round(total["text_loss"] / total["text_pairs"], 4)
        if elapsed is not None:
            logs["pairs_per_second"] = round(pairs / elapsed, 1)
            logs["data_wait"] = round(min(wait / processes / elapsed, 1.0), 4)
            if peak:
                logs["mfu"] = round(total["flops"] / (elapsed * peak * processes), 4)
        return logs


class SkippedRows(TrainerCallback, ExportableState):
    """Counts the rows that data sets skipped (a broken image, an empty text) and stops a run that loses too many.

    The count is saved with every checkpoint and continues from there.

    Args:
        max_skipped: Largest share of the rows read that may be skipped, 0..1.
        grace: Number of skipped rows that is always accepted, so that one bad row among the first ten does not end a
            run.

    Raises:
        ValueError: `max_skipped` is not between 0 and 1.

    Example:
        >>> from clippo.training.meters import SkippedRows
        >>> rows = SkippedRows(max_skipped=0.5)
        >>> rows.add(used=30, skipped=2)
        >>> rows.attributes
        {'used': 30, 'skipped': 2}
    """

    def __init__(self, max_skipped: float = 0.05, grace: int = 20):
        if not 0 <= max_skipped <= 1:
            raise ValueError(f"max_skipped={max_skipped} is not a share of the rows; give a number from 0 to 1.")
        self.max_skipped, self.grace = max_skipped, grace
        self.used = self.skipped = 0

    def add(self, used: int, skipped: int) -> None:
        """Adds rows of all processes.

        Raises:
            RuntimeError: Too many rows were skipped.
        """
        self.used += used
        self.skipped += skipped
        seen = self.used + self.skipped
        if self.skipped > self.grace and self.skipped > self.max_skipped * seen:
            raise RuntimeError(
                f"{self.skipped} of {seen} rows could not be used, more than max_skipped={self.max_skipped}; the "
                "warnings above give an example of each kind. Repair the data, or raise max_skipped."
            )

    @property
    def attributes(self) -> dict[str, int]:
        """Saved counts: rows used and rows skipped so far."""
        return {"used": self.used, "skipped": self.skipped}

    def state(self) -> dict:
        return {"args": {"max_skipped": self.max_skipped, "grace": self.grace}, "attributes": self.attributes}

    def on_train_begin(self, args, state, control, **kwargs):
        # Trainer restores callbacks only on demand, and then all of them; this count always continues.
        saved = state.stateful_callbacks.get(type(self).__name__)
        if saved:
            self.used, self.skipped = saved["attributes"]["used"], saved["attributes"]["skipped"]
