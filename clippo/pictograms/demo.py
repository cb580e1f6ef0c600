"""Demo of the pictogram finder: twenty everyday queries in twenty languages, drawn with the five nearest pictures."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from transformers import AutoModel, AutoProcessor, HfArgumentParser
from transformers.utils import logging

from clippo.evaluation.encoder import Encoder
from clippo.model_files import find_model
from clippo.pictograms.gallery import Gallery, read_gallery
from clippo.visualization.inputs import image_pixels
from clippo.visualization.sheet import GREY, INK, PAPER, font
from clippo.visualization.text_table import align

# Language, query, English meaning. Chosen before the first checkpoint: things that people look for in icon sets.
QUERIES = (
    ("English", "save file", "save file"),
    ("German", "Mülltonne", "rubbish bin"),
    ("Japanese", "ゴミ箱", "rubbish bin"),
    ("Russian", "сохранить файл", "save file"),
    ("Vietnamese", "thùng rác", "rubbish bin"),
    ("Arabic", "مفتاح", "key"),
    ("French", "parapluie", "umbrella"),
    ("Spanish", "corazón roto", "broken heart"),
    ("Chinese", "火箭", "rocket"),
    ("Hindi", "घर", "house"),
    ("Korean", "자전거", "bicycle"),
    ("Portuguese", "bola de futebol", "football"),
    ("Turkish", "fotoğraf makinesi", "camera"),
    ("Greek", "καφές", "coffee"),
    ("Thai", "แมว", "cat"),
    ("Hebrew", "מטוס", "aeroplane"),
    ("Polish", "kłódka", "padlock"),
    ("Swahili", "tembo", "elephant"),
    ("Ukrainian", "лупа", "magnifying glass"),
    ("Bengali", "মাছ", "fish"),
)
NEAREST = 5
CELL, GAP, MARGIN, NOTE = 96, 12, 36, 170
ZOOM, LINE = 2, 16  # the text is enlarged and cut to its lines of 16 pixels
HEADER, FOOTER = 96, 44


def find(encoder: Encoder, gallery: Gallery, queries: Sequence[str], nearest: int = NEAREST) -> list[list[int]]:
    """Numbers of the nearest pictures of each query, best first.

    Args:
        encoder: Encoder of the model.
        gallery: Pictures.
        queries: Texts.
        nearest: Pictures a query.
    """
    pictures = encoder.images(gallery.pictures).require_all()  # (N, E)
    texts = encoder.texts(list(queries))  # (Q, E)
    return (texts @ pictures.T).topk(min(nearest, len(pictures))).indices.tolist()


def draw(gallery: Gallery, queries: Sequence[tuple[str, str, str]], found: list[list[int]], canvases: np.ndarray):
    """Picture of the queries, as the model reads them, and the pictures that it found.

    Args:
        gallery: Pictures.
        queries: (language, text, meaning) each.
        found: Numbers of pictures for each query.
        canvases: uint8 (Q, H, W, 1), rendered queries.

    Returns:
        RGB image.
    """
    lines = -(-len(queries) // 2)
    width = canvases.shape[2]
    block = NOTE + ZOOM * width + NEAREST * (CELL + GAP) + GAP
    size = (2 * block + 3 * MARGIN, HEADER + lines * (CELL + GAP) + MARGIN + FOOTER)
    image = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(image)
    pen.text((MARGIN, MARGIN - 8), "Find a pictogram in any language", fill=INK, font=font(34))
    for number, (language, _, meaning) in enumerate(queries):
        left = MARGIN + number // lines * (block + MARGIN)
        top = HEADER + number % lines * (CELL + GAP)
        pen.text((left, top + CELL / 2 - 3), language, fill=INK, font=font(20), anchor="ls")
        pen.text((left, top + CELL / 2 + 6), meaning, fill=GREY, font=font(16), anchor="la")
        text = written_lines(canvases[number])
        image.paste(text, (left + NOTE, top + (CELL - text.height) // 2))
        for place, picture in enumerate(found[number]):
            cell = gallery.pictures[picture].resize((CELL, CELL), Image.Resampling.LANCZOS)
            image.paste(cell, (left + NOTE + ZOOM * width + GAP + place * (CELL + GAP), top))
    shown = sorted({gallery.sets[gallery.rows[i]["set"]] for row in found for i in row})
    note = f"{len(gallery.pictures):,} pictures of {len(gallery.sets)} sets. Grey: the text as the model reads it."
    pen.text((MARGIN, size[1] - FOOTER), f"{note} Pictures shown are from {len(shown)} sets.", fill=GREY, font=font(16))
    return image


def written_lines(canvas: np.ndarray) -> Image.Image:
    """Lines of a canvas that have ink, at most `CELL` pixels high, enlarged.

    Args:
        canvas: uint8 (H, W, 1 or 3).
    """
    pixels = np.broadcast_to(canvas, (*canvas.shape[:2], 3)).astype(np.uint8)
    inked = np.flatnonzero((pixels != pixels[-1, -1]).any(axis=(1, 2)))
    lines = 1 if len(inked) == 0 else int(inked[-1]) // LINE + 1
    cut = pixels[: min(lines * LINE, CELL // ZOOM)]
    return Image.fromarray(cut.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1))


@dataclass
class PictogramDemoArguments:
    """Options of the demo."""

    model: str = field(default="runs/pictograms", metadata={"help": "Folder of a checkpoint."})
    gallery: str = field(
        default="data/pictogram_gallery", metadata={"help": "Folder that `clippo build pictogram_gallery` wrote."}
    )
    queries: list[str] | None = field(default=None, metadata={"help": "Your own texts, in any language."})
    output: str = field(default="pictograms.png", metadata={"help": "Image file to write."})


def main(argv: Sequence[str] | None = None) -> None:
    """Finds icons and emoji by words in many languages, and draws the five nearest of each query.

    Raises:
        SystemExit: With one sentence, if a folder or file is missing.
    """
    parser = HfArgumentParser(PictogramDemoArguments, description=main.__doc__.partition("\n")[0])
    (args,) = parser.parse_args_into_dataclasses(argv)
    sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode still shows the names
    logging.disable_progress_bar()
    queries = [("", text, "") for text in args.queries] if args.queries else list(QUERIES)
    try:
        gallery = read_gallery(args.gallery)
        model = AutoModel.from_pretrained(find_model(args.model), dtype=torch.float32)
        processor = AutoProcessor.from_pretrained(args.model)
        found = find(Encoder(model, processor), gallery, [text for _, text, _ in queries])
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    rows = [
        [language, text, "  ".join(f"{gallery.rows[i]['words']} ({gallery.rows[i]['set']})" for i in numbers)]
        for (language, text, _), numbers in zip(queries, found, strict=True)
    ]
    print("\n".join(align(rows)))
    texts = [text for _, text, _ in queries]
    canvases = image_pixels(processor.tokenizer.render(texts, canvas_format="uint8").canvases)
    draw(gallery, queries, found, canvases).save(args.output, optimize=True)
    print(f"\nWrote {args.output}. Authors and licences: {Path(args.gallery) / 'gallery.json'}")
