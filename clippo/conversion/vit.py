"""Initialisation of a new CLIPPO from a supervised ViT: transformers' ViT, or big_vision's as `.npz`.

The paper's `i21k_init` models start from an ImageNet-21k ViT. As in the official loader, the patch projection, the
positions, the blocks and the final LayerNorm are loaded. Class token, classifier and pooler are discarded. The MAP
head, the projection and the temperature keep their new initialisation (big_vision `configs/proj/clippo/train_clippo.py`
with `dont_load` of `head`, `MAPHead_0` and `cls`; `models/vit.py`: `load`, `fix_old_checkpoints`, `resample_posemb`).

Two differences remain. The class token took part in every attention of the ViT; CLIPPO, also the official one, has
none. transformers' ViT computes exact GELU and LayerNorm with an epsilon of 1e-12. big_vision trained its weights with
the tanh approximation and 1e-6, as CLIPPO computes, so weights from big_vision are loaded exactly.
"""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers import PreTrainedConfig, ViTConfig, ViTModel
from transformers.image_processing_base import ImageProcessingMixin

from clippo.conversion.big_vision import weight_table
from clippo.conversion.npz import ConversionError, read_checkpoint
from clippo.modeling_clippo import ClippoConfig, ClippoModel
from clippo.modeling_clippo.embeddings_clippo import resample_positions

FRESH = ("MAP head", "projection", "temperature")  # stages of `weight_table` that no ViT has
POSITIONS = "vision_model.embeddings.position_embedding"

