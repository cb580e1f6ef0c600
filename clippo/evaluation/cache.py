"""Embeddings kept on disk in parts, each under the hash of everything it was made from.

A part is named by what is in it: the weights, the configuration, the preprocessing and the bytes of its pictures or
texts. Nothing has to be invalidated, since a change of any of them asks for another name.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from clippo.data.samples import image_bytes

logger = logging.get_logger(__name__)

# Of a configuration, what changes no embedding.
BOOKKEEPING = ("_name_or_path", "transformers_version", "auto_map", "architectures", "dtype", "name_or_path")


def digest(*things: Any) -> str:
    """sha256 over values: bytes, strings, and whatever JSON can write."""
    state = hashlib.sha256()
    for thing in things:
        if not isinstance(thing, bytes):
            thing = json.dumps(thing, sort_keys=True, ensure_ascii=True, default=str).encode()
        state.update(len(thing).to_bytes(8, "little"))  # so that ("ab", "c") is not ("a", "bc")
        state.update(thing)
    return state.hexdigest()


def model_fingerprint(model: torch.nn.Module) -> str:
    """Hash of a model's configuration and of every weight, with its dtype."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in BOOKKEEPING}
    parts = [digest(config)]
    for name, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        parts.append(digest(name, str(tensor.dtype), list(tensor.shape), flat.view(torch.uint8).numpy().tobytes()))
    return digest(*parts)


def processor_fingerprint(processor: Any, **options) -> str:
    """Hash of all options of an image processor and renderer, and of what they make of a probe.

    The probe catches what options do not say: another font, a changed line of code.

    Args:
        processor: a `ClippoProcessor`.
        options: the keyword arguments that its calls get.
    """
    images, tokenizer = processor.image_processor, processor.tokenizer
    told = {name: getattr(tokenizer, name, value) for name, value in tokenizer.init_kwargs.items()}
    told = {name: value for name, value in told.items() if name not in BOOKKEEPING}
    ramp = np.arange(37 * 53 * 3, dtype=np.int64).reshape(37, 53, 3) * 7919 % 256
    seen = processor(images=Image.fromarray(ramp.astype(np.uint8)), return_tensors="np", **options)["pixel_values"]
    read = processor(text="Abg, Ωж犬 1", return_tensors="np")["text_pixel_values"]
    return digest(images.to_dict(), told, options, np.asarray(seen).tobytes(), np.asarray(read).tobytes())


def cell_fingerprint(cell: Any) -> str:
    """Hash of one picture as a data set holds it: file bytes where there are any, else the pixels.

    Args:
        cell: `{"bytes", "path"}`, bytes, a file name or address, a PIL image or an array.
    """
    content = image_bytes(cell)
    if content is not None:
        return digest(content)
    array = np.asarray(cell)
    return digest(getattr(cell, "mode", None), str(array.dtype), list(array.shape), array.tobytes())


class EmbeddingCache:
    """A folder of parts. Writing one is atomic: a killed process leaves whole parts, and at most one to redo.

    Args:
        folder: where the parts are; None keeps nothing.
    """

    def __init__(self, folder: str | Path | None):
        self.folder = Path(folder).expanduser() if folder else None

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def load(self, key: str) -> dict[str, torch.Tensor] | None:
        """The tensors saved under `key`, or None. A damaged file counts as missing, with a warning."""
        if self.folder is None or not self._path(key).is_file():
            return None
        try:
            return load_file(self._path(key))
        except SafetensorError as error:
            logger.warning(f"The cached part {self._path(key)} is damaged ({error}); it is computed again.")
            return None

    def save(self, key: str, tensors: dict[str, torch.Tensor]) -> None:
        """Keeps `tensors` under `key`."""
        if self.folder is None:
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        os.close(handle)
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def texts_fingerprint(texts: Iterable[str]) -> str:
    """Hash of strings in their order; lone surrogates, which UTF-8 cannot write, included."""
    return digest(*(text.encode("utf-8", "surrogatepass") for text in texts))
