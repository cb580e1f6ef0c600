"""Texts a second of the small emoji model: many images of 80 pixels, a dozen short texts for each.

One step is forward, backward, clipping and AdamW on tensors that are on the device. Names of one to three words ink
four patches in the mean. --profile lists the kernels that take most of the time. A GPU computes under bf16 autocast.

Run: python benchmarks/emoji_step.py [--images 1828] [--texts_per_image 12] [--compiled] [--profile] [--device cuda]
"""

import argparse
import random
import statistics
import time

import torch
from torch.profiler import ProfilerActivity, profile

from clippo import ClippoConfig, ClippoModel
from clippo.modeling_clippo.patches_clippo import inked_patches
from clippo.processing import TextRenderer
from clippo.training.flops import BACKWARD, flops_per_image
from clippo.training.meters import peak_flops

WORDS = (
    "red",
    "dog",
    "face",
    "hand",
    "house",
    "flag",
    "small",
    "green",
    "apple",
    "moon",
    "stars",
    "open",
    "book",
    "fire",
)
TOP_KERNELS = 12


class EmojiStep:
    """Model, optimizer and tensors of a step."""

    def __init__(self, args: argparse.Namespace):
        torch.manual_seed(0)
        self.device = args.device
        config = ClippoConfig.from_preset(
            "Ti/16", hidden_size=256, intermediate_size=1024, num_hidden_layers=args.depth, num_attention_heads=4,
            image_size=80, projection_dim=256,
        )  # fmt: skip
        rng = random.Random(0)
        count = args.images * args.texts_per_image
        names = [" ".join(rng.choices(WORDS, k=rng.choice((1, 1, 2, 3)))) for _ in range(count)]
        texts = torch.from_numpy(TextRenderer(canvas_size=80)(names, "packed").canvases)
        inked = inked_patches(texts, config.patch_size, 1).sum(1).tolist()
        self.texts = texts.to(args.device)
        self.images = torch.randint(0, 256, (args.images, 3, 80, 80), dtype=torch.uint8).to(args.device)
        forward = args.images * flops_per_image(config) + sum(flops_per_image(config, patches) for patches in inked)
        self.flops = (1 + BACKWARD) * forward
        self.model = ClippoModel(config).to(args.device).train()
        if args.compiled:
            self.model.compile_blocks()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        parameters, patches = sum(p.numel() for p in self.model.parameters()), statistics.mean(inked)
        print(f"{parameters / 1e6:.1f} M parameters; {args.images} images, {count} texts of {patches:.1f} patches")

    def __call__(self) -> None:
        self.optimizer.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            loss = self.model(self.images, self.texts, return_loss=True).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if self.device == "cuda":
            torch.cuda.synchronize()


def report_kernels(step: EmojiStep) -> None:
    """Prints the kernels of one step with their share of the device's time."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (step.device == "cuda")
    with profile(activities=activities) as profiler:
        step()
    time_of = "self_device_time_total" if step.device == "cuda" else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, time_of))
    total = sum(getattr(event, time_of) for event in events)
    print(f"{total / 1e3:.1f} ms")
    for event in events[:TOP_KERNELS]:
        own = getattr(event, time_of)
        print(f"  {own / total:6.1%} {own / 1e3:9.2f} ms {event.count:6d} x {event.key[:90]}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=64, help="Images a step; all emoji of the recipe are 1828.")
    parser.add_argument("--texts_per_image", type=int, default=12, help="Texts an image.")
    parser.add_argument("--depth", type=int, default=6, help="Blocks of the tower.")
    parser.add_argument("--rounds", type=int, default=5, help="Timed steps; the median counts.")
    parser.add_argument("--compiled", action="store_true", help="Compile the blocks and the head.")
    parser.add_argument("--profile", action="store_true", help="List the kernels of a step.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="Device.")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.set_num_threads(1)
    step = EmojiStep(args)
    clock = time.perf_counter if args.device == "cuda" else time.process_time
    seconds = []
    for turn in range(args.rounds + 2):  # two of them are warm-up
        start = clock()
        step()
        if turn > 1:
            seconds.append(clock() - start)
    median, count = statistics.median(seconds), args.images * args.texts_per_image
    peak = peak_flops(torch.device(args.device))
    mfu = f", MFU {step.flops / median / peak:.3f}" if peak else ""
    print(f"{count / median:,.0f} texts/s, {median * 1e3:.1f} ms a step{mfu}")
    if args.profile:
        report_kernels(step)


if __name__ == "__main__":
    main()
