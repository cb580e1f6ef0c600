"""The data side of a training step: bytes of a batch, epoch boundaries, random views, JPEG decoding.

python benchmarks/data.py
python benchmarks/data.py --device cuda
"""

import argparse
import io
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image
from torch.utils.data import DataLoader

from clippo.data import PhotoViews
from clippo.data.grey_levels import images_as_levels
from clippo.data.samples import read_image
from clippo.data.sampling import EndlessKeys, KeyedDataset, as_key
from clippo.emoji import RandomView
from clippo.processing import ClippoImageProcessor
from clippo.training.endless import make_endless


class Rows(KeyedDataset):
    """A tiny data set: the batches of an epoch are read in no time."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, key) -> int:
        return as_key(key).row


def boundaries(workers: int, epochs: int) -> None:
    """Seconds from the last batch of an epoch to the first of the next."""
    for name in ("a loader that ends with each epoch", "one run over all epochs"):
        sampler = Rows().train_sampler(2, seed=0)
        endless = name.startswith("one")
        sampler = EndlessKeys(sampler) if endless else sampler
        loader = DataLoader(Rows(), batch_size=2, sampler=sampler, drop_last=True, num_workers=workers)
        loader = Accelerator(cpu=True).prepare(loader)
        loader = make_endless(loader) if endless else loader
        waits = []
        for epoch in range(epochs):
            loader.set_epoch(epoch)
            start = time.perf_counter()
            batches = iter(loader)
            next(batches)
            waits.append(time.perf_counter() - start)
            for _ in batches:
                time.sleep(0.02)  # a step
        print(f"{workers} workers, {name}: {np.median(waits[1:]) * 1e3:.1f} ms (median of {epochs - 1} boundaries)")


def per_second(run: Callable[[], object], count: int, device: torch.device, rounds: int) -> float:
    """Items a second, of the fastest round. CPU seconds on a CPU."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    best = float("inf")
    for _ in range(rounds):
        start = clock()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, clock() - start)
    return count / best


def views(device: torch.device, count: int, rounds: int) -> None:
    """Random views a second, and how far the pictures of the device are from those of a CPU."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (count, 136, 136, 4), dtype=torch.uint8, generator=generator)
    photos = torch.randint(0, 256, (count, 3, 224, 224), dtype=torch.uint8, generator=generator)
    for name, view, images in (
        ("emoji 136 -> 80", RandomView(80, dtype=torch.uint8), pictures),
        ("photographs 224, flip and crop", PhotoViews(224, crop=0.5), photos),
    ):
        draws = view.draw(range(count))
        there, moved = images.to(device), draws.to(device)
        rate = per_second(lambda v=view, i=there, d=moved: v.views(i, d), count, device, rounds)
        print(f"{name}: {rate:,.0f} views a second on {device}")
        if device.type != "cpu":
            difference = (view.views(there, moved).cpu().int() - view.views(images, draws).int()).abs()
            share = (difference > 0).float().mean().item()
            print(f"  beside the CPU: at most {difference.max().item()} grey levels, {share:.1e} of the values differ")


def jpeg(rounds: int) -> None:
    """Milliseconds to decode and resize a photograph, whole and with `jpeg_side`."""
    processor = ClippoImageProcessor(size=224)
    for width, height in ((640, 480), (1024, 768), (2048, 1536)):
        y, x = np.mgrid[:height, :width]
        noise = np.random.default_rng(0).integers(0, 40, (height, width))
        pixels = np.stack([x * 200 / width, y * 200 / height, (x + y) % 200], -1) + noise[..., None]
        Image.fromarray(pixels.astype(np.uint8)).save(stream := io.BytesIO(), "JPEG", quality=90)
        cell = stream.getvalue()

        def read(side: int | None, cell: bytes = cell) -> torch.Tensor:
            return images_as_levels(processor, [read_image(cell, side)])

        cpu = torch.device("cpu")
        whole, small = (1e3 / per_second(partial(read, side), 1, cpu, rounds) for side in (None, 224))
        print(f"JPEG {width} x {height}: {whole:.1f} ms, with jpeg_side 224 {small:.1f} ms, {whole / small:.2f}x")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--count", type=int, default=256, help="images of a batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=9)
    args = parser.parse_args()
    torch.set_num_threads(1)
    side = 3 * 80 * 80
    print(
        f"1,828 emoji in a batch: float32 {1828 * side * 4 / 1e6:.0f} MB, uint8 {1828 * side / 1e6:.0f} MB, "
        f"numbers and draws {1828 * (8 + 8 * 4) / 1e6:.2f} MB"
    )
    boundaries(2, args.epochs)
    views(torch.device(args.device), args.count, args.rounds)
    jpeg(args.rounds)


if __name__ == "__main__":
    main()
