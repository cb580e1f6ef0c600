"""Model surgery: another canvas, more channels or another head for trained weights.

`grow` makes a larger model. Every other function changes the model in place and keeps all other weights.
"""

import re
from collections.abc import Sequence

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from clippo.growth import grow
from clippo.modeling_clippo import ClippoForSequenceClassification
from clippo.processing import ClippoProcessor

__all__ = [
    "freeze_others",
    "grow",
    "has_head",
    "inflate_patch_embedding",
    "init_classifier_bias",
    "reset_head",
    "resize_canvas",
]


@torch.no_grad()
def resize_canvas(
    model: PreTrainedModel, image_size: int | Sequence[int], processor: ClippoProcessor | None = None
) -> None:
    """Resizes the canvas of a model, and of its processor, in place.

    Position embeddings are resampled bilinearly with aligned corners. The official loader does the same
    (big_vision `models/vit.py`, `resample_posemb`, with `scipy.ndimage.zoom(order=1)`).

    Args:
        model: CLIPPO model with a `vision_model`.
        image_size: Side, or (height, width), in pixels; multiples of the patch size.
        processor: Processor that follows the model.

    Raises:
        ValueError: `image_size` is not one or two positive multiples of the patch size.

    Example:
        >>> import clippo
        >>> from clippo.surgery import resize_canvas
        >>> model = clippo.ClippoModel(clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32))
        >>> resize_canvas(model, [32, 64])
        >>> model.config.canvas_size
        (32, 64)
    """
    sides = [image_size] if isinstance(image_size, int) else list(image_size)
    patch = model.config.patch_size
    if len(sides) not in (1, 2) or any(side < 1 or side % patch for side in sides):
        raise ValueError(
            f"image_size={image_size} is not a multiple of patch_size={patch}; give one side, or height and width, in "
            "whole patches."
        )
    height, width = sides[0], sides[-1]
    embeddings = model.vision_model.embeddings
    positions = embeddings.positions_for(height // patch, width // patch)  # (1, N, D)
    embeddings.position_embedding = nn.Parameter(positions.clone())
    for module in model.modules():
        if hasattr(module, "config"):
            module.config.image_size = height if height == width else [height, width]
    if processor is not None:
        processor.image_processor.size = {"height": height, "width": width}
        processor.tokenizer.canvas_size = [height, width]
        processor.tokenizer.init_kwargs["canvas_size"] = [height, width]


@torch.no_grad()
def inflate_patch_embedding(model: PreTrainedModel, num_channels: int = 3) -> None:
    """Gives a model that was trained on one channel, as text alone allows, more channels in place.

    Every channel receives an equal share of the one kernel, so the output for grey canvases, text included, is the
    same as before.

    Args:
        model: CLIPPO model with a `vision_model` of one channel.
        num_channels: Number of channels afterwards.

    Raises:
        ValueError: The model has more than one channel.

    Example:
        >>> import clippo
        >>> from clippo.surgery import inflate_patch_embedding
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32, num_channels=1)
        >>> model = clippo.ClippoModel(config)
        >>> inflate_patch_embedding(model)
        >>> model.vision_model.embeddings.patch_embedding.weight.shape
        torch.Size([192, 3, 16, 16])
    """
    embeddings = model.vision_model.embeddings
    grey = embeddings.patch_embedding
    if grey.in_channels != 1:
        raise ValueError(f"The model reads {grey.in_channels} channels already; only one channel can be inflated.")
    colour = nn.Conv2d(num_channels, grey.out_channels, grey.kernel_size, grey.stride).to(grey.weight)
    colour.weight.copy_(grey.weight.expand(-1, num_channels, -1, -1) / num_channels)
    colour.bias.copy_(grey.bias)
    embeddings.patch_embedding = colour
    model.config.num_channels = num_channels


def has_head(config: PretrainedConfig) -> bool:
    """Returns whether the config is that of a saved classifier (`ClippoFor...`)."""
    return any("For" in name for name in config.architectures or ())


def reset_head(model: PreTrainedModel) -> None:
    """Replaces the head of a classifier by that of a new model of its config, in place; the tower is kept."""
    new = type(model)(model.config)
    for name in ("classifier_hidden", "classifier"):
        getattr(model, name).load_state_dict(getattr(new, name).state_dict())


@torch.no_grad()
def init_classifier_bias(model: ClippoForSequenceClassification, labels: list) -> None:
    """Sets the classifier's bias to the average answer, so that the first steps do not teach it to the tower.

    The bias is the mean of the labels in regression and the logarithm of each class's share in classification.

    Args:
        model: Classifier, changed in place.
        labels: Training labels: floats in regression, class numbers in classification.
    """
    labels = torch.tensor(labels)
    if labels.is_floating_point():
        model.classifier.bias.fill_(labels.mean())
    else:
        count = torch.bincount(labels, minlength=model.config.num_labels) + 1  # a class may be missing from a subset
        model.classifier.bias.copy_((count / count.sum()).log())


def freeze_others(model: nn.Module, pattern: str) -> None:
    """Stop the gradients of all parameters but those that a regular expression finds by name.

    Args:
        model: Model to train in part.
        pattern: Regular expression, searched in the names of the parameters.

    Raises:
        ValueError: No name fits.

    Example:
        >>> from clippo import ClippoConfig, ClippoModel
        >>> from clippo.surgery import freeze_others
        >>> model = ClippoModel(ClippoConfig.from_preset("Ti/16", num_hidden_layers=2, image_size=32))
        >>> freeze_others(model, r"projection")
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['projection.weight', 'projection.bias']
    """
    found = [name for name, _ in model.named_parameters() if re.search(pattern, name)]
    if not found:
        some = ", ".join(name for name, _ in list(model.named_parameters())[:3])
        raise ValueError(f"No parameter has {pattern!r} in its name; names are {some}, ...")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in set(found))
