"""Embeddings from an ONNX export, with onnxruntime and without PyTorch's model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clippo.integrations.onnx import SUFFIXES, open_session
from clippo.processing import ClippoProcessor
from clippo.processing.images_clippo import open_image


class OnnxEncoder:
    """Embeds texts and images with the graphs of an export.

    Args:
        folder: Folder that `export_onnx` wrote.
        precision: Which files to read: "fp32", "fp16", "int8" or "int8-static".
        threads: Number of threads. 0 takes one a core.

    Raises:
        FileNotFoundError: The folder has no export in this precision.

    Example:
        >>> import tempfile
        >>> from clippo.integrations.onnx import export_onnx
        >>> folder = tempfile.mkdtemp()
        >>> _ = export_onnx("checkpoints/clippo-emoji", folder)
        >>> encoder = OnnxEncoder(folder)
        >>> dog, hund, picture = encoder.encode(["dog", "Hund", Path("docs/pictures/dog.webp")])
        >>> bool(dog @ hund > 0.5), picture.shape
        (True, (256,))
    """

    def __init__(self, folder: str | Path, precision: str = "fp32", threads: int = 0):
        if precision not in SUFFIXES:
            raise ValueError(f"precision={precision!r} is not known; choose one of {', '.join(SUFFIXES)}.")
        self.folder, self.suffix, self.threads = Path(folder), SUFFIXES[precision], threads
        for side in ("vision_model", "text_model"):
            if not self._path(side).is_file():
                raise FileNotFoundError(
                    f"There is no {self._path(side)}; write it with `clippo export onnx --precision {precision}`."
                )
        self.processor = ClippoProcessor.from_pretrained(self.folder)
        self._sessions: dict[str, Any] = {}

    def encode(self, items: Sequence[Any], batch_size: int = 64) -> np.ndarray:
        """Embed a list of texts and images.

        Args:
            items: Strings are texts, everything else is an image: a `Path`, bytes, a PIL image or an array.
            batch_size: Number of items embedded at once.

        Returns:
            float32 (N, E) of unit length, in the order of `items`.

        Raises:
            TypeError: `items` is one string.
            ValueError: There are no items.
        """
        if isinstance(items, str | bytes):
            raise TypeError("items is one string; pass a list.")
        if not len(items):
            raise ValueError("There are no items to embed: the list is empty.")
        is_text = np.array([isinstance(item, str) for item in items])
        vectors = None
        for kind, embed in ((True, self.texts), (False, self.images)):
            places = np.flatnonzero(is_text == kind)
            for start in range(0, len(places), batch_size):
                part = places[start : start + batch_size]
                embedded = embed([items[place] for place in part])
                vectors = np.zeros((len(items), embedded.shape[1]), np.float32) if vectors is None else vectors
                vectors[part] = embedded
        return vectors

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts at once: float32 (N, E) of unit length."""
        session = self._session("text_model")
        text_format = "packed" if session.get_inputs()[0].type == "tensor(int64)" else "uint8"
        values = self.processor.tokenizer(list(texts), canvas_format=text_format, return_tensors="np")
        return session.run(None, {"text_pixel_values": values["text_pixel_values"]})[0]

    def images(self, images: Sequence[Any]) -> np.ndarray:
        """Embed images at once: float32 (N, E) of unit length."""
        opened = [open_image(image) if isinstance(image, Path | bytes) else image for image in images]
        values = self.processor(images=opened, return_tensors="np")["pixel_values"]
        return self._session("vision_model").run(None, {"pixel_values": values})[0]

    def _path(self, side: str) -> Path:
        return self.folder / "onnx" / f"{side}{self.suffix}.onnx"

    def _session(self, side: str) -> Any:
        """Session of a side, opened when it is first used."""
        if side not in self._sessions:
            self._sessions[side] = open_session(self._path(side), self.threads)
        return self._sessions[side]


__all__ = ["OnnxEncoder"]
