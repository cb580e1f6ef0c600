"""Time of a training step with experts in half of the blocks against the dense model, in one run.

    python benchmarks/experts_step.py --preset S/16 --batch_size 256

Rounds alternate between the models, so that all see the same state of the machine. The batch has images of noise and
texts of eleven words. On a CPU the seconds are those of the process, because other work may share its cores.
"""

import argparse
import time

import numpy as np
import torch

import clippo

EXPERTS = dict(router_importance_coef=0.01, router_global_entropy_coef=0.01)


def make(preset: str, image_size: int, device: str, compiled: bool, **fields):
    """A model and its optimizer."""
    torch.manual_seed(0)
    config = clippo.ClippoConfig.from_preset(preset, image_size=image_size, **fields)
    model = clippo.ClippoModel._from_config(config, attn_implementation="sdpa").to(device).train()
    if compiled:
        model.compile_blocks()
    return model, torch.optim.AdamW(model.parameters(), fused=True)


def step(model, optimizer, batch: dict, device: str) -> None:
    """One training step, in bf16 autocast on a GPU."""
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def clock(device: str) -> float:
    """Seconds: of the device on a GPU, of this process alone on a CPU."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def seconds(model, optimizer, batch: dict, device: str, steps: int) -> float:
    """Mean seconds of a step."""
    start = clock(device)
    for _ in range(steps):
        step(model, optimizer, batch, device)
    return (clock(device) - start) / steps


def main() -> None:
    """Print the median of the rounds for each model, and of the ratios to the dense model of the same round."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--preset", default="S/16", help="Size of the model.")
    parser.add_argument("--image_size", type=int, default=224, help="Side of the canvas in pixels.")
    parser.add_argument("--batch_size", type=int, default=256, help="Pairs a step.")
    parser.add_argument("--rounds", type=int, default=5, help="Rounds of --steps steps.")
    parser.add_argument("--steps", type=int, default=5, help="Steps of a round.")
    parser.add_argument("--compile", action="store_true", help="Compile the blocks.")
    parser.add_argument("--experts", type=int, nargs="+", default=[8], help="Numbers of experts to compare.")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = clippo.ClippoTokenizer(canvas_size=args.image_size, canvas_format="packed", overflow="ignore")
    words = ["a", "small", "brown", "dog", "runs", "over", "wet", "grass", "behind", "two", "children"]
    texts = [" ".join(np.random.default_rng(i).permutation(words)) for i in range(args.batch_size)]
    images = torch.randint(256, (args.batch_size, 3, args.image_size, args.image_size), dtype=torch.uint8)
    batch = {"pixel_values": images, **tokenizer(texts, return_tensors="pt")}
    batch = {name: values.to(device) for name, values in batch.items()}
    models = {"dense": make(args.preset, args.image_size, device, args.compile)}
    for number in args.experts:
        fields = {**EXPERTS, "num_experts": number, "router_min_text_experts": min(3, number)}
        models[f"{number} experts"] = make(args.preset, args.image_size, device, args.compile, **fields)
    for model in models.values():
        for _ in range(2):
            step(*model, batch, device)
    times = {name: [] for name in models}
    for _ in range(args.rounds):
        for name, model in models.items():
            times[name].append(seconds(*model, batch, device, args.steps))
    for name, values in times.items():
        ratio = np.median(np.divide(values, times["dense"]))
        rounds = ", ".join(f"{1000 * value:.1f}" for value in values)
        print(f"{name}: {1000 * np.median(values):.1f} ms, {ratio:.3f} x dense (rounds {rounds})")


if __name__ == "__main__":
    main()
