"""A CLIPPO for LAION's CLIP_benchmark, which has some forty data sets: `python -m clippo.integrations.clip_benchmark`.

python -m clippo.integrations.clip_benchmark eval --model_type clippo --model FOLDER --pretrained "" --dataset cifar10
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor


class ClipBenchmarkModel(torch.nn.Module):
    """What CLIP_benchmark asks of a model: `encode_image` and `encode_text`. It normalises what they return itself.

    Args:
        model: a `ClippoModel`.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def encode_image(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) from the transform -> (B, E), not normalised."""
        return self.model.get_image_features(pixel_values).pooler_output

    def encode_text(self, text_pixel_values: torch.Tensor) -> torch.Tensor:
        """The tokenizer's output for B texts -> (B, E), not normalised."""
        return self.model.get_text_features(text_pixel_values).pooler_output


def load_clippo(model_name: str, pretrained: str = "", cache_dir: str | None = None, device: Any = "cpu") -> tuple:
    """Model, transform of one picture and tokenizer of a list of strings, as CLIP_benchmark's loaders return them.

    Args:
        model_name: folder or hub name.
        pretrained: revision on the hub; '' takes the default one.
        cache_dir: of the hub.
        device: where the model goes.
    """
    options = {"cache_dir": cache_dir, **({"revision": pretrained} if pretrained else {})}
    model = AutoModel.from_pretrained(model_name, **options).to(device).eval()
    processor = AutoProcessor.from_pretrained(model_name, **options)

    def transform(image: Any) -> torch.Tensor:
        return processor(images=image, return_tensors="pt")["pixel_values"][0]

    def tokenize(texts: Sequence[str]) -> torch.Tensor:
        return processor(text=list(texts), return_tensors="pt")["text_pixel_values"]

    return ClipBenchmarkModel(model), transform, tokenize


def register() -> None:
    """Makes the model type "clippo" known to CLIP_benchmark.

    Raises:
        ImportError: CLIP_benchmark is missing.
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
