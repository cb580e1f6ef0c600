"""A larger model out of a trained one: every tensor that both have is copied, and new ones are filled from old ones.

`FILLERS` says which new tensors have a model to copy. A part that is added to the tower gets a line there.
"""

import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from clippo.modeling_clippo import ClippoConfig
from clippo.modeling_clippo.embeddings_clippo import resample_positions

logger = logging.getLogger(__name__)

EVEN_ROUTER_STD = 0.01  # of the logits of a new router


class Gap(NamedTuple):
    """One tensor of the grown model, which the old model may lack or have in another shape."""

    name: str
    shape: torch.Size
    tensors: dict[str, torch.Tensor]  # state dict of the old model
    old_config: ClippoConfig
    config: ClippoConfig


def _from_text_tower(gap: Gap) -> torch.Tensor | None:
    """A tower or projection for images alone starts as the shared one."""
    if not gap.config.has_image_model:
        return None  # projects given vectors
    name = gap.name.replace("image_model.", "vision_model.").replace("image_projection.", "projection.")
    return gap.tensors.get(name)


def _from_last_blocks(gap: Gap) -> torch.Tensor | None:
    """Joint blocks, LayerNorm and pooling head start as the last ones of the tower, which read both modalities."""
    name = gap.name.removeprefix("fusion.")
    block = re.match(r"encoder\.layers\.(\d+)\.", name)
    if block:
        number = gap.config.num_hidden_layers - gap.config.num_fusion_layers + int(block[1])
        name = f"encoder.layers.{max(number, 0)}.{name[block.end() :]}"
    return gap.tensors.get(f"vision_model.{name}")


def _from_shared(gap: Gap) -> torch.Tensor | None:
    """A LayerNorm or block of one modality starts as the shared one."""
    layer = re.sub(r"(encoder\.layers\.\d+)\.(image|text)\.", r"\1.", gap.name)  # block first, then its norms
    candidates = (layer, re.sub(r"\.(image|text)\.", ".", gap.name))
    return next((gap.tensors[name] for name in candidates if name in gap.tensors), None)


def _from_mlp(gap: Gap) -> torch.Tensor | None:
    """Each expert starts as the MLP, and the router as nearly even.

    The gates of an even router are 1/E each, so the output of the MLP is multiplied by E/K. A router of zeros would
    send every token to the first expert; small random numbers spread them and change the gates by about 1 %.
    """
    if gap.name in gap.tensors:  # other numbers of experts
        raise _other_shape(gap)
    if gap.name.endswith("router.weight"):
        return EVEN_ROUTER_STD * torch.randn(gap.shape) * gap.shape[1] ** -0.5
    prefix, _, kind = gap.name.partition("experts.")
    layer, part = "fc1" if kind.startswith("up") else "fc2", "bias" if kind.endswith("bias") else "weight"
    dense = gap.tensors.get(f"{prefix}{layer}.{part}")
    if dense is None or dense.shape != gap.shape[1:]:
        return None
    scale = gap.config.num_experts / gap.config.num_experts_per_tok if layer == "fc2" else 1.0
    return (scale * dense).expand(gap.shape)


def _resampled(gap: Gap) -> torch.Tensor | None:
    """Positions of another canvas."""
    positions = gap.tensors.get(gap.name)
    if positions is None:  # of an image tower, which starts as the shared one
        positions = gap.tensors["vision_model.embeddings.position_embedding"]
    if positions.shape[-1] != gap.shape[-1]:
        raise _other_shape(gap)
    return resample_positions(positions, gap.old_config.patch_grid, gap.config.patch_grid)


def _fresh(gap: Gap) -> None:
    """A new initialisation is meant."""


# Pattern at the start of a tensor's name -> function that returns the tensor, or None to keep the new initialisation.
# The first pattern that matches decides.
FILLERS: list[tuple[str, Callable[[Gap], torch.Tensor | None]]] = [
    (r"(vision|image)_model\.embeddings\.position_embedding$", _resampled),
    (r"image_(model|projection)\.", _from_text_tower),
    (r"fusion\.(grid_projection|source_embedding)", _fresh),
    (r"fusion\.", _from_last_blocks),
    (r"vision_model\.encoder\.layers\.\d+\.mlp\.(experts|router)\.", _from_mlp),
    (r"vision_model\..*\.(image|text)\.", _from_shared),
    (r"vision_model\.(image_branch|embeddings\.image_stem)\.", _fresh),
    (r"(image_)?projection\.", _fresh),  # another projection_dim
]


