"""Images and texts that models embed in a second, side by side in one run.

* ClippoModel with `get_image_features` and `get_text_features`; blank patches of texts are skipped.
* transformers' SiglipModel of the same width and depth, with 64 tokens of text.
* timm's SigLIP vision transformer of the same width and depth (images), where that package is installed.
* sentence-transformers with a BERT of MiniLM's shape, 6 layers, 384 wide (texts), where that package is installed.

All weights are random, so nothing is downloaded. The tensors are ready: neither drawing nor tokenizing is timed. Texts
have about 50 characters ("short"), 1 to 480 ("mixed") or as many as the canvas holds ("full"). MiniLM gets one token a
word, and pads a batch to its longest text. Its own vocabulary would make more tokens. Rounds are interleaved and the
median counts. On a CPU one thread computes and times are its CPU seconds; on a GPU they are wall seconds.

Run: python benchmarks/inference.py [--batch_size 16] [--rounds 3] [--dtypes float32 bfloat16] [--compiled]
    [--device cuda]
"""

import argparse
import importlib.util
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizer, SiglipConfig, SiglipModel

from clippo import ClippoConfig, ClippoModel
from clippo.processing import TextRenderer

WORDS = """a photo of the small red dog sitting on grassy field with two children playing near an old wooden house
under blue sky while their mother reads some book about birds and rivers in northern countries"""
SHORT, FULL = 50, 480  # characters; the second fills a canvas of 224 pixels
TEXTS = ("short", "mixed", "full")
COLUMNS = ("images", *TEXTS)
SIGLIP_TOKENS, SIGLIP_VOCABULARY, BERT_VOCABULARY = 64, 32000, 30522


class Contender:
    """A model in one dtype with its functions, by column of the table, and their seconds."""

    def __init__(self, name: str, model: nn.Module, runs: dict[str, Callable[[], torch.Tensor]]):
        self.name, self.model, self.runs = name, model, runs
        self.seconds: dict[str, list[float]] = {}


def clippo_contender(args, images: torch.Tensor, texts: dict[str, list[str]]) -> Contender:
    config = ClippoConfig(
        hidden_size=args.width,
        intermediate_size=4 * args.width,
        num_hidden_layers=args.depth,
        num_attention_heads=heads(args.width),
        image_size=args.image_size,
        projection_dim=args.width,
        skip_blank_patches=True,
    )
    model = ClippoModel._from_config(config, attn_implementation="sdpa")
    render = TextRenderer(canvas_size=args.image_size)
    canvases = {kind: torch.from_numpy(render(texts[kind], "packed").canvases).to(args.device) for kind in TEXTS}
    runs = {kind: lambda kind=kind: model.get_text_features(canvases[kind]).pooler_output for kind in TEXTS}
    runs["images"] = lambda: model.get_image_features(images.to(model.dtype)).pooler_output
    return Contender("clippo ClippoModel", model, runs)


def siglip_contender(args, images: torch.Tensor) -> Contender:
    shape = dict(
        hidden_size=args.width,
        intermediate_size=4 * args.width,
        num_hidden_layers=args.depth,
        num_attention_heads=heads(args.width),
    )
    text = dict(
        max_position_embeddings=SIGLIP_TOKENS, vocab_size=SIGLIP_VOCABULARY, projection_size=args.width, **shape
    )
    config = SiglipConfig(text_config=text, vision_config=dict(image_size=args.image_size, patch_size=16, **shape))
    model = SiglipModel._from_config(config, attn_implementation="sdpa")
    ids = torch.randint(1, SIGLIP_VOCABULARY, (args.batch_size, SIGLIP_TOKENS), device=args.device)
    runs = dict.fromkeys(TEXTS, lambda: model.get_text_features(input_ids=ids).pooler_output)
    runs["images"] = lambda: model.get_image_features(pixel_values=images.to(model.dtype)).pooler_output
    return Contender("transformers SiglipModel", model, runs)


def timm_contender(args, images: torch.Tensor) -> Contender:
    from timm.models.vision_transformer import VisionTransformer

    model = VisionTransformer(
        img_size=args.image_size,
        patch_size=16,
        embed_dim=args.width,
        depth=args.depth,
        num_heads=heads(args.width),
        num_classes=0,
        class_token=False,
        global_pool="map",
    )
    return Contender("timm SigLIP ViT", model, {"images": lambda: model(images.to(next(model.parameters()).dtype))})


