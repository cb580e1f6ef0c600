"""Entry point of the Space: the model and the pictures beside this file."""

import os
from pathlib import Path

from clippo.demo.web import build_app, serve
from clippo.visualization.inputs import read_images

if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    images = read_images(here / "pictures") if (here / "pictures").is_dir() else {}
    serve(build_app(here / "model", images), host="0.0.0.0", port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")))
