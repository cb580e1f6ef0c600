"""Small parts of a model that are trained: low-rank adapters (LoRA, arXiv 2106.09685), and one locked side."""

from typing import Any

from torch import nn

from clippo.modeling_clippo import ClippoModel
from clippo.surgery import grow

SIDES = ("image", "text")


def add_adapters(model: ClippoModel, rank: int, alpha: float | None = None) -> Any:
    """Adds low-rank adapters to the linear layers of a model that are not frozen, and freezes everything else.

    A layer then computes `W x + alpha / rank * B A x`. `B` is zero in the beginning, so the outputs do not change.

    Args:
        model: Model to adapt; its layers are replaced in place.
        rank: Rows of A.
        alpha: Numerator of the factor; None means twice the rank.

    Returns:
        `PeftModel` around the model. Its `merge_and_unload()` returns the plain model again.

    Raises:
        ImportError: PEFT is missing.
        ValueError: The rank is not positive.

    Example:
        >>> import clippo
        >>> from clippo.tasks.pairs.adapters import add_adapters
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32)
        >>> adapted = add_adapters(clippo.ClippoModel(config), rank=2)
        >>> trained, every = adapted.get_nb_trainable_parameters()
        >>> 0 < trained < every / 20
        True
    """
    if rank < 1:
        raise ValueError(f"lora_rank={rank} is not the rank of a matrix; give 1 or more, or 0 for no adapters.")
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ImportError(f"lora_rank={rank} needs PEFT: pip install 'clippo[finetune]'.") from error
    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    layers = [name for name, layer in linear if layer.weight.requires_grad]
    return get_peft_model(model, LoraConfig(r=rank, lora_alpha=alpha or 2 * rank, target_modules=layers))


def lock_side(model: ClippoModel, side: str) -> ClippoModel:
    """Freezes the tower and the projection of images or of texts.

    A model with one tower for both gets a second one with the same weights. The vectors of the locked side then stay as
    they are, and so does an index of them.

    Args:
        model: Model with one or two towers. It is not changed where a tower is added.
        side: "image" or "text".

    Returns:
        The model with the frozen side, whose `config.image_tower` is "locked" or "separate".

    Raises:
        ValueError: The side is not known, or the model has no image tower to lock or to train.

    Example:
        >>> import clippo
        >>> from clippo.tasks.pairs.adapters import lock_side
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32)
        >>> locked = lock_side(clippo.ClippoModel(config), "text")
        >>> locked.projection.weight.requires_grad, locked.image_projection.weight.requires_grad
        (False, True)
    """
    if side not in SIDES:
        raise ValueError(f"lock={side!r} is not a side of the model; write one of {', '.join(SIDES)}.")
    if model.config.image_tower_is_foreign:
        raise ValueError(
            f"lock={side!r} needs images that this model reads; its image vectors are those of "
            f"{model.config.image_tower!r}. Leave lock out."
        )
    wanted = "locked" if side == "image" else "separate"
    if model.config.image_tower == "shared":
        model = grow(model, image_tower=wanted)
    model.config.image_tower = wanted
    model.requires_grad_(True)
    model.lock_image_tower()
    if side == "text":
        for module in (model.vision_model, model.projection):
            module.requires_grad_(False)
    return model