@torch.no_grad()
def grow(model: PreTrainedModel, model_class: type[PreTrainedModel] | None = None, **config_changes) -> PreTrainedModel:
    """Makes a new model of a changed config that keeps all that the old one has learned.

    Tensors of the same name and shape are copied bit by bit. New tensors are filled as `FILLERS` says: a tower for
    images starts as the shared one. All others keep the initialisation of a new model, drawn from torch's generator.

    Args:
        model: Trained model. It is not changed.
        model_class: Class of the new model; None means that of the old one.
        config_changes: Config fields, such as `image_tower="locked"`.

    Returns:
        Model on the same device, of the same type of numbers, in the same mode.

    Raises:
        TypeError: A field is not known.
        ValueError: A tensor changes its shape, and nothing fills it; the config is not possible.

    Example:
        >>> import clippo
        >>> from clippo.surgery import grow
        >>> model = clippo.ClippoModel(clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32))
        >>> locked = grow(model, image_tower="locked")
        >>> bool((locked.image_model.post_layernorm.weight == model.vision_model.post_layernorm.weight).all())
        True
    """
    config = _changed(model.config, config_changes)
    first = next(model.parameters())
    new = (model_class or type(model))._from_config(config, attn_implementation=model.config._attn_implementation)
    new = new.to(device=first.device, dtype=first.dtype).train(model.training)
    tensors, fresh = model.state_dict(), []
    for name, target in new.state_dict().items():
        gap = Gap(name, target.shape, tensors, model.config, config)
        filled = tensors[name] if _is_common(gap) else _fill(gap)
        if filled is None:
            fresh.append(name)
        else:
            target.copy_(filled)
    if fresh:
        logger.info("%d tensors are new, %s among them.", len(fresh), fresh[0])
    left = [name for name in tensors if name not in new.state_dict() and not _has_copies(name, new.state_dict())]
    if left:
        logger.warning("%d tensors have no place in the new model, %s among them.", len(left), left[0])
    return new


def _has_copies(name: str, names: Iterable[str]) -> bool:
    """True if the new model has one of a module for each modality, or experts, in the place of the tensor's module."""
    parts = name.split(".")
    starts = tuple(f"{'.'.join(parts[:i])}.{kind}." for i in range(1, len(parts)) for kind in ("text", "experts"))
    return any(other.startswith(starts) for other in names)


def _changed(config: ClippoConfig, changes: dict) -> ClippoConfig:
    names = [field.name for field in fields(config)] + ["num_labels"]
    for name in changes:
        if name not in names:
            similar = get_close_matches(name, names, n=1)
            hint = f"did you mean {similar[0]!r}?" if similar else "docs of ClippoConfig list the fields."
            raise TypeError(f"{type(config).__name__} has no field {name!r}; {hint}")
    left_out = {"architectures", "transformers_version", "num_labels"}
    if "num_labels" in changes:
        left_out |= {"id2label", "label2id"}
    old = {name: getattr(config, name) for name in names if name not in left_out}
    return type(config)(**{**old, **changes})


def _is_common(gap: Gap) -> bool:
    """True if the tensor means the same in both models. As many positions may form another grid."""
    same_grid = gap.old_config.patch_grid == gap.config.patch_grid or not gap.name.endswith("position_embedding")
    return gap.name in gap.tensors and gap.tensors[gap.name].shape == gap.shape and same_grid


def _fill(gap: Gap) -> torch.Tensor | None:
    for pattern, filler in FILLERS:
        if re.match(pattern, gap.name):
            return filler(gap)
    if gap.name in gap.tensors:
        raise _other_shape(gap)
    return None


def _other_shape(gap: Gap) -> ValueError:
    old = gap.tensors.get(gap.name)
    return ValueError(
        f"{gap.name} would change from {None if old is None else tuple(old.shape)} to {tuple(gap.shape)}, and no rule "
        "fills it; keep the fields that set its size."
    )
