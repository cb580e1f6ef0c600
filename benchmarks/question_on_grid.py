"""Time of a question about an image: the image encoded again, or its grid kept (`get_grid_features`).

`python benchmarks/question_on_grid.py --preset B/16 --num_fusion_layers 1`

Both are timed in turn in one run; the medians are printed. On a CPU one thread computes and times are its CPU seconds;
on a GPU they are wall seconds. The weights are random, which changes no time.
"""

import argparse
import statistics
import time

import torch

import clippo

QUESTIONS = ["what is on the table?", "how many chairs are there?", "what color is the sofa?", "is the lamp on?"]


def main() -> None:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="B/16", help="Size of the tower.")
    parser.add_argument("--image_size", type=int, default=224, help="Side of the canvas in pixels.")
    parser.add_argument("--num_fusion_layers", type=int, default=1, help="Joint blocks.")
    parser.add_argument("--repeats", type=int, default=20, help="Timed rounds.")
    args = parser.parse_args()
    fields = {"image_size": args.image_size, "num_fusion_layers": args.num_fusion_layers, "num_labels": 1000}
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    config = clippo.ClippoConfig.from_preset(args.preset, **fields)
    model = clippo.ClippoForVisualQuestionAnswering(config).eval().to(device)
    tokenizer = clippo.ClippoTokenizer(canvas_size=args.image_size)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    torch.set_num_threads(1)
    asked = [tokenizer([q], return_tensors="pt")["text_pixel_values"].to(device) for q in QUESTIONS]
    image = torch.rand(1, 3, args.image_size, args.image_size, device=device) * 2 - 1
    times = {"image encoded again": [], "grid kept": [], "grid alone": []}
    with torch.inference_mode():
        grid = model.get_grid_features(image).half()
        runs = {
            "image encoded again": lambda question: model(image, text_pixel_values=question),
            "grid kept": lambda question: model(image_grid=grid, text_pixel_values=question),
            "grid alone": lambda question: model.get_grid_features(image),
        }
        for repeat in range(args.repeats + 2):
            for name, run in runs.items():
                start = clock()
                run(asked[repeat % len(asked)])
                if device.type == "cuda":
                    torch.cuda.synchronize()
                if repeat >= 2:  # the first ones warm up
                    times[name].append(1000 * (clock() - start))
    print(f"{args.preset}, {args.image_size} pixels, {args.num_fusion_layers} joint blocks, {device.type}, batch 1")
    for name, several in times.items():
        print(f"{name:20} {statistics.median(several):8.1f} ms")
    print(f"grid in float16: {grid.nelement() * 2 / 1024:.0f} kB an image")


if __name__ == "__main__":
    main()