def minilm_contender(args, texts: dict[str, list[str]]) -> Contender:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    config = BertConfig(
        vocab_size=BERT_VOCABULARY,
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=6,
        num_attention_heads=12,
    )
    with tempfile.TemporaryDirectory() as folder:
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS.split())]
        (Path(folder) / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
        BertTokenizer.from_pretrained(folder).save_pretrained(folder)
        BertModel(config).save_pretrained(folder)
        modules = [Transformer(folder), Pooling(config.hidden_size)]
    model = SentenceTransformer(modules=modules, device=args.device)
    tokenizer = model.tokenizer
    features = {kind: tokenizer(texts[kind], padding=True, return_tensors="pt").to(args.device) for kind in TEXTS}
    runs = {kind: lambda kind=kind: model(dict(features[kind]))["sentence_embedding"] for kind in TEXTS}
    return Contender("sentence-transformers, MiniLM's shape", model, runs)


def heads(width: int) -> int:
    return max(1, width // 64)


def build(args, dtype: str, compiled: bool, images: torch.Tensor, texts: dict[str, list[str]]) -> list[Contender]:
    contenders = [clippo_contender(args, images, texts), siglip_contender(args, images)]
    if importlib.util.find_spec("timm"):
        contenders.append(timm_contender(args, images))
    if importlib.util.find_spec("sentence_transformers"):
        contenders.append(minilm_contender(args, texts))
    for contender in contenders:
        contender.model.to(args.device, getattr(torch, dtype)).eval()
        contender.name += f", {dtype}" + (", compiled" if compiled else "")
        if compiled and isinstance(contender.model, ClippoModel):
            contender.model.compile_blocks()
        elif compiled:
            contender.runs = {column: torch.compile(run) for column, run in contender.runs.items()}
    return contenders


@torch.no_grad()
def measure(args, contenders: list[Contender]) -> None:
    cuda = args.device == "cuda"
    clock = time.perf_counter if cuda else time.process_time
    for turn in range(args.rounds + 1):  # the first round is warm-up
        for column in COLUMNS:
            for contender in (c for c in contenders if column in c.runs):
                start = clock()
                contender.runs[column]()
                if cuda:
                    torch.cuda.synchronize()
                if turn:
                    contender.seconds.setdefault(column, []).append(clock() - start)


def report(args, contenders: list[Contender]) -> None:
    print("\n| model | parameters | images/s | " + " | ".join(f"texts/s, {kind}" for kind in TEXTS) + " |")
    print("|---|---:|" + "---:|" * len(COLUMNS))
    for contender in contenders:
        millions = sum(p.numel() for p in contender.model.parameters()) / 1e6
        medians = [statistics.median(contender.seconds.get(column, [float("inf")])) for column in COLUMNS]
        cells = [f"{args.batch_size / seconds:,.0f}" if seconds < float("inf") else "" for seconds in medians]
        print(f"| {contender.name} | {millions:.1f} M | " + " | ".join(cells) + " |")


def draw_texts(args) -> dict[str, list[str]]:
    rng, full = random.Random(0), FULL * args.image_size**2 // 224**2
    bounds = {"short": (SHORT, SHORT), "mixed": (1, full), "full": (full, full)}
    texts = {}
    for kind, (low, high) in bounds.items():
        texts[kind] = [text_of(rng.randint(low, high), rng) for _ in range(args.batch_size)]
        print(f"{kind}: {low} to {high} characters, {sum(map(len, texts[kind])) / args.batch_size:.0f} in the mean")
    return texts


def text_of(length: int, rng: random.Random) -> str:
    text = rng.choice(WORDS.split())
    while len(text) < length - 4:
        text += " " + rng.choice(WORDS.split())
    return text


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=192, help="Width of the towers.")
    parser.add_argument("--depth", type=int, default=6, help="Blocks of the towers.")
    parser.add_argument("--image_size", type=int, default=224, help="Side of the canvas in pixels.")
    parser.add_argument("--batch_size", type=int, default=16, help="Images or texts in a batch.")
    parser.add_argument("--rounds", type=int, default=3, help="Timed rounds; the median counts.")
    parser.add_argument("--dtypes", nargs="+", default=["float32"], choices=["float32", "bfloat16"], help="Of weights.")
    parser.add_argument("--compiled", action="store_true", help="Also measure each model compiled.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="Device.")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    where = torch.cuda.get_device_name() if args.device == "cuda" else "one CPU thread"
    print(f"{where}; batch {args.batch_size}, width {args.width}, depth {args.depth}, {args.image_size} px, patch 16")
    texts = draw_texts(args)
    images = torch.rand(args.batch_size, 3, args.image_size, args.image_size, device=args.device) * 2 - 1
    contenders = []
    for compiled in (False, True)[: 1 + args.compiled]:
        for dtype in args.dtypes:
            contenders += build(args, dtype, compiled, images, texts)
    missing = [package for package in ("timm", "sentence_transformers") if not importlib.util.find_spec(package)]
    print("not installed: " + (", ".join(missing) or "none"))
    measure(args, contenders)
    report(args, contenders)


if __name__ == "__main__":
    main()
