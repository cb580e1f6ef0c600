"""Contact sheet of a search: one HTML file with its pictures inside, or an image."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from clippo.visualization.sheet import font

THUMBNAIL, MARGIN, CAPTION = 160, 12, 20


class Result(NamedTuple):
    """One hit on a sheet: the score, its name or text, and its picture if it has one."""

    score: float
    name: str
    picture: Image.Image | None


def write_sheet(output: str | Path, found: Sequence[tuple[str, Sequence[Result]]]) -> None:
    """Write the hits of several queries.

    Args:
        output: File that ends in .html, or in an image format.
        found: Title of each query, and its hits.
    """
    if Path(output).suffix.lower() in (".html", ".htm"):
        Path(output).write_text(_page(found), encoding="utf-8")
    else:
        _sheet(found).save(output)


def _page(found: Sequence[tuple[str, Sequence[Result]]]) -> str:
    sections = []
    for title, results in found:
        figures = []
        for result in results:
            picture = f'<img src="{_data_uri(result.picture)}" alt="">' if result.picture else ""
            caption = f"{html.escape(result.name)} <small>{result.score:.3f}</small>"
            figures.append(f"<figure>{picture}<figcaption>{caption}</figcaption></figure>")
        sections.append(f'<h2 dir="auto">{html.escape(title)}</h2>\n<div class="row">{"".join(figures)}</div>')
    style = (
        "body{font:16px/1.4 system-ui,sans-serif;margin:1rem}.row{display:flex;flex-wrap:wrap;gap:1rem}"
        "figure{margin:0;width:10rem}img{max-width:100%;border-radius:.4rem}figcaption{overflow-wrap:anywhere}"
    )
    head = '<!doctype html><html lang="en"><meta charset="utf-8">'
    return f"{head}<title>Search</title><style>{style}</style>\n" + "\n".join(sections) + "</html>\n"


def _data_uri(picture: Image.Image) -> str:
    stream = io.BytesIO()
    _thumbnail(picture).save(stream, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _thumbnail(picture: Image.Image) -> Image.Image:
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return small


def _sheet(found: Sequence[tuple[str, Sequence[Result]]]) -> Image.Image:
    """Pictures in rows, one row a query."""
    step = THUMBNAIL + MARGIN
    columns = max(len(results) for _, results in found)
    height = step + 2 * CAPTION
    sheet = Image.new("RGB", (columns * step + MARGIN, len(found) * height + MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (title, results) in enumerate(found):
        top = MARGIN + number * height
        pen.text((MARGIN, top), title, "black", font(14))
        for column, result in enumerate(results):
            left = MARGIN + column * step
            if result.picture:
                sheet.paste(_thumbnail(result.picture), (left, top + CAPTION))
            pen.text((left, top + CAPTION + THUMBNAIL), f"{result.score:.3f} {result.name[:18]}", "#444444", font(12))
    return sheet
