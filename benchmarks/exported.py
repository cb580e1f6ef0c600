"""The shipped checkpoints in PyTorch, as ONNX graphs and in the browser: differences, sizes and speed on one core.

Every graph gets the same real inputs: the pictures of docs/pictures, and the texts of the demo. All contenders of a
side run in one process with one thread, one after the other in every round. The median of processor seconds counts.
Tensors are ready; drawing and decoding are not timed.

    python benchmarks/exported.py [--rounds 7] [--batch_size 16] [--page dist/spaces/web]

`--page` names a folder of `clippo build web`, and measures it in headless Chromium (needs playwright and chromium).
"""

import argparse
import functools
import http.server
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clippo.conversion.publish import load_any_model
from clippo.integrations.onnx import SUFFIXES, Samples, export_onnx, open_session
from clippo.integrations.onnx_graphs import graphs_of
from clippo.processing import ClippoProcessor

MODELS = {"clippo-emoji": ("vision_model", "text_model"), "clippo-reader": ("text_model",)}
PRECISIONS = ("fp32", "fp16", "int8")


def texts_of(model: str, count: int) -> list[str]:
    """Names of the pictures for the emoji model, sentences for the reader."""
    if model == "clippo-emoji":
        names = [query["text"] for query in json.loads(Path("docs/pictures/queries.json").read_text("utf-8"))]
    else:
        names = json.loads(Path("docs/sentences.json").read_text("utf-8"))["sentences"]
    return [names[place % len(names)] for place in range(count)]


def contenders(folder: Path, side: str, exported: Path, inputs: torch.Tensor) -> dict[str, Callable[[int], np.ndarray]]:
    """Functions that embed the first rows of the inputs, by name."""
    (graph,) = [graph for graph in graphs_of(load_any_model(folder, torch.float32).eval()) if graph.name == side]

    def eager(rows: int) -> np.ndarray:
        with torch.no_grad():
            return graph.module(inputs[:rows]).numpy()

    found = {"PyTorch": eager}
    (name,) = graph.inputs
    for precision in PRECISIONS:
        session = open_session(exported / "onnx" / f"{side}{SUFFIXES[precision]}.onnx", threads=1)
        feed = functools.partial(lambda run, rows: run.run(None, {name: inputs[:rows].numpy()})[0], session)
        found[f"ONNX {precision}"] = feed
    return found


def measure(runs: dict[str, Callable[[int], np.ndarray]], rows: int, rounds: int) -> dict[str, float]:
    """Median processor seconds of each function, measured in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds + 1):
        for name, run in runs.items():
            start = time.process_time()  # not disturbed by other programs as much as the clock
            run(rows)
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(own[1:]) for name, own in seconds.items()}  # the first round warms up


def compare(model: str, sides: tuple[str, ...], rounds: int, batch: int) -> list[str]:
    """Rows of the table of one model."""
    folder, lines = Path("checkpoints") / model, []
    processor = ClippoProcessor.from_pretrained(folder)
    images = [Image.open(file) for file in sorted(Path("docs/pictures").glob("*.webp"))[:batch]]
    texts = texts_of(model, batch)
    with tempfile.TemporaryDirectory() as exported:
        export_onnx(folder, exported, PRECISIONS, samples=Samples(images, texts), names=sides)
        for side in sides:
            if side == "vision_model":
                inputs = processor(images=images, return_tensors="pt")["pixel_values"]
            else:
                inputs = processor(text=texts, return_tensors="pt")["text_pixel_values"]
            runs = contenders(folder, side, Path(exported), inputs)
            expected = runs["PyTorch"](batch)
            single, many = measure(runs, 1, 3 * rounds), measure(runs, batch, rounds)
            for name, run in runs.items():
                got = run(batch)
                file = Path(exported) / "onnx" / f"{side}{SUFFIXES.get(name.removeprefix('ONNX '), '')}.onnx"
                size = (folder / "model.safetensors") if name == "PyTorch" else file
                lines.append(
                    f"| {model} | {'images' if side == 'vision_model' else 'texts'} | {name} | "
                    f"{size.stat().st_size / 1e6:.1f} | {np.abs(got - expected).max():.1e} | "
                    f"{(got * expected).sum(1).min():.5f} | {1000 * single[name]:.1f} | {batch / many[name]:.0f} |"
                )
    return lines


def page_numbers(folder: str) -> str:
    """Bytes before the first answer, and milliseconds from a key to ranked pictures, in headless Chromium."""
    from playwright.sync_api import sync_playwright

    sent: dict[str, int] = {}

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Stay silent."""

        def copyfile(self, source, output):
            sent[self.path] = Path(self.translate_path(self.path)).stat().st_size
            super().copyfile(source, output)

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, sync_playwright() as running:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = running.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        # Without the worker that stores all files for later, which would be counted too.
        page = browser.new_context(service_workers="block").new_page()
        page.goto(f"http://127.0.0.1:{server.server_port}/")
        page.wait_for_selector("body[data-ready=true] #results li", timeout=120_000)
        first, took = sum(sent.values()), []
        for text in texts_of("clippo-emoji", 24) * 2:
            page.evaluate("delete document.getElementById('query').dataset.milliseconds")
            page.fill("#query", text)
            page.wait_for_selector("#query[data-milliseconds]", timeout=60_000)
            took.append(float(page.get_attribute("#query", "data-milliseconds")))
        version = browser.version
        browser.close()
        server.shutdown()
    middle, most, slowest = statistics.median(took), np.quantile(took, 0.9), max(took)
    return (
        f"Chromium {version}: {first / 1e6:.2f} MB before the first answer; {len(took)} texts: median {middle:.0f} ms, "
        f"nine in ten below {most:.0f} ms, slowest {slowest:.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="Rounds of the whole batch.")
    parser.add_argument("--batch_size", type=int, default=16, help="Rows of a batch.")
    parser.add_argument("--page", help="Folder of `clippo build web` to measure too.")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | side | | MB | largest difference | smallest cosine | ms, one row | rows/s, batch |")
    print("|---|---|---|--:|--:|--:|--:|--:|")
    for model, sides in MODELS.items():
        print("\n".join(compare(model, sides, args.rounds, args.batch_size)), flush=True)
    if args.page:
        print(page_numbers(args.page))


if __name__ == "__main__":
    main()
