"""Agreement of the paths of attention: embeddings and gradients of each against float32 on the CPU.

32 images with texts of many lengths, an empty and a full one among them. Errors are relative: the norm of the
difference over the norm of the reference. On a CPU the paths of a GPU run in bf16 without its kernels for ragged
sequences, so "varlen" needs a GPU.

Run: python benchmarks/agreement.py [--width 768] [--depth 4] [--image_size 224] [--compiled] [--device cuda]
"""

import argparse
from contextlib import nullcontext
from unittest import mock

import torch

from clippo import ClippoConfig, ClippoModel
from clippo.modeling_clippo import embeddings_clippo
from clippo.processing import TextRenderer

TEXTS = [
    "a dog runs over the grass",
    "two children",
    "x " * 250,
    "",
    "i",
    "one two three four",
    "猫が座っている",
    "Кот",
]
IMAGES = 32
PATHS = ("padded", "tiles", "varlen")


def gradients(model: ClippoModel, images, texts, dtype: torch.dtype | None) -> dict[str, torch.Tensor]:
    """Returns "loss", "embeddings" and "gradients" of a step in float32 on the CPU."""
    device = next(model.parameters()).device
    with torch.autocast(device.type, dtype) if dtype else nullcontext():
        output = model(images.to(device), texts.to(device), return_loss=True)
    output.loss.backward()
    # A softmax ignores a constant, so the gradient of a bias of keys is rounding error alone.
    own = [p.grad.flatten() for name, p in model.named_parameters() if p.grad is not None and "k_proj.bias" not in name]
    values = {
        "loss": output.loss.reshape(1),
        "embeddings": torch.cat([output.image_embeds, output.text_embeds]),
        "gradients": torch.cat(own),
    }
    return {name: value.detach().float().cpu() for name, value in values.items()}


def error(found: torch.Tensor, expected: torch.Tensor) -> str:
    return f"{((found - expected).norm() / expected.norm()).item():.1e}"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=768, help="Width of the tower.")
    parser.add_argument("--depth", type=int, default=4, help="Blocks of the tower.")
    parser.add_argument("--image_size", type=int, default=224, help="Side of the canvas in pixels.")
    parser.add_argument("--compiled", action="store_true", help="Also compile the blocks and the head.")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="Device.")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    torch.manual_seed(0)
    config = ClippoConfig(
        hidden_size=args.width,
        intermediate_size=4 * args.width,
        num_hidden_layers=args.depth,
        num_attention_heads=max(1, args.width // 64),
        image_size=args.image_size,
        projection_dim=args.width,
        skip_blank_patches=True,
    )
    texts = (TEXTS * IMAGES)[:IMAGES]
    canvases = torch.from_numpy(TextRenderer(canvas_size=args.image_size)(texts, "packed").canvases)
    images = torch.rand(IMAGES, 3, args.image_size, args.image_size) * 2 - 1
    model = ClippoModel(config).train()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected = gradients(model, images, canvases, None)
    print("| dtype | path | compiled | loss | embeddings | gradients |\n|---|---|---|---:|---:|---:|")
    dtypes = (None, torch.bfloat16, torch.float16) if args.device == "cuda" else (None, torch.bfloat16)
    for dtype in dtypes:
        for path in PATHS:
            if path == "varlen" and (dtype is None or args.device == "cpu"):
                continue  # the kernel needs half precision on a GPU
            for compiled in (False, True)[: 1 + args.compiled]:
                model = ClippoModel(config).to(args.device).train()
                model.load_state_dict(weights)
                if compiled:
                    model.compile_blocks()
                with mock.patch.object(embeddings_clippo, "packed_backend", return_value=path):
                    found = gradients(model, images, canvases, dtype)
                errors = [error(found[name], expected[name]) for name in expected]
                print(f"| {str(dtype or torch.float32)[6:]} | {path} | {compiled} | {' | '.join(errors)} |", flush=True)


if __name__ == "__main__":
    main()
