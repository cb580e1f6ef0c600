"""Another canvas for a trained model: higher resolution, room for a question, or colours."""

from collections.abc import Sequence

import torch
from torch import nn
from transformers import PreTrainedModel

from clippo.conversion.big_vision import change_resolution
from clippo.modeling_clippo import ClippoConfig
from clippo.processing import ClippoProcessor


def resize_canvas(model: PreTrainedModel, processor: ClippoProcessor, image_size: int | Sequence[int]) -> None:
    """Gives model and processor a canvas of another size, in place; positions are resampled as officially.

    Args:
        model: any CLIPPO model with a `vision_model`.
        processor: its `ClippoProcessor`.
        image_size: side, or [height, width], in pixels.
    """
    resized = ClippoConfig(image_size=image_size, patch_size=model.config.patch_size)  # checks the size
    change_resolution(model, image_size)
    height, width = resized.canvas_size
    processor.image_processor.size = {"height": height, "width": width}
    processor.tokenizer.canvas_size = [height, width]
    processor.tokenizer.init_kwargs["canvas_size"] = [height, width]


@torch.no_grad()
def spread_channels(model: PreTrainedModel, num_channels: int = 3) -> None:
    """Lets a model that was trained on one channel, as text alone allows, see colours: in place.

    Every channel gets its share of the one kernel, so grey canvases, text among them, are read as before.

    Args:
        model: any CLIPPO model with a `vision_model` of one channel.
        num_channels: what it reads afterwards.

    Raises:
        ValueError: the model reads more than one channel already.
    """
    embeddings = model.vision_model.embeddings
    grey = embeddings.patch_embedding
    if grey.in_channels != 1:
        raise ValueError(f"The model reads {grey.in_channels} channels already; only one can be spread.")
    colour = nn.Conv2d(num_channels, grey.out_channels, grey.kernel_size, grey.stride).to(grey.weight)
    colour.weight.copy_(grey.weight.expand(-1, num_channels, -1, -1) / num_channels)
    colour.bias.copy_(grey.bias)
    embeddings.patch_embedding = colour
    model.config.num_channels = num_channels
