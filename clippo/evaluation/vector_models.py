"""Models of other libraries as `Encoder` uses them: transformers, timm and sentence-transformers.

A name is a folder or a hub name. "timm:NAME" is a model of timm, "sentence:NAME" one of sentence-transformers.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor

from clippo.data.fingerprints import digest
from clippo.model_files import find_model

PROBE_TEXT = "Abg, Ωж犬 1"


class Batch(dict):
    """Inputs of a model; values that are not tensors stay where they are."""

    def to(self, device: torch.device) -> "Batch":
        """The batch with its tensors on another device."""
        return Batch({name: v.to(device) if isinstance(v, torch.Tensor) else v for name, v in self.items()})


class VectorModel(nn.Module):
    """A model of another library with the interface of `ClippoModel` that `Encoder` needs.

    Args:
        module: The model.
        images: Function of the inputs that returns vectors (B, E), or None if the model reads no images.
        texts: The same for texts.
        about: What the vectors depend on beside the weights, as JSON values.

    Example:
        >>> module = nn.Linear(2, 3)
        >>> model = VectorModel(module, lambda pixel_values: module(pixel_values), None, {"name": "linear"})
        >>> model.get_image_features(pixel_values=torch.zeros(4, 2)).pooler_output.shape
        torch.Size([4, 3])
    """

    def __init__(self, module: nn.Module, images: Callable | None, texts: Callable | None, about: dict[str, Any]):
        super().__init__()
        self.module, self._images, self._texts = module, images, texts
        self.config = SimpleNamespace(to_dict=lambda: about)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def get_image_features(self, **inputs) -> SimpleNamespace:
        """As of `ClippoModel`: `pooler_output` (B, E), not normalised."""
        return SimpleNamespace(pooler_output=self._images(**inputs).flatten(1))

    def get_text_features(self, **inputs) -> SimpleNamespace:
        """As of `ClippoModel`: `pooler_output` (B, E), not normalised."""
        return SimpleNamespace(pooler_output=self._texts(**inputs).flatten(1))


def _call(function: Callable | None, kind: str, items: list) -> Batch:
    if function is None:
        raise ValueError(f"The model reads no {kind}; choose another model, or embed another column.")
    return function(items)


class VectorProcessor:
    """Preprocessing of another library with the interface of `ClippoProcessor` that `Encoder` needs.

    Args:
        images: Function of a list of PIL images that returns a `Batch`, or None.
        texts: Function of a list of strings that returns a `Batch`, or None.
        options: Options that change the inputs, as JSON values.
        count_cut: Function of a list of strings that returns whether each is too long for the model.

    Example:
        >>> processor = VectorProcessor(None, lambda texts: Batch(texts=texts), {"lower": True})
        >>> processor(text=["a"])
        {'texts': ['a']}
    """

    def __init__(
        self, images: Callable | None, texts: Callable | None, options: dict, count_cut: Callable | None = None
    ):
        self._images, self._texts, self._options = images, texts, options
        self._count_cut = count_cut or (lambda texts: [False] * len(texts))
        self.tokenizer = SimpleNamespace(measure=self._measure)

    def __call__(self, images: list | None = None, text: list[str] | None = None, **options) -> Batch:
        if images is not None:
            images = [image if hasattr(image, "convert") else Image.fromarray(image) for image in images]
            return _call(self._images, "images", images)
        return _call(self._texts, "texts", text)

    def _measure(self, texts: list[str]) -> list[SimpleNamespace]:
        return [SimpleNamespace(chars_cut=int(cut)) for cut in self._count_cut(texts)]

    def fingerprint(self, **options) -> str:
        """Hash of all options, and of the inputs that a probe becomes."""
        ramp = (np.arange(37 * 53 * 3, dtype=np.int64).reshape(37, 53, 3) * 7919 % 256).astype(np.uint8)
        probes = []
        if self._images is not None:
            probes.append(self._images([Image.fromarray(ramp)]))
        if self._texts is not None:
            probes.append(self._texts([PROBE_TEXT]))
        seen = [v for probe in probes for _, v in sorted(probe.items())]
        seen = [v.float().cpu().numpy().tobytes() if isinstance(v, torch.Tensor) else v for v in seen]
        return digest(self._options, options, *seen)


def open_vector_model(
    name: str, weights: str | None = None, size: int | None = None, crop: float | None = None, dtype: str = "float32"
) -> tuple[Any, Any]:
    """Open a model and its preprocessing by name.

    Args:
        name: Folder or hub name of a CLIPPO, of another model of transformers that reads images, or of a
            sentence-transformers folder; "timm:NAME"; "sentence:NAME".
        weights: File of weights for a timm model. None means the pretrained ones, which timm downloads.
        size: Side of the square input in pixels, for timm.
        crop: Share of the side that is cropped in the centre, for timm. 1 squashes the whole image to the input.
        dtype: Type of the weights.

    Returns:
        Model and processor for `Encoder`.

    Raises:
        ImportError: The library is not installed.
        ValueError: An option has no effect on such a model, or its vectors would not be trained ones.
    """
    library, _, rest = name.partition(":")
    if library == "timm" and rest:
        return _open_timm(rest, weights, size, crop, dtype)
    given = [option for option, value in (("weights", weights), ("size", size), ("crop", crop)) if value is not None]
    if given:
        raise ValueError(f"{', '.join(given)} would have no effect on {name}; it is for models of timm (timm:NAME).")
    if library == "sentence" and rest:
        return _open_sentence_transformer(rest, dtype)
    name = find_model(name)
    if AutoConfig.from_pretrained(name).model_type == "clippo":
        return AutoModel.from_pretrained(name, dtype=dtype).eval(), AutoProcessor.from_pretrained(name)
    if (Path(name) / "modules.json").is_file():
        return _open_sentence_transformer(name, dtype)
    return _open_transformers(name, dtype)


def _open_transformers(name: str, dtype: str) -> tuple[VectorModel, VectorProcessor]:
    """Image features of CLIP and its relatives, or pooled output, or the mean of the tokens."""
    model, loading = AutoModel.from_pretrained(name, dtype=dtype, output_loading_info=True)
    if loading["missing_keys"]:
        raise ValueError(
            f"{name} has no weights for {sorted(map(str, loading['missing_keys']))[0]}, so its vectors would be random "
            "ones; choose a model whose head is saved."
        )
    processor = AutoImageProcessor.from_pretrained(name)

    def features(**inputs) -> torch.Tensor:
        call = getattr(model, "get_image_features", model)
        output = call(**inputs)
        if isinstance(output, torch.Tensor):
            return output
        pooled = output.pooler_output if output.get("pooler_output") is not None else None
        return output.last_hidden_state.mean(1) if pooled is None else pooled

    def read(images: list) -> Batch:
        inputs = processor(images=[image.convert("RGB") for image in images], return_tensors="pt")
        return Batch({key: v.to(model.dtype) if v.is_floating_point() else v for key, v in inputs.items()})

    about = {"library": "transformers", "config": model.config.to_dict(), "dtype": dtype}
    return VectorModel(model, features, None, about).eval(), VectorProcessor(read, None, processor.to_dict())


def _open_timm(
    name: str, weights: str | None, size: int | None, crop: float | None, dtype: str
) -> tuple[VectorModel, VectorProcessor]:
    """Pooled features before the classifier."""
    timm = _library("timm", "timm")
    model = timm.create_model(name, pretrained=weights is None)
    if weights is not None:
        model.load_state_dict(match_weights(torch.load(weights, map_location="cpu", weights_only=True), model, weights))
    model = model.to(getattr(torch, dtype))
    config = timm.data.resolve_data_config({}, model=model)
    if size is not None:
        config["input_size"] = (3, size, size)
    if crop is not None:
        config["crop_pct"] = crop
    if crop == 1.0:
        config["crop_mode"] = "squash"
    transform = timm.data.create_transform(**config, is_training=False)

    def features(pixel_values: torch.Tensor) -> torch.Tensor:
        return model.forward_head(model.forward_features(pixel_values), pre_logits=True)

    def read(images: list) -> Batch:
        pixels = torch.stack([transform(image.convert("RGB")) for image in images])
        return Batch(pixel_values=pixels.to(getattr(torch, dtype)))

    about = {"library": "timm", "name": name, "dtype": dtype}
    options = {key: str(value) for key, value in config.items()}
    return VectorModel(model, features, None, about).eval(), VectorProcessor(read, None, options)


def match_weights(weights: dict[str, torch.Tensor], model: nn.Module, file: str) -> dict[str, torch.Tensor]:
    """Weights under the names of a model.

    Other ports of a published model have other names in the same order. They are accepted if every shape agrees.

    Args:
        weights: Tensors of the file.
        model: Model to load.
        file: Name of the file for messages.

    Raises:
        ValueError: The numbers or shapes of the tensors differ.
    """
    own = model.state_dict()
    if set(weights) == set(own):
        return weights
    pairs = list(zip(own.items(), weights.items(), strict=False))
    wrong = [(ours, theirs) for (ours, a), (theirs, b) in pairs if a.shape != b.shape]
    if wrong or len(own) != len(weights):
        where = f"{wrong[0][0]} is not {wrong[0][1]}" if wrong else f"{len(weights)} tensors, not {len(own)}"
        raise ValueError(f"{file} is not a file of this model: {where}. Name the model that the file was made for.")
    return {ours: tensor for (ours, _), (_, tensor) in pairs}


def _open_sentence_transformer(name: str, dtype: str) -> tuple[VectorModel, VectorProcessor]:
    """Sentence embeddings. Images are read by models of transformers and timm."""
    library = _library("sentence_transformers", "sentence-transformers")
    model = library.SentenceTransformer(name, device="cpu").to(getattr(torch, dtype))

    def encode(items: list) -> torch.Tensor:
        return model.encode(items, convert_to_tensor=True, show_progress_bar=False, batch_size=len(items))

    def too_long(texts: list[str]) -> list[bool]:
        longest = model.max_seq_length
        return [longest is not None and len(ids) > longest for ids in model.tokenizer(texts)["input_ids"]]

    modules = [getattr(module, "get_config_dict", dict)() for module in model]
    modules = json.loads(json.dumps(modules, default=str))
    about = {"library": "sentence-transformers", "modules": modules, "dtype": dtype}
    options = {"probe": model.tokenizer([PROBE_TEXT])["input_ids"], "max_seq_length": model.max_seq_length}
    processor = VectorProcessor(None, lambda texts: Batch(items=texts), options, too_long)
    return VectorModel(model, None, encode, about).eval(), processor


def _library(module: str, package: str) -> Any:
    try:
        return __import__(module)
    except ImportError as error:
        raise ImportError(f"{package} is not installed; run pip install 'clippo[{package}]'.") from error
