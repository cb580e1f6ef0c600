"""Adapter for LAION's CLIP_benchmark, which has some forty data sets.

python -m clippo.integrations.clip_benchmark eval --model_type clippo --model FOLDER --pretrained "" --dataset cifar10
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor

from clippo.evaluation.encoder import check_finite
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
        return self._checked(self.model.get_image_features(pixel_values).pooler_output, "image")

    def encode_text(self, text_pixel_values: torch.Tensor) -> torch.Tensor:
        """Embeds the tokenizer's output for B texts, -> (B, E), without normalization."""
        return self._checked(self.model.get_text_features(text_pixel_values).pooler_output, "text")

    def _checked(self, vectors: torch.Tensor, kind: str) -> torch.Tensor:
        if not self.training:  # scaled gradients in half precision may overflow on purpose
            check_finite(vectors, kind)
        return vectors


class Transform:
    """Transform of one image. Data loaders with any start method can pickle it.

    Args:
        processor: `ClippoProcessor`.

    Example:
        >>> from clippo import ClippoProcessor
        >>> Transform(ClippoProcessor.from_size(32))("docs/pictures/cat.webp").shape
        torch.Size([3, 32, 32])
    """

    def __init__(self, processor: Any):
        self.processor = processor

    def __call__(self, image: Any) -> torch.Tensor:
        """Converts an image to pixel values (3, H, W)."""
        return self.processor(images=image, return_tensors="pt")["pixel_values"][0]


class Tokenizer:
    """Renderer of a list of strings. Data loaders with any start method can pickle it.

    Args:
        processor: `ClippoProcessor`.

    Example:
        >>> from clippo import ClippoProcessor
        >>> Tokenizer(ClippoProcessor.from_size(32))(["cat", "dog"]).shape
        torch.Size([2, 1, 32, 32])
    """

    def __init__(self, processor: Any):
        self.processor = processor

    def __call__(self, texts: Sequence[str]) -> torch.Tensor:
        """Renders strings as pixel values (B, 1, H, W)."""
        return self.processor(text=list(texts), return_tensors="pt")["text_pixel_values"]


def load_clippo(model_name: str, pretrained: str = "", cache_dir: str | None = None, device: Any = "cpu") -> tuple:
    """Loads a model, its transform of one image and its tokenizer of a list of strings.

    Args:
        model_name: Folder or hub name.
        pretrained: Revision on the hub. An empty string takes the default one.
        cache_dir: Folder for downloads from the hub.
        device: Device of the model.
    """
    options = {"cache_dir": cache_dir, **({"revision": pretrained} if pretrained else {})}
    if not any(options.values()):
        find_model(model_name)
    model = AutoModel.from_pretrained(model_name, **options).to(device).eval()
    processor = AutoProcessor.from_pretrained(model_name, **options)
    return ClipBenchmarkModel(model), Transform(processor), Tokenizer(processor)


def register() -> None:
    """Registers the model type "clippo" with CLIP_benchmark.

    Raises:
        ImportError: CLIP_benchmark cannot be imported.
    """
    try:
        from clip_benchmark import models
        from clip_benchmark.metrics import linear_probe, zeroshot_classification
    except ImportError as error:
        raise ImportError(f"This needs CLIP_benchmark: pip install 'clippo[clip-benchmark]' ({error}).") from error
    models.TYPE2FUNC["clippo"] = load_clippo
    if "clippo" not in models.MODEL_TYPES:
        models.MODEL_TYPES.append("clippo")
    # CLIP_benchmark 1.6 converts arrays of one element to float, which NumPy 2.4 refuses.
    zeroshot_classification.accuracy = linear_probe.accuracy = top_k_accuracy


def top_k_accuracy(output: torch.Tensor, target: torch.Tensor, topk: Sequence[int] = (1,)) -> list[float]:
    """Computes the share of rows whose target is among the k largest scores.

    Args:
        output: (N, C) scores.
        target: int64 (N,), class of each row.
        topk: Values of k.
    """
    hits = output.topk(max(topk), dim=1).indices == target[:, None]  # (N, max k)
    return [hits[:, :k].any(1).double().mean().item() for k in topk]


def main() -> None:
    """Runs CLIP_benchmark's command line with the model type "clippo"."""
    register()
    from clip_benchmark.cli import main as run

    run()


if __name__ == "__main__":
    # Spawned workers find the classes in the module of this name, not in "__main__".
    from clippo.integrations import clip_benchmark as imported

    imported.main()
