"""Relevance maps over the canvas that the model reads, and relevance of single letters."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw

from clippo.evaluation.encoder import check_finite
from clippo.modeling_clippo.modeling_clippo import normalize
from clippo.visualization.grad_cam import grad_cam
from clippo.visualization.inputs import image_pixels
from clippo.visualization.rollout import patch_relevance
from clippo.visualization.sheet import GREY, INK, MARGIN, PAPER, font

METHODS = {"rollout": "attention roll-out", "grad-cam": "Grad-CAM"}
# Colours of the relevance 0, 1/2 and 1 over a grey image: none, orange, dark red.
HEAT = np.array([(255, 255, 255), (253, 174, 97), (165, 0, 38)], dtype=np.float64)
PANEL = 480  # longer side of a panel in pixels


def overlay(pixels: np.ndarray, relevance: np.ndarray, side: int = PANEL) -> Image.Image:
    """Draws a canvas in grey with its relevance in colour, patch by patch.

    Args:
        pixels: uint8 (H, W, 1 or 3).
        relevance: (rows, columns), not negative. It is scaled to a maximum of 1.
        side: Longer side of the figure in pixels, approximately.

    Raises:
        ValueError: The map does not divide the canvas.
    """
    height, width = pixels.shape[:2]
    rows, columns = relevance.shape
    if height % rows or width % columns:
        raise ValueError(f"A map of {rows}x{columns} does not divide a canvas of {height}x{width} pixels.")
    scaled = np.asarray(relevance, dtype=np.float64) / max(float(np.max(relevance)), 1e-12)
    scaled = scaled.repeat(height // rows, 0).repeat(width // columns, 1)[..., None]  # (H, W, 1)
    low = np.minimum((scaled * 2).astype(int), 1)
    heat = HEAT[low[..., 0]] + (scaled * 2 - low) * (HEAT[low[..., 0] + 1] - HEAT[low[..., 0]])
    grey = pixels.astype(np.float64).mean(-1, keepdims=True) / 255
    mixed = (heat * (0.25 + 0.75 * grey)).round().astype(np.uint8)
    zoom = max(1, round(side / max(height, width)))
    return Image.fromarray(mixed.repeat(zoom, 0).repeat(zoom, 1))


def character_relevance(relevance: np.ndarray, boxes: np.ndarray, patch_size: int) -> np.ndarray:
    """Computes the relevance of every drawn character, the mean of the map over its box.

    Args:
        relevance: (rows, columns), one value a patch.
        boxes: int (C, 4), x0, y0, x1, y1 in pixels, as `processor.tokenizer.render(text, boxes=True)` returns them.
        patch_size: Side of a patch in pixels.

    Returns:
        float64 (C,), 0 for a character without a box.
    """
    pixels = np.asarray(relevance, dtype=np.float64).repeat(patch_size, 0).repeat(patch_size, 1)
    return np.array([pixels[y0:y1, x0:x1].mean() if x1 > x0 and y1 > y0 else 0.0 for x0, y0, x1, y1 in boxes])


def explain(model, processor, image, text: str, methods: Sequence[str] = tuple(METHODS)) -> tuple[Image.Image, dict]:
    """Draws the relevance of the patches of an image and of a text, each for its cosine with the other.

    Args:
        model: `ClippoModel`.
        processor: `ClippoProcessor` of the model.
        image: One image in any form that the processor accepts.
        text: One string.
        methods: Names in `METHODS`. Roll-out depends on one side alone; Grad-CAM depends on both.

    Returns:
        A figure, one row a method with the image left and the rendered text right, and a dict {"cosine": float,
        method: [(character, relevance), ...]}. The maximum relevance is 1.

    Raises:
        ValueError: A method is unknown, or an embedding is not finite.

    Example:
        >>> from transformers import AutoModel, AutoProcessor
        >>> model = AutoModel.from_pretrained("checkpoints/clippo-emoji")
        >>> processor = AutoProcessor.from_pretrained("checkpoints/clippo-emoji")
        >>> figure, found = explain(model, processor, "docs/pictures/cat.webp", "cat")
        >>> [letter for letter, relevance in found["grad-cam"]]
        ['c', 'a', 't']
    """
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods:
        raise ValueError(f"methods are of {', '.join(METHODS)}; got {', '.join(unknown) or 'none'}.")
    inputs = processor(images=[image], text=[text], return_tensors="pt").to(model.device)
    drawn = processor.tokenizer.render(text, boxes=True, canvas_format="uint8")
    pixels = {"image": inputs["pixel_values"], "text": inputs["text_pixel_values"]}
    canvases = {
        "image": image_pixels(pixels["image"].float().cpu())[0],
        "text": image_pixels(np.asarray(drawn.canvases))[0],
    }
    with torch.no_grad():
        embeddings = {
            "image": normalize(model.get_image_features(pixels["image"]).pooler_output),
            "text": normalize(model.get_text_features(pixels["text"]).pooler_output),
        }
    for modality, vectors in embeddings.items():
        check_finite(vectors, modality)
    result = {"cosine": (embeddings["image"] * embeddings["text"]).sum().item()}
    panels = []
    for method in methods:
        for modality, other in (("image", "text"), ("text", "image")):
            if method == "rollout":
                relevance = patch_relevance(model, pixels[modality], modality=modality)
            else:
                relevance = grad_cam(model, pixels[modality], embeddings[other], modality=modality)
            relevance = relevance[0].cpu().numpy()
            panels.append(overlay(canvases[modality], relevance))
        letters = character_relevance(relevance, drawn.boxes[0], model.config.patch_size)
        letters = letters / max(letters.max(initial=0), 1e-12)
        result[method] = list(zip(text, letters.tolist(), strict=False))  # a cut character has no box
    return _arrange(panels, [METHODS[method] for method in methods], result["cosine"]), result


def _arrange(panels: list[Image.Image], titles: list[str], cosine: float) -> Image.Image:
    width = max(panel.width for panel in panels)
    height = max(panel.height for panel in panels)
    sheet = Image.new("RGB", (2 * width + 3 * MARGIN, len(titles) * (height + 2 * MARGIN) + MARGIN), PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, title in enumerate(titles):
        y = MARGIN // 2 + row * (height + 2 * MARGIN)
        pen.text((MARGIN, y), title, fill=INK, font=font(26))
        if row == 0:
            pen.text((2 * MARGIN + width, y), f"cosine {cosine:.2f}", fill=GREY, font=font(26))
        for column in range(2):
            sheet.paste(panels[2 * row + column], (MARGIN + column * (width + MARGIN), y + MARGIN))
    return sheet
