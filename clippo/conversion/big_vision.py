"""Conversion of official big_vision checkpoints (`.npz`) to Hugging Face folders and back.

Both directions read one table, `weight_table`. It pairs every parameter of `ClippoModel` with its name and shape in
big_vision. The other functions check a checkpoint before they use its numbers.

Letters in shapes: D width, M MLP width, H heads, K = D/H, P patch side, C channels, N positions, E projection width.
Source: big_vision `models/proj/clippo/one_tower.py` and `models/vit.py` (names, shapes).
"""

import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from clippo.conversion.npz import ConversionError, read_checkpoint, same_bits, write_checkpoint
from clippo.conversion.official_files import find_checkpoint, resolve_font
from clippo.conversion.report import ConversionReport, StageReport
from clippo.modeling_clippo import ClippoConfig, ClippoModel
from clippo.processing import ClippoProcessor
from clippo.surgery import resize_canvas

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}

# The official code has no option for these fields. A model with other values would compute something else there.
OFFICIAL_CHOICES = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "skip_blank_patches": False}

PROBE_TEXT = "a photo of a cat"  # text of the self-check


@dataclass(frozen=True)
class Weight:
    """One parameter of the model and its counterpart in big_vision.

    Args:
        stage: Part of the model, such as "block 3".
        name: Name in `ClippoModel`.
        key: Name in big_vision.
        shape: Shape in big_vision.

    Example:
        >>> from clippo.conversion import Weight
        >>> weight = Weight("projection", "projection.weight", "img/head/kernel", (768, 512))
        >>> weight.axes
        (1, 0)
    """

    stage: str
    name: str
    key: str
    shape: tuple[int, ...]

    @property
    def axes(self) -> tuple[int, ...]:
        """Axes of `shape` in PyTorch's order: outputs before inputs, heads still on their own axis."""
        if self.key.endswith("embedding/kernel"):
            return (3, 2, 0, 1)  # (P, P, C, D) -> (D, C, P, P)
        if self.key.endswith("/out/kernel"):
            return (2, 0, 1)  # (H, K, D) -> (D, H, K)
        if self.key.endswith("kernel"):
            return (*range(1, len(self.shape)), 0)  # (D, H, K) -> (H, K, D), (D, M) -> (M, D)
        return tuple(range(len(self.shape)))

    def to_torch(self, array: np.ndarray) -> torch.Tensor:
        """Convert from Flax's layout to PyTorch's.

        Flax puts inputs first and heads on an axis of their own. PyTorch puts outputs first and flattens the heads.
        """
        array = array.transpose(self.axes)
        if self.key.endswith("/out/kernel"):
            array = array.reshape(len(array), -1)  # (D, H, K) -> (D, D)
        elif self.key.endswith(("query/kernel", "key/kernel", "value/kernel")):
            array = array.reshape(-1, array.shape[-1])  # (H, K, D) -> (D, D)
        elif self.key.endswith(("query/bias", "key/bias", "value/bias")):
            array = array.reshape(-1)  # (H, K) -> (D,)
        return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))

    def to_numpy(self, tensor: torch.Tensor) -> np.ndarray:
        """Convert back to Flax's layout, always to float32: the inverse of `to_torch`."""
        array = tensor.detach().float().cpu().numpy().reshape([self.shape[axis] for axis in self.axes])
        return np.ascontiguousarray(array.transpose(np.argsort(self.axes)))


def weight_table(config: ClippoConfig) -> list[Weight]:
    """List every parameter of a CLIPPO model of this config, in the order of the data flow."""
    return list(_walk_weights(config))


