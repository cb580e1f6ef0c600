"""Figures of visual question answering: the layouts of a canvas, and the answers and attention of a model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from clippo.tasks.vqa.answers import is_right
from clippo.visualization.heatmaps import overlay
from clippo.visualization.inputs import image_pixels
from clippo.visualization.rollout import patch_relevance
from clippo.visualization.sheet import INK, MARGIN, PAPER, font

LAYOUTS = {
    "top": {"place": "top"},
    "bottom": {"place": "bottom"},
    "side": {"place": "side"},
    "overlay": {"place": "overlay"},
    "top, picture fit": {"place": "top", "picture": "fit"},
}
CORRECT, WRONG = "#00823c", "#c80000"
PANEL = 288  # Longer side of a canvas in pixels.
LINE = 24


def draw_layouts(processor, image, question: str, layouts: Mapping[str, Any] = LAYOUTS) -> Image.Image:
    """Draws one question and one image in every layout, side by side, as the model receives them.

    Args:
        processor: A `ClippoProcessor`.
        image: One image in any form that the processor takes.
        question: One question.
        layouts: Title -> fields of a `QuestionLayout`.
    """
    canvases = []
    for layout in layouts.values():
        drawn = processor(images=image, questions=question, question_layout=layout, return_tensors="np")
        canvases.append(image_pixels(drawn["pixel_values"])[0])
    return _columns([([panel], [(title, INK)]) for title, panel in zip(layouts, map(_enlarge, canvases), strict=True)])


def draw_answers(model, pixel_values: torch.Tensor, answers: Sequence[Sequence[str]]) -> Image.Image:
    """Draws canvases of questions, the model's answers with their probabilities, and attention roll-outs.

    Args:
        model: A `ClippoForVisualQuestionAnswering`.
        pixel_values: uint8 or float (B, 3, H, W), canvases that its processor drew.
        answers: Answers of people for each canvas. An answer that nobody gave is marked as wrong.
    """
    with torch.no_grad():
        logits = model(pixel_values=pixel_values).logits.float()  # (B, A)
    binary = model.config.problem_type == "multi_label_classification"
    scores = logits.sigmoid() if binary else logits.softmax(-1)
    relevance = patch_relevance(model, pixel_values)
    columns = []
    for canvas, score, map_, right in zip(image_pixels(pixel_values), scores, relevance, answers, strict=True):
        answer = model.config.id2label[int(score.argmax())]
        verdict = ("right", CORRECT) if is_right(answer, right) else (f"wrong: {', '.join(sorted(set(right)))}", WRONG)
        panels = [_enlarge(canvas), overlay(canvas, map_.numpy(), PANEL)]
        columns.append((panels, [(f"{answer} {float(score.max()):.0%}", INK), verdict]))
    return _columns(columns)


def _enlarge(pixels: np.ndarray) -> Image.Image:
    zoom = max(1, round(PANEL / max(pixels.shape[:2])))
    return Image.fromarray(pixels.repeat(zoom, 0).repeat(zoom, 1))


def _columns(columns: list[tuple[list[Image.Image], list[tuple[str, str]]]]) -> Image.Image:
    """Arranges columns side by side, each with its panels on top and its lines of text below."""
    gap = MARGIN // 2
    width = gap + max(max(panel.width for panel in panels) for panels, _ in columns)
    panels_height = sum(panel.height + gap for panel in columns[0][0])
    sheet = Image.new("RGB", (width * len(columns) + gap, gap + panels_height + LINE * len(columns[0][1])), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (panels, lines) in enumerate(columns):
        x, y = gap + number * width, gap
        for panel in panels:
            sheet.paste(panel, (x, y))
            y += panel.height + gap
        for line, colour in lines:
            pen.text((x, y - gap // 2), line, fill=colour, font=font(LINE * 2 // 3))
            y += LINE
    return sheet
