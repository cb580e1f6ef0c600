"""Training steps of CLIPPO, CLIP and SigLIP at equal size, side by side in one run.

* ClippoModel that skips blank patches: images and inked patches of texts are one packed sequence.
* ClippoModel that reads every patch of a text canvas.
* transformers' CLIPModel and SiglipModel with two towers of the same width and depth, and 77 or 64 tokens of text.
* open_clip's CLIP of the same shape, where that package is installed.

A step is forward, backward, clipping and AdamW on random images with captions of about 50 characters ("short"), of 1 to
480 ("mixed") or as long as the canvas ("full"). "texts" is the text side alone, forward and backward. The median of
interleaved rounds counts: CPU seconds of one thread, or wall seconds of a GPU under bf16 autocast. --compiled compiles
the blocks of every model, and the head of CLIPPO. --models leaves a GPU's memory to one large model.

Operations are the `aten::` events with CPU time of their own in one step under bf16 autocast, without optimizer. Reads
are the operations with which the host reads a number of the device and waits for it. A CPU also counts both on the path
that a GPU takes. There the attention kernel, which runs on CUDA only, is replaced by a stand-in of one operation.

Run: python benchmarks/train_step.py [--batch_size 16] [--rounds 3] [--attention sdpa eager] [--compiled]
    [--device cuda] [--peak_tflops 989]
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from clippo import ClippoConfig, ClippoModel
from clippo.modeling_clippo import attention_clippo, embeddings_clippo
from clippo.modeling_clippo.patches_clippo import inked_patches
from clippo.processing import TextRenderer
from clippo.training.flops import BACKWARD, flops_per_image
from clippo.training.memory import keep_freed_memory
from clippo.training.meters import peak_flops

WORDS = """a photo of the small red dog sitting on grassy field with two children playing near an old wooden house
under blue sky while their mother reads some book about birds and rivers in northern countries"""
SHORT, FULL = 50, 480  # characters; the second fills a canvas of 224 pixels
KINDS = ("short", "mixed", "full")
MODELS = ("clippo", "clippo_all_patches", "clip", "siglip", "open_clip")
CLIP_TOKENS, CLIP_VOCABULARY = 77, 49408
SIGLIP_TOKENS, SIGLIP_VOCABULARY = 64, 32000
BLOCKS = ("ResidualAttentionBlock", "CLIPEncoderLayer", "SiglipEncoderLayer")
WAITS = ("aten::nonzero", "aten::_local_scalar_dense", "aten::item")

Step = Callable[[torch.Tensor], torch.Tensor]  # canvases of the captions -> scalar for backward


class Contender:
    """A model with its pair step, its text side, its FLOPs and what was measured."""

    def __init__(self, name: str, model: nn.Module, pair: Step, text: Step, flops: dict[str, float]):
        self.name, self.model = name, model
        self.runs = {"texts": text, "pairs": pair}
        self.flops = flops  # of a pair step, by kind of captions
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=next(model.parameters()).is_cuda)
        self.seconds: dict[tuple[str, str], list[float]] = {}
        self.memory = 0  # bytes

    def backward(self, what: str, canvases: torch.Tensor) -> None:
        self.optimizer.zero_grad()
        self.runs[what](canvases).backward()

    def step(self, what: str, canvases: torch.Tensor) -> None:
        self.backward(what, canvases)
        if what == "pairs":
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()

    def compile(self) -> None:
        """Compile the blocks, each alone. CLIPPO also compiles its head."""
        self.name += ", compiled"
        if isinstance(self.model, ClippoModel):
            self.model.compile_blocks()
        for block in self.model.modules():
            if type(block).__name__ in BLOCKS:
                block.compile()


class HostReads(TorchDispatchMode):
    """Counts the operations with which the host reads a number of the device."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function._schema.name in WAITS
        return function(*args, **(kwargs or {}))

    @contextmanager
    def and_lists(self) -> Iterator[None]:
        """Also count `tolist`, which dispatches nothing for a tensor of the CPU."""
        read = torch.Tensor.tolist

        def tolist(tensor: torch.Tensor) -> list:
            self.count += 1
            return read(tensor)

        with self, mock.patch.object(torch.Tensor, "tolist", tolist):
            yield


class StandInAttention(torch.autograd.Function):
    """One operation in the place of a CUDA kernel. Its numbers mean nothing."""

    @staticmethod
    def forward(ctx, query, key, value):
        ctx.save_for_backward(key, value)
        return query.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient, *(torch.empty_like(saved) for saved in ctx.saved_tensors)