def _walk_weights(config: ClippoConfig) -> Iterator[Weight]:
    width, mlp_width, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    split = (heads, width // heads)

    def dense(stage: str, name: str, key: str, *kernel: int, bias: tuple[int, ...]) -> Iterator[Weight]:
        yield Weight(stage, f"{name}.weight", f"{key}/kernel", kernel)
        yield Weight(stage, f"{name}.bias", f"{key}/bias", bias)

    def norm(stage: str, name: str, key: str) -> Iterator[Weight]:
        yield Weight(stage, f"{name}.weight", f"{key}/scale", (width,))
        yield Weight(stage, f"{name}.bias", f"{key}/bias", (width,))

    def attention(stage: str, name: str, key: str) -> Iterator[Weight]:
        for name_here, official in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
            yield from dense(stage, f"{name}.{name_here}", f"{key}/{official}", width, *split, bias=split)
        yield from dense(stage, f"{name}.out_proj", f"{key}/out", *split, width, bias=(width,))

    def mlp(stage: str, name: str, key: str) -> Iterator[Weight]:
        yield from dense(stage, f"{name}.fc1", f"{key}/Dense_0", width, mlp_width, bias=(mlp_width,))
        yield from dense(stage, f"{name}.fc2", f"{key}/Dense_1", mlp_width, width, bias=(width,))

    rows, columns = config.patch_grid
    patch = (config.patch_size, config.patch_size, config.num_channels, width)
    embeddings = "vision_model.embeddings"
    yield from dense("patch embedding", f"{embeddings}.patch_embedding", "img/embedding", *patch, bias=(width,))
    yield Weight("positions", f"{embeddings}.position_embedding", "img/pos_embedding", (1, rows * columns, width))
    for i in range(config.num_hidden_layers):
        stage, name, key = f"block {i}", f"vision_model.encoder.layers.{i}", f"img/Transformer/encoderblock_{i}"
        yield from norm(stage, f"{name}.layer_norm1", f"{key}/LayerNorm_0")
        yield from attention(stage, f"{name}.self_attn", f"{key}/MultiHeadDotProductAttention_0")
        yield from norm(stage, f"{name}.layer_norm2", f"{key}/LayerNorm_1")
        yield from mlp(stage, f"{name}.mlp", f"{key}/MlpBlock_0")
    yield from norm("encoder norm", "vision_model.post_layernorm", "img/Transformer/encoder_norm")
    head = "vision_model.head"
    yield Weight("MAP head", f"{head}.probe", "img/MAPHead_0/probe", (1, 1, width))
    yield from attention("MAP head", f"{head}.attention", "img/MAPHead_0/MultiHeadDotProductAttention_0")
    yield from norm("MAP head", f"{head}.layernorm", "img/MAPHead_0/LayerNorm_0")
    yield from mlp("MAP head", f"{head}.mlp", "img/MAPHead_0/MlpBlock_0")
    projection = config.projection_dim
    yield from dense("projection", "projection", "img/head", width, projection, bias=(projection,))
    yield Weight("temperature", "logit_scale", "t", (1,))


def infer_config(params: dict[str, np.ndarray]) -> ClippoConfig:
    """Derive the config from the shapes of a checkpoint, and check that every parameter agrees with it.

    Args:
        params: Parameters as `read_checkpoint` returns them.

    Raises:
        ConversionError: A parameter is missing, unexpected, or its shape contradicts the others.
    """

    def shape_of(key: str, *axes: str) -> tuple[int, ...]:
        if key not in params:
            raise ConversionError(f"The checkpoint has no {key!r}; every CLIPPO checkpoint has one.")
        if params[key].ndim != len(axes) or 0 in params[key].shape:
            raise ConversionError(f"{key!r} has shape {params[key].shape}; its axes should be ({', '.join(axes)}).")
        return params[key].shape

    first = "img/Transformer/encoderblock_0"
    patch, patch_width, channels, width = shape_of("img/embedding/kernel", "patch", "patch", "channels", "width")
    _, positions, _ = shape_of("img/pos_embedding", "1", "positions", "width")
    _, heads, _ = shape_of(f"{first}/MultiHeadDotProductAttention_0/query/kernel", "width", "heads", "width / heads")
    _, mlp_width = shape_of(f"{first}/MlpBlock_0/Dense_0/kernel", "width", "MLP width")
    _, projection = shape_of("img/head/kernel", "width", "projection width")
    layers = [int(match[1]) for key in params if (match := re.match(r"img/Transformer/encoderblock_(\d+)/", key))]
    side = math.isqrt(positions)
    if patch != patch_width:
        raise ConversionError(f"'img/embedding/kernel' has {patch}x{patch_width} patches; CLIPPO's are square.")
    if side * side != positions:
        raise ConversionError(f"'img/pos_embedding' has {positions} positions, which do not form a square grid.")
    if width % heads:
        raise ConversionError(f"The width of 'img/embedding/kernel', {width}, cannot be split into {heads} heads.")
    config = ClippoConfig(
        hidden_size=width,
        intermediate_size=mlp_width,
        num_hidden_layers=max(layers) + 1,
        num_attention_heads=heads,
        image_size=side * patch,
        patch_size=patch,
        num_channels=channels,
        projection_dim=projection,
    )
    _check_shapes(params, config)
    return config


def _check_shapes(params: dict[str, np.ndarray], config: ClippoConfig) -> None:
    """Raise ConversionError unless the parameters are exactly those of the config."""
    expected = {weight.key: weight.shape for weight in weight_table(config)}
    if missing := [key for key in expected if key not in params]:
        raise ConversionError(f"The checkpoint lacks {_names(missing)}.")
    if unexpected := [key for key in params if key not in expected]:
        raise ConversionError(f"The checkpoint has {_names(unexpected)}; a CLIPPO model has no such parameter.")
    for key, shape in expected.items():
        if params[key].shape != shape:
            raise ConversionError(f"{key!r} has shape {params[key].shape}; the other parameters imply {shape}.")


def _names(keys: Sequence[str]) -> str:
    shown = ", ".join(repr(key) for key in keys[:3])
    return shown if len(keys) <= 3 else f"{shown} and {len(keys) - 3} more"


def model_from_params(params: dict[str, np.ndarray], resolution: int | Sequence[int] | None = None) -> ClippoModel:
    """Build a float32 `ClippoModel` from the parameters of an official checkpoint.

    Args:
        params: Parameters as `read_checkpoint` returns them.
        resolution: Side of another canvas in pixels, or (height, width); None keeps that of the checkpoint.

    Raises:
        ConversionError: As `infer_config`, or the resolution is not a multiple of the patch size.
    """
    config = infer_config(params)
    model = ClippoModel(config)
    model.load_state_dict({weight.name: weight.to_torch(params[weight.key]) for weight in weight_table(config)})
    if resolution is not None:
        try:
            resize_canvas(model, resolution)
        except ValueError as error:
            raise ConversionError(f"resolution: {error}") from None
    return model.eval()


def params_from_model(model: ClippoModel) -> dict[str, np.ndarray]:
    """Return the parameters of a model under their big_vision names and shapes, in float32.

    This is the inverse of `model_from_params`.

    Raises:
        ConversionError: The model has parts that the official model lacks, such as a `logit_bias` or experts.
    """
    tensors = model.state_dict()
    if model.config.image_tower != "shared" or not model.config.project_images:
        raise ConversionError(
            f"The model has image_tower={model.config.image_tower!r} and project_images={model.config.project_images}; "
            "big_vision's CLIPPO has one tower and one projection."
        )
    config = model.config
    own = ("num_experts", "modality_norms", "num_modality_layers", "image_branch_layers")
    parts = [f"{name}={getattr(config, name)}" for name in own if getattr(config, name)]
    if parts or config.image_stem != "patch":
        raise ConversionError(
            f"The model has {', '.join(parts) or f'image_stem={config.image_stem}'}; in big_vision's CLIPPO images and "
            "texts share all parameters of a dense tower. Save such a model with save_pretrained."
        )
    if "logit_bias" in tensors:
        raise ConversionError(
            "The model has a logit_bias for the sigmoid loss; big_vision's CLIPPO has no such parameter. If only the "
            "embeddings matter, load it with logit_bias_init_value=None, loss_type='softmax', and save that."
        )
    return {weight.key: weight.to_numpy(tensors[weight.name]) for weight in weight_table(model.config)}


def convert_checkpoint(
    checkpoint: str | os.PathLike,
    output_dir: str | os.PathLike,
    resolution: int | Sequence[int] | None = None,
    dtype: str = "float32",
    font: str | os.PathLike | Sequence[str | os.PathLike] = "official",
    cache_dir: str | os.PathLike | None = None,
) -> ConversionReport:
    """Convert an official checkpoint to a folder for `AutoModel` and `AutoProcessor`.

    The folder holds config, safetensors, processor and font. It is read back and compared before this returns.

    Args:
        checkpoint: An `.npz` file, or the name of a released checkpoint
            (`clippo.conversion.official_files.RELEASED_CHECKPOINTS`).
        output_dir: Folder to write.
        resolution: As in `model_from_params`; the processor follows.
        dtype: Precision of the saved weights, a key of `DTYPES`.
        font: Font for texts, as in `clippo.conversion.official_files.resolve_font`.
        cache_dir: Folder that keeps downloads.

    Returns:
        Self-check of the folder that was read back from disk.

    Raises:
        ConversionError: The checkpoint is not a CLIPPO model, or the folder fails its self-check.
        OfficialFileError: Checkpoint or font can be neither found nor downloaded.
    """
    if dtype not in DTYPES:
        raise ConversionError(f"Unknown dtype {dtype!r}; choose one of {', '.join(DTYPES)}.")
    if Path(output_dir).is_file():
        raise ConversionError(f"The output {output_dir} is a file; name a folder.")
    params = read_checkpoint(find_checkpoint(checkpoint, cache_dir))
    model = model_from_params(params, resolution)
    if resolution is not None:
        params = {**params, "img/pos_embedding": params_from_model(model)["img/pos_embedding"]}
    processor = ClippoProcessor.from_size(model.config.image_size, font_file=resolve_font(font, cache_dir))
    model.to(DTYPES[dtype]).save_pretrained(output_dir)
    processor.save_pretrained(output_dir)
    return check_folder(output_dir, params, DTYPES[dtype])


def check_folder(folder: str | os.PathLike, params: dict[str, np.ndarray], dtype: torch.dtype) -> ConversionReport:
    """Open a converted folder, convert it back, compare every parameter, and embed one image and one text.

    Args:
        folder: Folder that `convert_checkpoint` wrote.
        params: Expected parameters.
        dtype: Precision of the saved weights; the parameters are rounded to it before the comparison.

    Raises:
        ConversionError: A parameter differs or is not finite, or an embedding is not finite.
    """
    try:
        model = ClippoModel.from_pretrained(folder).eval()
    except ValueError as error:
        raise ConversionError(str(error)) from error
    processor = ClippoProcessor.from_pretrained(folder)
    restored = params_from_model(model)
    stages: dict[str, list[str]] = {}
    for weight in weight_table(model.config):
        rounded = torch.from_numpy(np.ascontiguousarray(params[weight.key])).to(dtype).float().numpy()
        if not same_bits(restored[weight.key], rounded):
            raise ConversionError(f"{weight.key!r} came back from {folder} with other numbers.")
        stages.setdefault(weight.stage, []).append(weight.key)
    noise = np.random.RandomState(0).randint(0, 256, (1, 1, *model.config.canvas_size), dtype=np.uint8)
    with torch.no_grad():
        image = model.get_image_features(torch.from_numpy(noise)).pooler_output.float()
        text = model.get_text_features(**processor(text=PROBE_TEXT, return_tensors="pt")).pooler_output.float()
    report = ConversionReport(
        stages=tuple(StageReport.measure(stage, [params[key] for key in keys]) for stage, keys in stages.items()),
        dtype=str(dtype).removeprefix("torch."),
        image_norm=image.norm().item(),
        text_norm=text.norm().item(),
        cosine=torch.cosine_similarity(image, text).item(),
        temperature=model.logit_scale.float().exp().item(),
    )
    if not report.finite:
        raise ConversionError(f"The model of {folder} outputs embeddings that are not finite; do not use it.")
    return report


def export_checkpoint(
    folder: str | os.PathLike, path: str | os.PathLike, layout: str = "params"
) -> dict[str, np.ndarray]:
    """Convert a saved `ClippoModel` folder to a big_vision `.npz`, which is read back and compared.

    Args:
        folder: Folder that `save_pretrained` wrote. Weights of lower precision are widened to float32, which is exact.
        path: File to write.
        layout: As in `write_checkpoint`.

    Returns:
        Parameters in the file, under their bare names.

    Raises:
        ConversionError: The folder holds no full CLIPPO model, or the official code could not run it.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise ConversionError(f"{folder} is not a folder with a saved model: it has no config.json.")
    config = ClippoConfig.from_pretrained(folder)
    for field, official in OFFICIAL_CHOICES.items():
        if (value := getattr(config, field)) != official:
            raise ConversionError(
                f"The model in {folder} has {field}={value!r}; the official code only has {official!r}."
            )
    rows, columns = config.patch_grid
    if rows != columns:
        raise ConversionError(
            f"The model in {folder} has a {rows}x{columns} grid of positions; big_vision assumes square grids."
        )
    model, loading = ClippoModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, loading[problem])):
            raise ConversionError(f"{folder} is not a plain ClippoModel: {problem.replace('_', ' ')} {_names(names)}.")
    params = params_from_model(model)
    write_checkpoint(params, path, layout)
    written = read_checkpoint(path)
    if different := [key for key in params if not same_bits(params[key], written.get(key))]:
        raise ConversionError(f"{_names(different)} of {path} differ from the model; is the disk full?")
    return params