# transformers' names -> names of the tower. Older releases have `encoder.layer.0.attention.attention` where current
# ones have `layers.0.attention`. The order matters: "output.dense" alone is the MLP's.
RENAMED = (
    (r"^embeddings\.patch_embeddings\.projection\.", "embeddings.patch_embedding."),
    (r"^embeddings\.position_embeddings$", "embeddings.position_embedding"),
    (r"^(encoder\.layer|layers)\.", "encoder.layers."),
    (r"\.attention\.(attention\.)?(query|q_proj)\.", ".self_attn.q_proj."),
    (r"\.attention\.(attention\.)?(key|k_proj)\.", ".self_attn.k_proj."),
    (r"\.attention\.(attention\.)?(value|v_proj)\.", ".self_attn.v_proj."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".self_attn.out_proj."),
    (r"\.layernorm_before\.", ".layer_norm1."),
    (r"\.layernorm_after\.", ".layer_norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
    (r"^layernorm\.", "post_layernorm."),
)

# Before Flax's linen API, sub-modules of a block were numbered across their kinds. The AugReg files keep those names.
OLD_NUMBERS = {"MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0"}
OLD_NUMBERS |= {"LayerNorm_2": "LayerNorm_1", "MlpBlock_3": "MlpBlock_0"}


@dataclass(frozen=True)
class VitReport:
    """Report of the loaded, new and discarded parameters; `str()` is one line and one more for every remark.

    Args:
        source: Folder, hub name or file of the ViT.
        loaded: Parameters of the CLIPPO that were loaded.
        numbers: Number of scalars in `loaded`.
        new: Parameters of the CLIPPO that keep their initialisation.
        dropped: Parameters of the ViT that CLIPPO does not have.
        remarks: Differences between the computation of this tower and that of the ViT.

    Example:
        >>> from clippo.conversion import VitReport
        >>> print(VitReport("vit", ("a", "b"), 12, ("projection.bias",), (), ()))
        2 parameters (12 numbers) from vit; 1 new (projection); not taken: nothing
    """

    source: str
    loaded: tuple[str, ...]
    numbers: int
    new: tuple[str, ...]
    dropped: tuple[str, ...]
    remarks: tuple[str, ...]

    def __str__(self) -> str:
        new = sorted({re.sub(r"^vision_model\.", "", name).split(".")[0] for name in self.new})
        line = (
            f"{len(self.loaded)} parameters ({self.numbers:,} numbers) from {self.source}; {len(self.new)} new "
            f"({', '.join(new)}); not taken: {', '.join(self.dropped) or 'nothing'}"
        )
        return "\n".join([line, *self.remarks])


class _Vit(NamedTuple):
    """A ViT that was read: grid of its positions, tensors under CLIPPO's names, names of the discarded ones."""

    grid: tuple[int, int]
    tensors: dict[str, torch.Tensor]
    dropped: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def is_vit(source: str | os.PathLike) -> bool:
    """Return whether `load_vit` opens the source: a big_vision `.npz`, or a folder or hub name of a transformers ViT.

    Raises:
        OSError: There is no config under that name.
    """
    return _is_npz(source) or _config_of(source).get("model_type") == ViTConfig.model_type


@torch.no_grad()
def load_vit(model: ClippoModel, source: str | os.PathLike) -> VitReport:
    """Load a ViT into the tower of a new CLIPPO; positions are resampled if the canvases differ.

    Args:
        model: Newly initialised model, changed in place. Parameters that the ViT does not have are kept.
        source: Folder or hub name of transformers' `ViTModel`, or of a model with a head on it, or a big_vision `.npz`.

    Returns:
        Report of the loaded, new and discarded parameters, to be printed.

    Raises:
        ConversionError: The source is no ViT, has another width, depth or patch size, or lacks parameters.
        OSError: There is no model under that name.
    """
    vit = _read_npz(Path(source), model.config) if _is_npz(source) else _read_folder(source, model.config)
    parameters = dict(model.named_parameters())
    wanted = [weight.name for weight in weight_table(model.config) if weight.stage not in FRESH]
    if missing := [name for name in wanted if name not in vit.tensors]:
        raise ConversionError(f"{source} lacks {len(missing)} parameters of a ViT, such as that for {missing[0]}.")
    remarks, tensors = list(vit.remarks), {name: vit.tensors[name] for name in wanted}
    if vit.grid != model.config.patch_grid:
        tensors[POSITIONS] = resample_positions(tensors[POSITIONS], vit.grid, model.config.patch_grid)
        old, new = ("x".join(map(str, grid)) for grid in (vit.grid, model.config.patch_grid))
        remarks.append(f"positions resampled from {old} to {new} patches")
    for name, tensor in tensors.items():  # all are checked before the first is written
        if tensor.shape != parameters[name].shape:
            shapes = tuple(parameters[name].shape), tuple(tensor.shape)
            raise ConversionError(f"{name} has shape {shapes[0]}, but {shapes[1]} in {source}.")
    for name, tensor in tensors.items():
        parameters[name].copy_(tensor)
    return VitReport(
        source=str(source),
        loaded=tuple(tensors),
        numbers=sum(tensor.numel() for tensor in tensors.values()),
        new=tuple(name for name in parameters if name not in tensors),
        dropped=vit.dropped,
        remarks=tuple(remarks),
    )


def _is_npz(source: str | os.PathLike) -> bool:
    return str(source).endswith(".npz")


def _config_of(source: str | os.PathLike) -> dict:
    return PreTrainedConfig.get_config_dict(source)[0]


def _check_shape(source: str | os.PathLike, config: ClippoConfig, shape: dict[str, int]) -> None:
    """Compare sizes before anything is loaded. No tensor's shape shows the number of heads, so it is compared too."""
    wrong = {name: value for name, value in shape.items() if getattr(config, name) != value}
    if wrong:
        found = ", ".join(f"{name}={value}" for name, value in wrong.items())
        wanted = ", ".join(f"{name}={getattr(config, name)}" for name in wrong)
        raise ConversionError(
            f"{source} is a ViT of {found}, the model to initialise has {wanted}; choose the preset of its size."
        )


def _read_folder(source: str | os.PathLike, config: ClippoConfig) -> _Vit:
    kind = _config_of(source).get("model_type")
    if kind != ViTConfig.model_type:
        raise ConversionError(f"{source} is a model of type {kind!r}; only transformers' 'vit' can be loaded.")
    vit_config = ViTConfig.from_pretrained(source)
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels")
    _check_shape(source, config, {name: getattr(vit_config, name) for name in (*names, "patch_size")})
    vit, loading = ViTModel.from_pretrained(
        source, add_pooling_layer=False, dtype=torch.float32, output_loading_info=True
    )
    if missing := sorted(loading["missing_keys"]):
        raise ConversionError(f"{source} lacks {len(missing)} parameters of a ViT, such as {missing[0]}.")
    tensors = {_our_name(name): tensor for name, tensor in vit.state_dict().items()}
    tensors[POSITIONS] = tensors[POSITIONS][:, 1:]  # the first is the class token's
    sides = [vit_config.image_size] * 2 if isinstance(vit_config.image_size, int) else list(vit_config.image_size)
    rows, columns = (side // vit_config.patch_size for side in sides)
    dropped = sorted(["embeddings.cls_token", *loading["unexpected_keys"]])
    return _Vit((rows, columns), tensors, tuple(dropped), _remarks(source, vit_config, config))


def _our_name(name: str) -> str:
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return f"vision_model.{name}"


def _remarks(source: str | os.PathLike, vit_config: ViTConfig, config: ClippoConfig) -> tuple[str, ...]:
    remarks = []
    for name in ("hidden_act", "layer_norm_eps"):
        if getattr(vit_config, name) != getattr(config, name):
            remarks.append(
                f"{name}: {getattr(vit_config, name)} in the ViT, {getattr(config, name)} here; right for weights that "
                "came from big_vision, for others set it in the model's config"
            )
    try:
        saved = ImageProcessingMixin.get_image_processor_dict(source)[0]
    except OSError:  # a folder with the model alone
        return tuple(remarks)
    for name in ("image_mean", "image_std"):
        values = saved.get(name)
        if saved.get("do_normalize", True) and values is not None and set(np.atleast_1d(values)) != {0.5}:
            remarks.append(f"{name}: {values} in the ViT, 0.5 here; its first layer was trained on another scale")
    return tuple(remarks)


def _read_npz(path: Path, config: ClippoConfig) -> _Vit:
    params = _modernise(read_checkpoint(path))
    kernel, first = "embedding/kernel", "Transformer/encoderblock_0"
    query, dense = f"{first}/MultiHeadDotProductAttention_0/query/kernel", f"{first}/MlpBlock_0/Dense_0/kernel"
    for key, axes in ((kernel, 4), ("pos_embedding", 3), (query, 3), (dense, 2)):
        if key not in params or params[key].ndim != axes:
            raise ConversionError(f"{path} is not a ViT of big_vision: it has no {key!r} of {axes} axes.")
    depth = len({match[1] for key in params if (match := re.match(r"Transformer/encoderblock_(\d+)/", key))})
    patch, _, channels, width = params[kernel].shape
    shape = {
        "hidden_size": width,
        "intermediate_size": params[dense].shape[1],
        "num_hidden_layers": depth,
        "num_attention_heads": params[query].shape[1],
        "num_channels": channels,
        "patch_size": patch,
    }
    _check_shape(path, config, shape)
    positions = params["pos_embedding"]
    side = math.isqrt(positions.shape[1])
    if side * side + 1 == positions.shape[1]:  # the old files added positions after the class token, at the front
        positions = params["pos_embedding"] = positions[:, 1:]
    if side * side != positions.shape[1]:
        raise ConversionError(
            f"'pos_embedding' of {path} has {positions.shape[1]} positions; they do not form a square."
        )
    tensors, taken = {}, set()
    for weight in weight_table(config):
        key = weight.key.removeprefix("img/")
        if weight.stage in FRESH or key not in params:
            continue
        if weight.name != POSITIONS and params[key].shape != weight.shape:
            raise ConversionError(f"{key!r} of {path} has shape {params[key].shape}, not {weight.shape}.")
        tensors[weight.name] = weight.to_torch(params[key])
        taken.add(key)
    return _Vit((side, side), tensors, tuple(sorted(set(params) - taken)))


def _modernise(params: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename the parameters of a file of any age to the names of current big_vision."""
    modern = {}
    for key, array in params.items():
        if re.search(r"Transformer/encoderblock_\d+/", key):
            key = "/".join(OLD_NUMBERS.get(part, part) for part in key.split("/"))
        modern[re.sub(r"^Transformer/(posembed_input/)?pos_embedding$", "pos_embedding", key)] = array
    return modern