@contextmanager
def path_of_a_gpu() -> Iterator[None]:
    """The path of CUDA in bf16, on a CPU, with a stand-in for the attention kernels."""

    def kernel(query, key, value, *lengths, **options):
        return StandInAttention.apply(query, key, value)

    backend = mock.patch.object(embeddings_clippo, "packed_backend", return_value="tiles")
    ragged = mock.patch.object(attention_clippo, "varlen_attn", kernel)
    dense = mock.patch.object(nn.functional, "scaled_dot_product_attention", kernel)
    with backend, ragged, dense:
        yield


def clippo_contender(args, config: ClippoConfig, attention: str, images, lengths, skip: bool) -> Contender:
    config = ClippoConfig(**{**config.to_dict(), "skip_blank_patches": skip})
    model = ClippoModel._from_config(config, attn_implementation=attention).to(args.device).train()
    rows, columns = config.patch_grid

    def pair(canvases: torch.Tensor) -> torch.Tensor:
        return model(images, canvases, return_loss=True).loss

    def text(canvases: torch.Tensor) -> torch.Tensor:
        return model.get_text_features(canvases).pooler_output.sum()

    flops = {}
    for kind, inked in lengths.items():
        texts = sum(flops_per_image(config, patches if skip else rows * columns) for patches in inked)
        flops[kind] = (1 + BACKWARD) * (len(inked) * flops_per_image(config) + texts)
    name = "clippo, blank patches skipped" if skip else "clippo, all patches"
    return Contender(f"{name} ({attention})", model, pair, text, flops)


def two_towers_flops(args, config: ClippoConfig, text_tokens: int) -> dict[str, float]:
    """FLOPs of a step of two towers by the convention of `clippo.training.flops`. Pooling is left out."""
    width, rows_columns = config.hidden_size, config.patch_grid
    patches = rows_columns[0] * rows_columns[1]

    def blocks(tokens: int) -> float:
        products = 8 * tokens * width * width + 4 * tokens * width * config.intermediate_size
        return config.num_hidden_layers * (products + 4 * tokens * tokens * width)

    embedding = 2 * patches * config.num_channels * config.patch_size**2 * width
    step = (1 + BACKWARD) * args.batch_size * (embedding + blocks(patches) + blocks(text_tokens))
    return dict.fromkeys(KINDS, step)


def shape_of(config: ClippoConfig) -> dict[str, int]:
    """Fields of one tower in the configs of transformers."""
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    return {name: getattr(config, name) for name in names}


def transformers_contender(args, config: ClippoConfig, attention: str, images, kind: type) -> Contender:
    """CLIPModel or SiglipModel."""
    is_clip, shape = kind is CLIPModel, shape_of(config)
    tokens, vocabulary = (CLIP_TOKENS, CLIP_VOCABULARY) if is_clip else (SIGLIP_TOKENS, SIGLIP_VOCABULARY)
    text_config = dict(vocab_size=vocabulary, max_position_embeddings=tokens, **shape)
    vision_config = dict(image_size=config.image_size, patch_size=config.patch_size, **shape)
    if is_clip:
        both = CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=config.projection_dim)
    else:
        both = SiglipConfig(
            text_config=text_config | dict(projection_size=config.hidden_size), vision_config=vision_config
        )
    model = kind._from_config(both, attn_implementation=attention).to(args.device).train()
    ids = random_ids(args, tokens, vocabulary)

    def pair(canvases: torch.Tensor) -> torch.Tensor:
        return model(input_ids=ids, pixel_values=images, return_loss=True).loss

    def text(canvases: torch.Tensor) -> torch.Tensor:
        return model.get_text_features(input_ids=ids).pooler_output.sum()

    flops = two_towers_flops(args, config, tokens)
    return Contender(f"transformers {kind.__name__} ({attention})", model, pair, text, flops)


