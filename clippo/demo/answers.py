"""Answers of a checkpoint in a demo: names of a picture, search, canvases, heat maps, replies, captions."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoModel, AutoProcessor, pipeline
from transformers.utils import logging

import clippo
from clippo.evaluation.classification import zero_shot
from clippo.evaluation.encoder import Encoder
from clippo.model_files import find_model
from clippo.visualization.heatmaps import explain
from clippo.visualization.inputs import image_pixels

# Class that a folder names -> what it does.
HEADS = {
    "ClippoForVisualQuestionAnswering": "answers",
    "ClippoForConditionalGeneration": "writes",
    "ClippoModel": "compares",
}
ENLARGED = 480  # pixels of the longer side of a shown canvas
SHOWN = 5  # names of a picture and answers to a question


class Answers:
    """One checkpoint behind the demo's questions.

    Args:
        folder: Folder or hub name of a model with both sides, with a head for questions, or with a decoder.
        images: Images to search, by name. Only a model that compares images and texts reads them.

    Attributes:
        head: "compares", "answers" (questions about images) or "writes" (captions).

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The folder holds another head.

    Example:
        >>> from clippo.visualization.inputs import read_images
        >>> from pathlib import Path
        >>> answers = Answers("checkpoints/clippo-emoji", read_images(Path("docs/pictures")))
        >>> answers.search("Regenbogen", None, count=1)[0][1].partition(",")[0]
        'rainbow'
    """

    def __init__(self, folder: str | Path, images: Mapping[str, Image.Image]):
        self.folder, self.images = find_model(folder), dict(images)
        name = (clippo.ClippoConfig.from_pretrained(self.folder).architectures or ["ClippoModel"])[0]
        if name not in HEADS:
            raise ValueError(f"{folder} holds a {name}; the demo shows {', '.join(HEADS)}.")
        self.head = HEADS[name]
        logging.disable_progress_bar()
        self.processor = AutoProcessor.from_pretrained(self.folder)
        if self.head == "answers":
            self._ask = pipeline("clippo-visual-question-answering", self.folder)
        elif self.head == "writes":
            self._write = pipeline("clippo-image-text-to-text", self.folder)
        else:
            self._encoder = Encoder(AutoModel.from_pretrained(self.folder, dtype=torch.float32), self.processor)
            self._vectors = self._encoder.images(self.images.values()) if self.images else None

    def names(self, image: Image.Image | None, labels: str, template: str) -> dict[str, float]:
        """Probability of each label for an image.

        Args:
            image: The image.
            labels: One label a line.
            template: Text with {} in the place of the label.

        Raises:
            ValueError: There is no image, fewer than two labels, or the template has no {}.
        """
        chosen = list(dict.fromkeys(line.strip() for line in labels.splitlines() if line.strip()))
        if len(chosen) < 2:
            raise ValueError("Write at least two labels, one a line.")
        probabilities = zero_shot(self._encoder, [_given(image)], chosen, template)[0]
        return dict(zip(chosen, probabilities.tolist(), strict=True))

    def search(self, text: str, image: Image.Image | None, count: int = 8) -> list[tuple[Image.Image, str]]:
        """The nearest images of the folder.

        Args:
            text: Words in any language; they are used where there is no image.
            image: An image to search with.
            count: Number of images.

        Returns:
            Images with their names and cosines, the nearest first.

        Raises:
            ValueError: There is nothing to search with or among.
        """
        if self._vectors is None:
            raise ValueError("There are no pictures to search; start the demo with --image_dir.")
        if image is None and not text.strip():
            raise ValueError("Write words or give a picture to search with.")
        query = self._encoder.texts([text]) if image is None else self._encoder.images([image]).require_all()
        scores, places = (query @ self._vectors.vectors.T)[0].topk(min(count, len(self._vectors.kept)))
        names = list(self.images)
        found = [names[self._vectors.kept[place]] for place in places.tolist()]
        return [(self.images[name], f"{name}, {score:.2f}") for name, score in zip(found, scores.tolist(), strict=True)]

    def canvas(self, text: str, image: Image.Image | None = None) -> tuple[Image.Image, str]:
        """Canvas that the model reads, enlarged, and a sentence about it.

        Args:
            text: The text, or a question about the image.
            image: Image of a question; models with both sides ignore it.
        """
        tokenizer = self.processor.tokenizer
        if self.head != "compares" and image is not None:
            options = {"questions": text} if self.head == "answers" else {"text": text}
            pixels = self.processor(images=image, **options, return_tensors="pt")["pixel_values"]
            return _enlarged(image_pixels(pixels.float())[0]), "The text and the image on one canvas."
        measure = tokenizer.measure([text])[0]
        drawn = tokenizer.render([text], canvas_format="uint8").canvases
        cut = f" {measure.chars_cut} characters do not fit and are not read." if measure.chars_cut else ""
        size = " x ".join(map(str, drawn.shape[-2:]))
        return _enlarged(image_pixels(np.asarray(drawn))[0]), f"{len(text)} characters, {size} pixels.{cut}"

    def heat(self, image: Image.Image | None, text: str) -> Image.Image:
        """Heat maps of an image and a text, each for its cosine with the other.

        Args:
            image: The image.
            text: The text.

        Raises:
            ValueError: One of the two is missing.
        """
        if not text.strip():
            raise ValueError("Write a text to compare the picture with.")
        return explain(self._encoder.model, self.processor, _given(image), text)[0]

    def answer(self, image: Image.Image | None, question: str) -> dict[str, float]:
        """Score of the best answers to a question about an image.

        Args:
            image: The image.
            question: The question.
        """
        found = self._ask(_given(image), question, top_k=min(SHOWN, self._ask.model.config.num_labels))
        return {entry["answer"]: entry["score"] for entry in found}

    def write(self, image: Image.Image | None, prompt: str) -> str:
        """Text that the model writes about an image.

        Args:
            image: The image.
            prompt: Prompt that is drawn, such as "caption en".
        """
        return self._write(_given(image), prompt)[0]["generated_text"]


def _given(image: Image.Image | None) -> Image.Image:
    if image is None:
        raise ValueError("Give a picture first.")
    return image


def _enlarged(pixels: np.ndarray) -> Image.Image:
    """Canvas (H, W, 1 or 3) with whole pixels, so that it looks as the model reads it."""
    image = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    factor = max(1, round(ENLARGED / max(image.size)))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
