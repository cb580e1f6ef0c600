"""Command line of `clippo build web`."""

import http.server
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from transformers import HfArgumentParser

from clippo.integrations.onnx import SUFFIXES
from clippo.visualization.inputs import CHECKOUT, read_images
from clippo.web.build import build_web

# Fetched before the first answer; the image side and most glyphs come later.
LATER = ("vision_model.onnx.gz", "glyphs-rest.bin.gz", "offline.js", "README.md")


@dataclass
class WebArguments:
    """Options of `clippo build web`."""

    model: str = field(
        default=str(CHECKOUT / "checkpoints" / "clippo-emoji"), metadata={"help": "Folder or hub name of a model."}
    )
    image_dir: str = field(
        default=str(CHECKOUT / "docs" / "pictures"), metadata={"help": "Folder of the pictures to search."}
    )
    output_dir: str = field(default="runs/web", metadata={"help": "Folder to write, for any static host."})
    runtime: str | None = field(
        default=None, metadata={"help": "node_modules with onnxruntime-web; by default that of the working directory."}
    )
    precision: str = field(default="int8", metadata={"help": "Precision of the graphs.", "choices": list(SUFFIXES)})
    port: int | None = field(default=None, metadata={"help": "Serve the folder on this port after it is written."})


def main(argv: Sequence[str] | None = None) -> None:
    """Write the page that runs a model in the browser, without a server."""
    (args,) = HfArgumentParser(WebArguments, description=main.__doc__).parse_args_into_dataclasses(argv)
    try:
        images = {name.replace("_", " "): image for name, image in read_images(Path(args.image_dir)).items()}
        sizes = build_web(args.model, images, args.output_dir, args.runtime, args.precision)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"error: {error}") from None
    for name, size in sizes.items():
        print(f"{size / 1e6:8.2f} MB  {name}{'  (later)' if name in LATER else ''}")
    first = sum(size for name, size in sizes.items() if name not in LATER)
    print(f"{first / 1e6:8.2f} MB  before the first answer")
    if args.port is not None:
        serve(args.output_dir, args.port)


def serve(folder: str | Path, port: int) -> None:
    """Serve a folder on this machine until the process is interrupted."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"Serving {folder} at http://127.0.0.1:{server.server_port}/ (Ctrl+C ends).")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()
