"""A training step on cached image vectors beside steps that read the images, in one run.

* cached: image vectors are given (`image_embeds`), the tower reads texts only.
* locked: a second tower, frozen, reads the images.
* separate: a second tower, trained, reads the images.
* shared: the one tower reads images and texts.

A step is forward, backward and AdamW on random images with captions of about 50 characters. Every measurement runs in
a process of its own, so that its peak memory is its own; rounds are interleaved, and the median counts. On a CPU one
thread computes, times are its CPU seconds, and memory is what the process holds beyond the models and libraries. On a
GPU times are wall seconds under bf16 autocast, and memory is the peak of the allocator.

Run: python benchmarks/locked_step.py [--preset S/16] [--batch_size 64] [--steps 5] [--rounds 3] [--device cuda]
"""

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext

import torch

from clippo import ClippoConfig, ClippoModel, ClippoTokenizer

ARMS = ("cached", "locked", "separate", "shared")
WORDS = """a photo of the small red dog sitting on grassy field with two children playing near an old wooden house
under blue sky while their mother reads some book about birds and rivers in northern countries"""
SHORT = 50  # characters


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="S/16", help="Size and patch of the towers.")
    parser.add_argument("--batch_size", type=int, default=64, help="Pairs of a step.")
    parser.add_argument("--steps", type=int, default=5, help="Timed steps of a measurement.")
    parser.add_argument("--rounds", type=int, default=3, help="Measurements of each kind of step.")
    parser.add_argument("--device", default="cpu", help="cpu or cuda.")
    parser.add_argument("--image_size", type=int, default=224, help="Side of the canvas in pixels.")
    parser.add_argument("--arm", choices=ARMS, help="Measure one kind of step in this process and print it as JSON.")
    return parser.parse_args()


def captions(count: int, image_size: int) -> torch.Tensor:
    """Canvases of captions that end at the first word beyond `SHORT` characters."""
    generator, texts = random.Random(0), []
    for _ in range(count):
        text = ""
        while len(text) < SHORT:
            text += generator.choice(WORDS.split()) + " "
        texts.append(text.strip())
    return ClippoTokenizer(canvas_size=image_size)(texts, return_tensors="pt")["text_pixel_values"]


def measure(args: argparse.Namespace) -> dict[str, float]:
    """Seconds of a step and bytes of memory, of one kind of step."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    tower = {"cached": dict(image_tower="given", project_images=False)}.get(args.arm, {"image_tower": args.arm})
    config = ClippoConfig.from_preset(args.preset, image_size=args.image_size, **tower)
    model = ClippoModel(config).to(args.device).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    texts = captions(args.batch_size, args.image_size).to(args.device)
    if args.arm == "cached":
        images = {"image_embeds": torch.randn(args.batch_size, config.projection_dim, device=args.device)}
    else:
        size = (args.batch_size, 3, args.image_size, args.image_size)
        images = {"pixel_values": torch.rand(size, device=args.device) * 2 - 1}
    cuda = args.device != "cpu"
    clock = time.perf_counter if cuda else time.process_time
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    times = []
    for _ in range(args.steps + 1):
        start = clock()
        with torch.autocast("cuda", torch.bfloat16) if cuda else nullcontext():
            loss = model(**images, text_pixel_values=texts, return_loss=True).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if cuda:
            torch.cuda.synchronize()
        times.append(clock() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    peak = torch.cuda.max_memory_allocated() if cuda else peak
    # The first step sets up the optimizer and the libraries.
    return {"seconds": statistics.median(times[1:]), "bytes": peak}


def main() -> None:
    args = parse()
    if args.arm:
        print(json.dumps(measure(args)))
        return
    found: dict[str, list[dict]] = {arm: [] for arm in ARMS}
    for _ in range(args.rounds):
        for arm in ARMS:
            words = [sys.executable, *sys.argv, "--arm", arm]
            output = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[arm].append(json.loads(output.splitlines()[-1]))
    where = torch.cuda.get_device_name() if args.device != "cpu" else "one CPU thread"
    print(f"{args.preset}, canvas {args.image_size}, batch {args.batch_size}, {where}, torch {torch.__version__}\n")
    print("| step | pairs/s | memory of the step, MiB |\n|---|---|---|")
    for arm, results in found.items():
        seconds = statistics.median(result["seconds"] for result in results)
        memory = statistics.median(result["bytes"] for result in results)
        print(f"| {arm} | {args.batch_size / seconds:.1f} | {memory / 2**20:.0f} |")


if __name__ == "__main__":
    main()
