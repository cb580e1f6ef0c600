"""What a contrastive run is watched by: throughput, waiting for data, utilisation, both losses, in-batch R@1.

Sums are kept on the device and read once a log, so that no step waits for a number to arrive.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

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
    """Dense bf16 FLOP/s of the device; None where it is not known, as for CPUs."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_FLOPS.items() if part in name), None)


class TrainingMeters:
    """Sums over a logging window of one process.

    Args:
        clock: Seconds; replaced in tests.
    """

    FIELDS = ("image_pairs", "image_loss", "text_pairs", "text_loss", "hits", "skipped", "flops")

    def __init__(self, clock: Callable[[], float] = time.perf_counter):
        self.clock = clock
        self.waited = 0.0
        self._excluded = 0.0
        self._began: float | None = None  # the first window has no beginning: start-up is not throughput
        self._sums: torch.Tensor | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time spent in here is waiting for the next batch."""
        start = self.clock()
        yield
        self.waited += self.clock() - start

    @contextmanager
    def excluded(self) -> Iterator[None]:
        """Time spent in here, such as evaluation, does not count as training."""
        start = self.clock()
        yield
        self._excluded += self.clock() - start

    def update(
        self,
        loss_per_pair: torch.Tensor,
        hit_per_pair: torch.Tensor,
        image_rows: int,
        skipped: int = 0,
        flops: float = 0.0,
    ) -> None:
        """One forward pass.

        Args:
            loss_per_pair: (B,) image-text pairs first, text-text pairs after them.
            hit_per_pair: (B,) share of the two directions in which the partner came first.
            image_rows: How many of them are image-text pairs.
            skipped: Rows of the data that were passed over to make this batch.
            flops: What the model computed for them, forward and backward.
        """
        loss, hit = loss_per_pair.detach().double(), hit_per_pair.detach().double()
        image, text = loss[:image_rows], loss[image_rows:]
        known = loss.new_tensor([len(image), 0, len(text), 0, 0, skipped, flops])
        zero = loss.new_zeros(())
        step = known + torch.stack([zero, image.sum(), zero, text.sum(), hit.sum(), zero, zero])
        self._sums = step if self._sums is None else self._sums + step

    def read(self, reduce: Callable[[torch.Tensor], torch.Tensor], processes: int, peak: float | None) -> dict:
        """The window's numbers, over all processes; starts the next window.

        Args:
            reduce: Sums a tensor over the processes; every process calls it.
            processes: Their number.
            peak: FLOP/s of one device, None if unknown.

        Returns:
            `in_batch_R@1`, `pairs` and `skipped` of the window; `image_text_loss` and `text_text_loss` when there are
            both; from the second window on `pairs_per_second`, `data_wait` (share of the time) and, where the peak is
            known, `mfu`. Nothing at all without an update.
        """
        now = self.clock()
        elapsed = None if self._began is None else max(now - self._began - self._excluded, 1e-9)
        waited, sums = self.waited, self._sums
        self._began, self._excluded, self.waited, self._sums = now, 0.0, 0.0, None
        if sums is None:
            return {}
        *totals, wait = reduce(torch.cat([sums, sums.new_tensor([waited])])).tolist()
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
