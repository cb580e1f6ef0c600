"""The graphs that an ONNX export writes: modules with tensors in and tensors out, and their file names.

File, input and output names are those that optimum writes for CLIP and transformers.js reads.

Axes: B images, T texts, E embedding width, H W canvas in pixels, L labels.
"""

from typing import NamedTuple

import torch
from torch import nn

from clippo.modeling_clippo.modeling_clippo import normalize

TEXT_FORMATS = ("uint8", "packed")


class Graph(NamedTuple):
    """One file of an export.

    Args:
        name: File name without ending.
        module: What is exported.
        inputs: Name of each input, with the name of its first axis.
        outputs: Names of the outputs.
    """

    name: str
    module: nn.Module
    inputs: dict[str, str]
    outputs: tuple[str, ...]


class ImageGraph(nn.Module):
    """pixel_values (B, 3, H, W) -> image_embeds (B, E) of unit length."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return normalize(self.model.get_image_features(pixel_values).pooler_output)


class TextGraph(nn.Module):
    """text_pixel_values, uint8 (T, 1, H, W) or packed int64 (T, H/16, W/4) -> text_embeds (T, E) of unit length."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, text_pixel_values: torch.Tensor) -> torch.Tensor:
        return normalize(self.model.get_text_features(text_pixel_values).pooler_output)


class PairGraph(nn.Module):
    """Both inputs -> logits_per_image (B, T), logits_per_text (T, B), text_embeds (T, E), image_embeds (B, E)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor, text_pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(pixel_values, text_pixel_values)
        return output.logits_per_image, output.logits_per_text, output.text_embeds, output.image_embeds


class HeadGraph(nn.Module):
    """Pixel values of a classification head -> logits (B, L)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.model(values).logits


# The input of each head. A sequence classifier reads texts, the others read images.
HEADS = {
    "ClippoForImageClassification": "pixel_values",
    "ClippoForVisualQuestionAnswering": "pixel_values",
    "ClippoForSequenceClassification": "text_pixel_values",
}


def graphs_of(model: nn.Module) -> list[Graph]:
    """List the graphs of a model.

    Args:
        model: `ClippoModel` or a model with a classification head. One whose image vectors are given has its text side
            only.

    Raises:
        ValueError: The model has a form that cannot be one static graph.

    Example:
        >>> import clippo
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32)
        >>> [graph.name for graph in graphs_of(clippo.ClippoModel(config))]
        ['vision_model', 'text_model', 'model']
    """
    name = type(model).__name__
    if name == "ClippoModel":
        image, text = {"pixel_values": "images"}, {"text_pixel_values": "texts"}
        scores = ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")
        texts = Graph("text_model", TextGraph(model), text, ("text_embeds",))
        if model.config.image_tower_is_foreign:  # its image vectors are given
            return [texts]
        return [
            Graph("vision_model", ImageGraph(model), image, ("image_embeds",)),
            texts,
            Graph("model", PairGraph(model), image | text, scores),
        ]
    if name not in HEADS:
        raise ValueError(
            f"{name} cannot be exported to ONNX; export one of ClippoModel, {', '.join(HEADS)}, or load the folder as "
            "ClippoModel for its embeddings."
        )
    return [Graph("model", HeadGraph(model), {HEADS[name]: "batch"}, ("logits",))]