def open_clip_contender(args, config: ClippoConfig, images) -> Contender | None:
    try:
        import open_clip
    except ImportError:
        return None
    heads, width, layers = config.num_attention_heads, config.hidden_size, config.num_hidden_layers
    tower = dict(width=width, layers=layers)
    vision = dict(image_size=config.image_size, patch_size=config.patch_size, head_width=width // heads, **tower)
    text_tower = dict(context_length=CLIP_TOKENS, vocab_size=CLIP_VOCABULARY, heads=heads, **tower)
    model = open_clip.model.CLIP(config.projection_dim, vision, text_tower).to(args.device).train()
    loss, ids = open_clip.ClipLoss(), random_ids(args, CLIP_TOKENS, CLIP_VOCABULARY)

    def pair(canvases: torch.Tensor) -> torch.Tensor:
        return loss(*model(images, ids)[:3])

    def text(canvases: torch.Tensor) -> torch.Tensor:
        return model.encode_text(ids).sum()

    return Contender("open_clip CLIP", model, pair, text, two_towers_flops(args, config, CLIP_TOKENS))


def random_ids(args, tokens: int, vocabulary: int) -> torch.Tensor:
    """int64 (B, tokens). The last one is the end of the text, where CLIP pools."""
    ids = torch.randint(1, vocabulary - 1, (args.batch_size, tokens), device=args.device)
    ids[:, -1] = vocabulary - 1
    return ids


def makers(args, config: ClippoConfig, attention: str, images, lengths) -> dict[str, Callable[[], Contender]]:
    """Functions that make the contenders with a choice of attention, by the names of --models."""
    return {
        "clippo": lambda: clippo_contender(args, config, attention, images, lengths, True),
        "clippo_all_patches": lambda: clippo_contender(args, config, attention, images, lengths, False),
        "clip": lambda: transformers_contender(args, config, attention, images, CLIPModel),
        "siglip": lambda: transformers_contender(args, config, attention, images, SiglipModel),
    }


def build(args, config: ClippoConfig, images: torch.Tensor, lengths: dict[str, list[int]]) -> list[Contender]:
    contenders = []
    for compiled in (False, True)[: 1 + args.compiled]:
        new = []
        for attention in args.attention:
            for model, make in makers(args, config, attention, images, lengths).items():
                new += [make()] if model in args.models else []
        if "open_clip" in args.models:
            new += [c for c in [open_clip_contender(args, config, images)] if c]
        for contender in new if compiled else []:
            contender.compile()
        contenders += new
    return contenders


def measure(args, contenders: list[Contender], canvases: dict[str, torch.Tensor]) -> None:
    cuda = args.device == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    for turn in range(args.rounds + 1):  # the first round is warm-up
        for what in ("texts", "pairs"):
            for kind in KINDS:
                for contender in contenders:
                    if cuda:
                        torch.cuda.reset_peak_memory_stats()
                        before = torch.cuda.memory_allocated()
                    start = clock()
                    with torch.autocast("cuda", torch.bfloat16, enabled=cuda):
                        contender.step(what, canvases[kind])
                    if cuda:
                        torch.cuda.synchronize()
                        contender.memory = max(contender.memory, torch.cuda.max_memory_allocated() - before)
                    if turn:
                        contender.seconds.setdefault((what, kind), []).append(clock() - start)


def count_operations(args, contender: Contender, canvases: torch.Tensor) -> tuple[int, int]:
    """Operations and host reads of one pair step, forward and backward."""
    autocast = torch.autocast(args.device, torch.bfloat16)
    with autocast, profile(activities=[ProfilerActivity.CPU]) as profiler:
        contender.backward("pairs", canvases)
    events = [e for e in profiler.key_averages() if e.key.startswith("aten::") and e.self_cpu_time_total > 0]
    reads = HostReads()
    with autocast, reads.and_lists():
        contender.backward("pairs", canvases)
    contender.optimizer.zero_grad()
    return sum(event.count for event in events), reads.count


def table(head: list[str], rows: list[list[str]]) -> None:
    print("\n| " + " | ".join(head) + " |")
    print("|---|" + "---:|" * (len(head) - 1))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def report_speed(args, contenders: list[Contender]) -> None:
    columns = [(what, kind) for what in ("texts", "pairs") for kind in KINDS]
    seconds = [{c: statistics.median(contender.seconds[c]) for c in columns} for contender in contenders]
    rates = [[args.batch_size / times[column] for column in columns] for times in seconds]
    head = ["model", "parameters"] + [f"{what}/s, {kind}" for what, kind in columns]
    millions = [f"{sum(p.numel() for p in c.model.parameters()) / 1e6:.1f} M" for c in contenders]
    rows = [[c.name, m, *(f"{x:.1f}" for x in row)] for c, m, row in zip(contenders, millions, rates, strict=True)]
    table(head, rows)
    print(f"\n{contenders[0].name}, as a multiple of")
    head = ["model"] + [f"{what}, {kind}" for what, kind in columns]
    ratios = [[f"{a / b:.2f}x" for a, b in zip(rates[0], row, strict=True)] for row in rates[1:]]
    table(head, [[c.name, *row] for c, row in zip(contenders[1:], ratios, strict=True)])
    peak = args.peak_tflops * 1e12 if args.peak_tflops else peak_flops(torch.device(args.device))
    if peak is None:
        print("\nNo MFU: the peak of this device is not known; pass --peak_tflops.")
        return
    print(f"\nMFU of a pair step against {peak / 1e12:g} TFLOP/s, counting the patches that are read")
    rows = [
        [c.name, *(f"{c.flops[kind] / times['pairs', kind] / peak:.3f}" for kind in KINDS)]
        for c, times in zip(contenders, seconds, strict=True)
    ]
    table(["model", *KINDS], rows)


def report_dispatch(args, contenders: list[Contender], canvases: dict[str, torch.Tensor]) -> None:
    print("\nA pair step under bf16 autocast, without optimizer")
    rows = []
    for contender in contenders:
        paths = {"": nullcontext}
        if args.device == "cpu" and contender.name.startswith("clippo") and contender.name.endswith("(sdpa)"):
            paths[", path of a GPU, stand-in for its attention kernels"] = path_of_a_gpu
        for label, path in paths.items():
            with path():
                counts = [count_operations(args, contender, canvases[kind]) for kind in KINDS]
            memory = f"{contender.memory / 2**30:.2f} GiB" if contender.memory else "not measured"
            numbers = [f"{operations:,}" for operations, _ in counts]
            rows.append([contender.name + label, *numbers, str(max(reads for _, reads in counts)), memory])
    operations = [f"operations, {kind}" for kind in KINDS]
    table(["model", *operations, "host reads", "peak memory of a step"], rows)


def draw_captions(args, config: ClippoConfig) -> tuple[dict[str, torch.Tensor], dict[str, list[int]]]:
    """Packed canvases and patches with ink of each caption, by kind of captions."""
    rng, rows_columns = random.Random(0), config.patch_grid
    render = TextRenderer(canvas_size=args.image_size)
    full = FULL * args.image_size**2 // 224**2
    bounds = {"short": (SHORT, SHORT), "mixed": (1, full), "full": (full, full)}
    canvases, lengths = {}, {}
    for kind, (low, high) in bounds.items():
        drawn = render([caption(rng.randint(low, high), rng) for _ in range(args.batch_size)], "packed").canvases
        canvases[kind] = torch.from_numpy(drawn).to(args.device)
        lengths[kind] = inked_patches(canvases[kind], config.patch_size, 1).sum(1).tolist()
        mean = statistics.mean(lengths[kind])
        print(f"{kind}: {low} to {high} characters ink {mean:.0f} of {rows_columns[0] * rows_columns[1]} patches")
    return canvases, lengths


def caption(length: int, rng: random.Random) -> str:
    text = rng.choice(WORDS.split())
    while len(text) < length - 4:
        text += " " + rng.choice(WORDS.split())
    return text


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=["Ti/16", "S/16", "B/16", "L/16"], help="Width and depth of this size.")
    parser.add_argument("--width", type=int, default=192, help="Width of the towers.")
    parser.add_argument("--depth", type=int, default=6, help="Blocks of the towers.")
    parser.add_argument("--image_size", type=int, default=224, help="Side of the canvas in pixels.")
    parser.add_argument("--batch_size", type=int, default=16, help="Pairs a step.")
    parser.add_argument("--rounds", type=int, default=3, help="Timed rounds; the median counts. 0 counts only.")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="Models to measure.")
    parser.add_argument("--attention", nargs="+", default=["sdpa"], help="Attention backends.")
    parser.add_argument("--compiled", action="store_true", help="Also measure each model compiled.")
    parser.add_argument("--peak_tflops", type=float, help="Peak of the device for MFU; default: that of a known GPU.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="Device.")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    keep_freed_memory(torch.device(args.device))  # as the trainers do
    size = ClippoConfig.from_preset(args.preset) if args.preset else None
    width, depth = (size.hidden_size, size.num_hidden_layers) if size else (args.width, args.depth)
    shape = dict(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=depth, projection_dim=width)
    config = ClippoConfig(num_attention_heads=max(1, width // 64), image_size=args.image_size, **shape)
    where = torch.cuda.get_device_name() if args.device == "cuda" else "one CPU thread, float32"
    print(f"{where}; batch {args.batch_size}, width {width}, depth {depth}, {args.image_size} px, patch 16")
    canvases, lengths = draw_captions(args, config)
    images = torch.rand(args.batch_size, 3, args.image_size, args.image_size, device=args.device) * 2 - 1
    contenders = build(args, config, images, lengths)
    if "open_clip" in args.models and not any(c.name.startswith("open_clip") for c in contenders):
        print("open_clip: not installed")
    if args.rounds:
        measure(args, contenders, canvases)
        report_speed(args, contenders)
    report_dispatch(args, contenders, canvases)


if __name__ == "__main__":
    main()
