"""Adapter for LAION's CLIP_benchmark, which has some forty data sets.

python -m clippo.integrations.clip_benchmark eval --model_type clippo --model FOLDER --pretrained "" --dataset cifar10
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor

from clippo.model_files import find_model


class ClipBenchmarkModel(torch.nn.Module):
    """Model with the interface of CLIP_benchmark, which normalizes the vectors by itself.

    Args:
        model: `ClippoModel`.

    Example:
        >>> model, transform, tokenize = load_clippo("checkpoints/clippo-emoji")
        >>> model.encode_text(tokenize(["cat", "dog"])).shape
        torch.Size([2, 256])
    """

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def encode_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Embeds the transform's output, (B, 3, H, W) -> (B, E), without normalization."""
        return self.model.get_image_features(pixel_values).pooler_output

    def encode_text(self, text_pixel_values: torch.Tensor) -> torch.Tensor:
        """Embeds the tokenizer's output for B texts, -> (B, E), without normalization."""
        return self.model.get_text_features(text_pixel_values).pooler_output


def load_clippo(model_name: str, pretrained: str = "", cache_dir: str | None = None, device: Any = "cpu") -> tuple:
    """Loads a model, its transform of one image and its tokenizer of a list of strings.

    Args:
        model_name: Folder or hub name.
        pretrained: Revision on the hub. An empty string takes the default one.
        cache_dir: Folder for downloads from the hub.
        device: Device of the model.
    """
    options = {"cache_dir": cache_dir, **({"revision": pretrained} if pretrained else {})}
    model = AutoModel.from_pretrained(find_model(model_name), **options).to(device).eval()
    processor = AutoProcessor.from_pretrained(model_name, **options)

    def transform(image: Any) -> torch.Tensor:
        return processor(images=image, return_tensors="pt")["pixel_values"][0]

    def tokenize(texts: Sequence[str]) -> torch.Tensor:
        return processor(text=list(texts), return_tensors="pt")["text_pixel_values"]

    return ClipBenchmarkModel(model), transform, tokenize


def register() -> None:
    """Registers the model type "clippo" with CLIP_benchmark.

    Raises:
        ImportError: CLIP_benchmark cannot be imported.
    """
    try:
        from clip_benchmark import models
    except ImportError as error:
        raise ImportError(f"This needs CLIP_benchmark: pip install 'clippo[clip-benchmark]' ({error}).") from error
    models.TYPE2FUNC["clippo"] = load_clippo
    if "clippo" not in models.MODEL_TYPES:
        models.MODEL_TYPES.append("clippo")


if __name__ == "__main__":
    register()
    from clip_benchmark.cli import main

    main()
