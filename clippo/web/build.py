"""Builds the static page: model in int8, glyph table, gallery, onnxruntime-web, and the sources in `web/`."""

import gzip
import hashlib
import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

import clippo
from clippo.evaluation.encoder import Encoder
from clippo.integrations.onnx import SUFFIXES, Samples, export_onnx
from clippo.model_files import find_model
from clippo.modeling_clippo import ClippoModel
from clippo.processing import ClippoProcessor
from clippo.web.glyphs import FIRST_END, glyph_files

RUNTIME = {"ort.wasm.min.mjs": None, "ort-wasm-simd-threaded.mjs": None, "ort-wasm-simd-threaded.wasm": "ort.wasm.gz"}
SIDES = ("vision_model", "text_model")
# Front matter of a Space of kind "static"; other hosts ignore the file.
SPACE_CARD = """---
title: {name} in the browser
sdk: static
license: apache-2.0
short_description: A model that reads text as pixels, on your device
---

{name} runs in this page, on the visitor's device. Nothing is sent anywhere. `clippo build web` wrote the files.
"""
THUMBNAIL, COLUMNS = 96, 16  # pixels of a side, thumbnails in a row


def page_folder() -> Path:
    """Folder of the page's sources: `clippo/web/page` in an installation, `web` in a checkout."""
    installed = Path(__file__).resolve().parent / "page"
    return installed if installed.is_dir() else Path(clippo.__file__).resolve().parent.parent / "web"


def find_runtime(folder: str | Path | None = None) -> Path:
    """Folder of the files of onnxruntime-web.

    Args:
        folder: `node_modules` or the package's `dist`. None searches `node_modules` in the working directory.

    Raises:
        FileNotFoundError: The files are missing.
    """
    root = Path(folder or "node_modules")
    for candidate in (root, root / "onnxruntime-web" / "dist"):
        if all((candidate / name).is_file() for name in RUNTIME):
            return candidate
    raise FileNotFoundError(
        f"No onnxruntime-web below {root}; run `npm install onnxruntime-web`, or name the folder with --runtime."
    )


def build_web(
    model: str | Path,
    images: Mapping[str, Image.Image],
    output_dir: str | Path,
    runtime: str | Path | None = None,
    precision: str = "int8",
) -> dict[str, int]:
    """Write a folder that any static host can serve.

    Args:
        model: Folder of a `ClippoModel` with its processor.
        images: Pictures that the page searches, by the name that it shows.
        output_dir: Folder to write.
        runtime: See `find_runtime`.
        precision: Precision of the graphs, see `clippo.integrations.onnx`.

    Returns:
        Bytes by file name.

    Raises:
        FileNotFoundError: onnxruntime-web is missing.
        ValueError: There are no images, or the browser cannot draw as the tokenizer does.
    """
    if not images:
        raise ValueError("There are no pictures to search; give a folder with at least one.")
    runtime, output = find_runtime(runtime), Path(output_dir)
    model = find_model(model)
    processor = ClippoProcessor.from_pretrained(model)
    loaded = ClippoModel.from_pretrained(model).float().eval()
    glyphs = glyph_files(processor.tokenizer)
    output.mkdir(parents=True, exist_ok=True)
    _write_graphs(model, images, output, precision)
    vectors = Encoder(loaded, processor).images(images.values()).require_all().numpy()  # (N, E)
    settings = {
        "model": Path(model).name,
        "text": glyphs.settings,
        "first_glyphs_end": FIRST_END,
        "logit_scale": loaded.logit_scale.exp().item(),
        "gallery": {
            "names": list(images),
            "count": len(images),
            "dim": vectors.shape[1],
            "thumb": THUMBNAIL,
            "columns": COLUMNS,
        },
    }
    (output / "settings.json").write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
    _write_gzip(output / "glyphs-first.bin.gz", glyphs.first)
    _write_gzip(output / "glyphs-rest.bin.gz", glyphs.rest)
    _write_gzip(output / "vectors.bin.gz", np.rint(vectors * 127).astype(np.int8).tobytes())
    _thumbnails(list(images.values())).save(output / "gallery.webp", quality=85, method=6)
    for name, target in RUNTIME.items():
        if target:
            _write_gzip(output / target, (runtime / name).read_bytes())
        else:
            shutil.copy(runtime / name, output / name)
    for source in sorted(page_folder().iterdir()):
        if source.suffix in (".html", ".js", ".css"):
            shutil.copy(source, output / source.name)
    (output / "README.md").write_text(SPACE_CARD.format(name=Path(model).name), encoding="utf-8")
    _write_file_list(output)
    return {path.name: path.stat().st_size for path in sorted(output.iterdir())}


def _write_graphs(model: str, images: Mapping[str, Image.Image], output: Path, precision: str) -> None:
    """Export both sides."""
    samples = Samples(images=list(images.values())[:32])
    with tempfile.TemporaryDirectory() as folder:
        # Not the graph of both sides at once: the page calls them one by one.
        for file in export_onnx(model, folder, [precision], samples=samples, names=SIDES):
            side = file.path.stem.removesuffix(SUFFIXES[precision])
            _write_gzip(output / f"{side}.onnx.gz", file.path.read_bytes())


def _write_gzip(path: Path, data: bytes) -> None:
    path.write_bytes(gzip.compress(data, 9, mtime=0))  # without a time, the same input gives the same file


def _thumbnails(images: list[Image.Image]) -> Image.Image:
    """One sheet with all pictures, row by row."""
    sheet = Image.new("RGB", (THUMBNAIL * COLUMNS, THUMBNAIL * math.ceil(len(images) / COLUMNS)), "white")
    for place, image in enumerate(images):
        small = image.convert("RGB").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        sheet.paste(small, (place % COLUMNS * THUMBNAIL, place // COLUMNS * THUMBNAIL))
    return sheet


def _write_file_list(output: Path) -> None:
    """Name the files and their version in the script that keeps them offline."""
    script = output / "offline.js"
    files = sorted(path.name for path in output.iterdir() if path.name not in (script.name, "README.md"))
    digest = hashlib.sha256(b"".join((output / name).read_bytes() for name in files)).hexdigest()[:16]
    text = script.read_text(encoding="utf-8").replace("@VERSION@", f"clippo-{digest}")
    script.write_text(text.replace('["@FILES@"]', json.dumps(["./", *files])), encoding="utf-8")


__all__ = ["build_web", "find_runtime", "page_folder"]
