"""CPU seconds of a training step at two commits of this repository, in turn.

Each commit is checked out into a folder of its own. A new process of each takes its turn, and the fastest step of all
turns counts, because other programs only ever make a step slower. A step is forward and backward in float32 on one
thread, on random images with captions of 50 characters ("short"), of 1 to 480 ("mixed") or of 480 ("full"). The code
keeps freed memory where it does so in training.

Run: python benchmarks/two_commits.py BEFORE [AFTER] [--rounds 3] [--steps 4]
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

KINDS = ("short", "mixed", "full")

PROGRAM = """
import json, random, sys, time
import torch
from clippo import ClippoConfig, ClippoModel
from clippo.processing import TextRenderer
try:
    from clippo.training.memory import keep_freed_memory
    keep_freed_memory(torch.device("cpu"))
except ImportError:
    pass

steps, batch, width, depth = map(int, sys.argv[1:5])
torch.set_num_threads(1)
torch.manual_seed(0)
rng = random.Random(0)
words = "a photo of the small red dog sitting on grassy field with two children playing near an old house".split()

def caption(length):
    text = rng.choice(words)
    while len(text) < length - 4:
        text += " " + rng.choice(words)
    return text

config = ClippoConfig(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=depth, projection_dim=width,
                      num_attention_heads=max(1, width // 64), image_size=224, skip_blank_patches=True)
model = ClippoModel._from_config(config, attn_implementation="sdpa").train()
images = torch.rand(batch, 3, 224, 224) * 2 - 1
render = TextRenderer(canvas_size=224)
best = {}
for kind, (low, high) in {"short": (50, 50), "mixed": (1, 480), "full": (480, 480)}.items():
    canvases = torch.from_numpy(render([caption(rng.randint(low, high)) for _ in range(batch)], "packed").canvases)
    for turn in range(steps + 1):  # the first is warm-up
        model.zero_grad()
        start = time.process_time()
        model(images, canvases, return_loss=True).loss.backward()
        if turn:
            best[kind] = min(best.get(kind, 1e9), time.process_time() - start)
print(json.dumps(best))
"""


def measure(folder: Path, args: argparse.Namespace) -> dict[str, float]:
    """Returns the fastest step of one process, by kind of captions."""
    numbers = [str(number) for number in (args.steps, args.batch_size, args.width, args.depth)]
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *numbers], cwd=folder, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(run.stdout.splitlines()[-1])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("before", help="Commit.")
    parser.add_argument("after", nargs="?", default="HEAD", help="Commit.")
    parser.add_argument("--rounds", type=int, default=3, help="Processes of each commit.")
    parser.add_argument("--steps", type=int, default=4, help="Timed steps of a process and kind of captions.")
    parser.add_argument("--batch_size", type=int, default=32, help="Pairs a step.")
    parser.add_argument("--width", type=int, default=192, help="Width of the tower.")
    parser.add_argument("--depth", type=int, default=6, help="Blocks of the tower.")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    root = Path(__file__).resolve().parent.parent
    best: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders = {name: Path(scratch, name) for name in ("before", "after")}
        for name, folder in folders.items():
            add = ["git", "-C", str(root), "worktree", "add", "--detach", str(folder), getattr(args, name)]
            subprocess.run(add, check=True, capture_output=True)
        try:
            for turn in range(args.rounds):
                for name, folder in folders.items():
                    found = measure(folder, args)
                    best[name] = {kind: min(s, best.get(name, found)[kind]) for kind, s in found.items()}
                    print(f"round {turn + 1} of {args.rounds}, {name}: {found}", flush=True)
        finally:
            for folder in folders.values():
                subprocess.run(["git", "-C", str(root), "worktree", "remove", "--force", str(folder)], check=True)
    print("\n| captions | before, s | after, s | |\n|---|---:|---:|---:|")
    for kind in KINDS:
        before, after = best["before"][kind], best["after"][kind]
        print(f"| {kind} | {before:.2f} | {after:.2f} | {before / after:.2f}x |")


if __name__ == "__main__":
    main()
