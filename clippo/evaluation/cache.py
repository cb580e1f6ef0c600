"""Cache of embeddings on disk, in parts.

The name of a part is the hash of everything that its embeddings depend on: the weights, the configuration, the
preprocessing and the bytes of its images or texts. After a change of any of them, another name is looked up. Old parts
are never wrong.
"""

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers.utils import logging

from clippo.data.fingerprints import digest

logger = logging.get_logger(__name__)

# Fields of a configuration that change no embedding.
BOOKKEEPING = ("_name_or_path", "transformers_version", "auto_map", "architectures", "dtype", "name_or_path")


def model_fingerprint(model: torch.nn.Module) -> str:
    """Hashes the configuration of a model and every weight, with its dtype."""
    config = {name: value for name, value in model.config.to_dict().items() if name not in BOOKKEEPING}
    return digest(digest(config), *tensor_digests(model.state_dict()))


def tensor_digests(tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Hashes tensors with their names, dtypes and shapes, in the order of the names."""
    result = []
    for name, tensor in sorted(tensors.items()):
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        result.append(digest(name, str(tensor.dtype), list(tensor.shape), flat.view(torch.uint8).numpy().tobytes()))
    return result


def processor_fingerprint(processor: Any, **options) -> str:
    """Hashes all options of an image processor and a renderer, and their output for a probe.

    The probe detects changes that are not options, such as another font or a changed line of code.

    Args:
        processor: `ClippoProcessor`.
        options: Keyword arguments of its calls.
    """
    if hasattr(processor, "fingerprint"):  # of another model than CLIPPO
        return processor.fingerprint(**options)
    images, tokenizer = processor.image_processor, processor.tokenizer
    told = {name: getattr(tokenizer, name, value) for name, value in tokenizer.init_kwargs.items()}
    told = {name: value for name, value in told.items() if name not in BOOKKEEPING}
    ramp = np.arange(37 * 53 * 3, dtype=np.int64).reshape(37, 53, 3) * 7919 % 256
    seen = processor(images=Image.fromarray(ramp.astype(np.uint8)), return_tensors="np", **options)["pixel_values"]
    read = processor(text="Abg, Ωж犬 1", return_tensors="np")["text_pixel_values"]
    return digest(images.to_dict(), told, options, np.asarray(seen).tobytes(), np.asarray(read).tobytes())


class EmbeddingCache:
    """Folder of parts, each with a checksum.

    A part is written atomically, so a killed process leaves no incomplete part. A part that is damaged counts as
    missing. If the folder cannot be written, the cache saves no more parts. Both give a warning.

    Args:
        folder: Folder of the parts. None turns the cache off.

    Example:
        >>> cache = EmbeddingCache(None)
        >>> cache.save("ab12", {"vectors": torch.zeros(1, 2)})
        >>> print(cache.load("ab12"))
        None
    """

    def __init__(self, folder: str | Path | None):
        self.folder = Path(folder).expanduser() if folder else None
        self._writable = self.folder is not None

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def load(self, key: str) -> dict[str, torch.Tensor] | None:
        """Returns the tensors saved under `key`, or None."""
        if self.folder is None or not self._path(key).is_file():
            return None
        try:
            with safe_open(self._path(key), "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
                saved = (file.metadata() or {}).get("sha256")
            reason = "" if saved == _checksum(key, tensors) else "its checksum differs" if saved else "no checksum"
        except (SafetensorError, OSError) as error:
            reason = str(error)
        if reason:
            logger.warning(f"The cached part {self._path(key)} is damaged ({reason}); it is computed again.")
            return None
        return tensors

    def save(self, key: str, tensors: dict[str, torch.Tensor]) -> None:
        """Saves `tensors` under `key`."""
        if not self._writable:
            return
        tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
        try:
            self._write(self._path(key), tensors, {"sha256": _checksum(key, tensors)})
        except (SafetensorError, OSError) as error:  # read-only, full, or not a folder
            self._writable = False
            logger.warning(f"The cache {self.folder} cannot be written ({error}); new embeddings are not saved.")

    def _write(self, path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
        os.close(handle)
        try:
            save_file(tensors, temporary, metadata)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _checksum(key: str, tensors: Mapping[str, torch.Tensor]) -> str:
    return digest(key, *tensor_digests(tensors))


def texts_fingerprint(texts: Iterable[str]) -> str:
    """Hashes strings in their order, also lone surrogates, which UTF-8 cannot encode."""
    return digest(*(text.encode("utf-8", "surrogatepass") for text in texts))
