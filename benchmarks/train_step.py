"""Pairs per second of one training step of CLIPPO and CLIP at equal size, side by side in one run.

* ClippoModel that reads every patch of a text canvas.
* ClippoModel with `skip_blank_patches`.
* transformers' CLIPModel with a vision tower of the same width, depth and patch, and a text tower of the same width and
  depth with CLIP's 77 tokens and vocabulary.
* open_clip's CLIP of the same shape, where that package is installed.

A step is forward, backward and AdamW on random images with captions of about 50 characters ("short") or as long as the
canvas ("full"). "texts" is the text side alone, forward and backward. Rounds are interleaved and the median counts.
On a CPU, one thread computes and times are its CPU seconds, so that other work on the machine disturbs little. On a
GPU they are wall seconds under bf16 autocast.

Run: python benchmarks/train_step.py [--batch_size 16] [--rounds 5] [--attention sdpa eager] [--device cuda]
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel

from clippo import ClippoConfig, ClippoModel
from clippo.modeling_clippo.patches_clippo import inked_patches
from clippo.processing import TextRenderer

WORDS = """a photo of the small red dog sitting on grassy field with two children playing near an old wooden house
under blue sky while their mother reads some book about birds and rivers in northern countries"""
SHORT, FULL = 50, 480  # characters; the second fills a canvas of 224 pixels
CLIP_TOKENS, CLIP_VOCABULARY = 77, 49408

Step = Callable[[str], torch.Tensor]  # kind of captions -> scalar for backward


def captions(length: int, count: int, rng: random.Random) -> list[str]:
    texts = []
    for _ in range(count):
        text = rng.choice(WORDS.split())
        while len(text) < length - 4:
            text += " " + rng.choice(WORDS.split())
        texts.append(text)
    return texts


class Contender:
    """A model with its pair step, its text side and their measured seconds."""

    def __init__(self, name: str, attention: str, model: nn.Module, pair: Step, text: Step):
        self.name, self.attention, self.model = name, attention, model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        self.runs = {"texts": text, "pairs": pair}
        self.seconds: dict[tuple[str, str], list[float]] = {}

    def step(self, what: str, kind: str) -> None:
        self.optimizer.zero_grad()
        self.runs[what](kind).backward()
        if what == "pairs":
            self.optimizer.step()


def clippo_contender(args, config: ClippoConfig, attention: str, images, canvases, skip: bool) -> Contender:
    config = ClippoConfig(**{**config.to_dict(), "skip_blank_patches": skip})
    model = ClippoModel._from_config(config, attn_implementation=attention).to(args.device).train()

    def pair(kind: str) -> torch.Tensor:
        return model(images, canvases[kind], return_loss=True).loss

    def text(kind: str) -> torch.Tensor:
        return model.get_text_features(canvases[kind]).pooler_output.sum()

    return Contender("clippo, blank patches skipped" if skip else "clippo, all patches", attention, model, pair, text)


def clip_contender(args, config: ClippoConfig, attention: str, images, tokens) -> Contender:
    shape = dict(
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
    )
    clip = CLIPConfig(
        text_config=dict(vocab_size=CLIP_VOCABULARY, max_position_embeddings=CLIP_TOKENS, **shape),
        vision_config=dict(image_size=config.image_size, patch_size=config.patch_size, **shape),
        projection_dim=config.projection_dim,
    )
    model = CLIPModel._from_config(clip, attn_implementation=attention).to(args.device).train()

    def pair(kind: str) -> torch.Tensor:
        return model(input_ids=tokens, pixel_values=images, return_loss=True).loss

    def text(kind: str) -> torch.Tensor:
        return model.get_text_features(input_ids=tokens).pooler_output.sum()

    return Contender("transformers CLIPModel", attention, model, pair, text)


def open_clip_contender(args, config: ClippoConfig, images, tokens) -> Contender | None:
    try:
        import open_clip
    except ImportError:
        return None
    heads, width = config.num_attention_heads, config.hidden_size
    vision = dict(
        image_size=config.image_size,
        patch_size=config.patch_size,
        width=width,
        layers=config.num_hidden_layers,
        head_width=width // heads,
    )
    text_tower = dict(
        context_length=CLIP_TOKENS,
        vocab_size=CLIP_VOCABULARY,
        width=width,
        heads=heads,
        layers=config.num_hidden_layers,
    )
    model = open_clip.model.CLIP(config.projection_dim, vision, text_tower).to(args.device).train()
    loss = open_clip.ClipLoss()

    def pair(kind: str) -> torch.Tensor:
        return loss(*model(images, tokens)[:3])

    def text(kind: str) -> torch.Tensor:
        return model.encode_text(tokens).sum()

    return Contender("open_clip CLIP", "its own", model, pair, text)


def measure(args, contenders: list[Contender]) -> None:
    cuda = args.device == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    for turn in range(args.rounds + 1):  # the first round is warm-up
        for what in ("texts", "pairs"):
            for kind in ("short", "full"):
                for contender in contenders:
                    start = clock()
                    with torch.autocast("cuda", torch.bfloat16, enabled=cuda):
                        contender.step(what, kind)
                    if cuda:
                        torch.cuda.synchronize()
                    if turn:
                        contender.seconds.setdefault((what, kind), []).append(clock() - start)


def report(args, contenders: list[Contender]) -> None:
    columns = [(what, kind) for what in ("texts", "pairs") for kind in ("short", "full")]

    def rates(contender: Contender) -> list[float]:
        return [args.batch_size / statistics.median(contender.seconds[column]) for column in columns]

    head = [f"{what}/s, {kind}" for what, kind in columns]
    print("| model | attention | parameters | " + " | ".join(head) + " |")
    print("|---|---|---:|" + "---:|" * len(columns))
    for contender in contenders:
        millions = sum(p.numel() for p in contender.model.parameters()) / 1e6
        cells = " | ".join(f"{rate:.1f}" for rate in rates(contender))
        print(f"| {contender.name} | {contender.attention} | {millions:.1f} M | {cells} |")
    print("\nblank patches skipped, as a multiple of\n")
    print("| model | attention | " + " | ".join(f"{what}, {kind}" for what, kind in columns) + " |")
    print("|---|---|" + "---:|" * len(columns))
    skipping = {c.attention: rates(c) for c in contenders if c.name.endswith("skipped")}
    for contender in contenders:
        if not contender.name.endswith("skipped"):
            rate = skipping.get(contender.attention, next(iter(skipping.values())))
            ratios = [a / b for a, b in zip(rate, rates(contender), strict=True)]
            print(f"| {contender.name} | {contender.attention} | " + " | ".join(f"{x:.2f}x" for x in ratios) + " |")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=192, help="Width of the towers.")
    parser.add_argument("--depth", type=int, default=6, help="Blocks of the towers.")
    parser.add_argument("--image_size", type=int, default=224, help="Side of the canvas in pixels.")
    parser.add_argument("--batch_size", type=int, default=16, help="Pairs a step.")
    parser.add_argument("--rounds", type=int, default=5, help="Timed rounds; the median counts.")
    parser.add_argument("--attention", nargs="+", default=["sdpa", "eager"], help="Attention backends.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="Device.")
    return parser.parse_args()


def draw_captions(args, config: ClippoConfig) -> dict[str, torch.Tensor]:
    """Returns packed canvases by kind of captions and prints how many patches they ink."""
    rng = random.Random(0)
    render = TextRenderer(canvas_size=args.image_size)
    lengths = {"short": SHORT, "full": FULL * args.image_size**2 // 224**2}
    canvases = {}
    rows, columns = config.patch_grid
    for kind, length in lengths.items():
        drawn = render(captions(length, args.batch_size, rng), "packed").canvases
        canvases[kind] = torch.from_numpy(drawn).to(args.device)
        inked = inked_patches(canvases[kind], config.patch_size, 1).sum(1).float().mean()
        print(f"{kind}: {length} characters ink {inked:.0f} of {rows * columns} patches")
    return canvases


def main() -> None:
    args = parse_arguments()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = ClippoConfig(
        hidden_size=args.width,
        intermediate_size=4 * args.width,
        num_hidden_layers=args.depth,
        num_attention_heads=args.width // 64,
        image_size=args.image_size,
        projection_dim=args.width,
    )
    where = torch.cuda.get_device_name() if args.device == "cuda" else "one CPU thread, float32"
    print(f"{where}; batch {args.batch_size}, width {args.width}, depth {args.depth}, {args.image_size} px, patch 16")
    canvases = draw_captions(args, config)
    images = torch.rand(args.batch_size, 3, args.image_size, args.image_size, device=args.device) * 2 - 1
    tokens = torch.randint(1, CLIP_VOCABULARY - 1, (args.batch_size, CLIP_TOKENS), device=args.device)
    tokens[:, -1] = CLIP_VOCABULARY - 1  # end of the text, where CLIP pools

    contenders = []
    for attention in args.attention:
        contenders += [
            clippo_contender(args, config, attention, images, canvases, skip=False),
            clippo_contender(args, config, attention, images, canvases, skip=True),
            clip_contender(args, config, attention, images, tokens),
        ]
    open_clip = open_clip_contender(args, config, images, tokens)
    print(f"CLIP reads {CLIP_TOKENS} tokens" + ("; open_clip: not installed\n" if open_clip is None else "\n"))
    contenders += [open_clip] if open_clip else []
    measure(args, contenders)
    report(args, contenders)


if __name__ == "__main__":
    main()
