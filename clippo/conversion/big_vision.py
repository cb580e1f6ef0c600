"""Official big_vision checkpoints (`.npz`) to Hugging Face folders, and back.

Both directions read one table, `weight_table`, which pairs every parameter of `ClippoModel` with its name and shape in
big_vision. The rest makes sure that a checkpoint is what it claims to be before a number of it is used.

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

# What the official CLIPPO has no option for: a model that differs here would compute something else there.
OFFICIAL_CHOICES = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "skip_blank_patches": False}

PROBE_TEXT = "a photo of a cat"  # what the self-check reads


@dataclass(frozen=True)
class Weight:
    """One parameter: its part of the model, its names on both sides, its shape in big_vision."""

    stage: str
    name: str
    key: str
    shape: tuple[int, ...]

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of `shape` in PyTorch's order: outputs before inputs, heads still on their own axis."""
        if self.key.endswith("embedding/kernel"):
            return (3, 2, 0, 1)  # (P, P, C, D) -> (D, C, P, P)
        if self.key.endswith("/out/kernel"):
            return (2, 0, 1)  # (H, K, D) -> (D, H, K)
        if self.key.endswith("kernel"):
            return (*range(1, len(self.shape)), 0)  # (D, H, K) -> (H, K, D), (D, M) -> (M, D)
        return tuple(range(len(self.shape)))

    def to_torch(self, array: np.ndarray) -> torch.Tensor:
        """From Flax's order (inputs first, heads on an axis of their own) to PyTorch's (outputs first, heads flat)."""
        array = array.transpose(self.axes)
        if self.key.endswith("/out/kernel"):
            array = array.reshape(len(array), -1)  # (D, H, K) -> (D, D)
        elif self.key.endswith(("query/kernel", "key/kernel", "value/kernel")):
            array = array.reshape(-1, array.shape[-1])  # (H, K, D) -> (D, D)
        elif self.key.endswith(("query/bias", "key/bias", "value/bias")):
            array = array.reshape(-1)  # (H, K) -> (D,)
        return torch.from_numpy(np.array(array, dtype=np.float32, order="C"))

    def to_numpy(self, tensor: torch.Tensor) -> np.ndarray:
        """The inverse of `to_torch`; float32 whatever the tensor is."""
        array = tensor.detach().float().cpu().numpy().reshape([self.shape[axis] for axis in self.axes])
        return np.ascontiguousarray(array.transpose(np.argsort(self.axes)))


def weight_table(config: ClippoConfig) -> list[Weight]:
    """Every parameter of a CLIPPO model of this config, in the order in which the data flows through it."""
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
        for ours, official in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value")):
            yield from dense(stage, f"{name}.{ours}", f"{key}/{official}", width, *split, bias=split)
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
    """The config that a checkpoint's shapes imply, after checking that every one of them agrees with it.

    Args:
        params: As `read_checkpoint` returns them.

    Raises:
        ConversionError: A parameter is missing, unexpected or of a shape that contradicts the others.
    """

    def shape_of(key: str, *axes: str) -> tuple[int, ...]:
        if key not in params:
            raise ConversionError(f"The checkpoint has no {key!r}, which every CLIPPO checkpoint has.")
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
    expected = {weight.key: weight.shape for weight in weight_table(config)}
    if missing := [key for key in expected if key not in params]:
        raise ConversionError(f"The checkpoint lacks {_names(missing)}.")
    if unexpected := [key for key in params if key not in expected]:
        raise ConversionError(f"The checkpoint has {_names(unexpected)}, which a CLIPPO model has no place for.")
    for key, shape in expected.items():
        if params[key].shape != shape:
            raise ConversionError(f"{key!r} has shape {params[key].shape}; the other parameters make it {shape}.")
    return config


def _names(keys: Sequence[str]) -> str:
    shown = ", ".join(repr(key) for key in keys[:3])
    return shown if len(keys) <= 3 else f"{shown} and {len(keys) - 3} more"


def model_from_params(params: dict[str, np.ndarray], resolution: int | Sequence[int] | None = None) -> ClippoModel:
    """A float32 `ClippoModel` with the numbers of an official checkpoint.

    Args:
        params: As `read_checkpoint` returns them.
        resolution: Canvas in pixels, a side or (height, width), if another than the checkpoint's is wanted.

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
    """The numbers of a model under their big_vision names and shapes, float32: the inverse of `model_from_params`.

    Raises:
        ConversionError: The model has a `logit_bias`, which the official one has no place for.
    """
    tensors = model.state_dict()
    if "logit_bias" in tensors:
        raise ConversionError(
            "The model has a logit_bias, which the sigmoid loss needs and big_vision's CLIPPO has no place for. If "
            "only the embeddings matter, load it with logit_bias_init_value=None, loss_type='softmax', and save that."
        )
    return {weight.key: weight.to_numpy(tensors[weight.name]) for weight in weight_table(model.config)}


def convert_checkpoint(
    checkpoint: str | os.PathLike,
    output: str | os.PathLike,
    resolution: int | Sequence[int] | None = None,
    dtype: str = "float32",
    font: str | os.PathLike | Sequence[str | os.PathLike] = "official",
    cache_dir: str | os.PathLike | None = None,
) -> ConversionReport:
    """An official checkpoint as a folder for `AutoModel` and `AutoProcessor`: config, safetensors, processor, font.

    Args:
        checkpoint: An `.npz`, or the name of a released one (`clippo.conversion.official_files.RELEASED_CHECKPOINTS`).
        output: Folder to write.
        resolution: As in `model_from_params`; the processor follows.
        dtype: Precision of the saved weights, a key of `DTYPES`.
        font: What texts are rendered with, see `clippo.conversion.official_files.resolve_font`.
        cache_dir: Where downloads are kept.

    Returns:
        The self-check of the folder as it was read back from disk.

    Raises:
        ConversionError: The checkpoint is not a CLIPPO model, or the folder fails its self-check.
        OfficialFileError: Checkpoint or font can be neither found nor downloaded.
    """
    if dtype not in DTYPES:
        raise ConversionError(f"Unknown dtype {dtype!r}; choose one of {', '.join(DTYPES)}.")
    if Path(output).is_file():
        raise ConversionError(f"The output {output} is a file; name a folder.")
    params = read_checkpoint(find_checkpoint(checkpoint, cache_dir))
    model = model_from_params(params, resolution)
    if resolution is not None:
        params = {**params, "img/pos_embedding": params_from_model(model)["img/pos_embedding"]}
    processor = ClippoProcessor.from_size(model.config.image_size, font_file=resolve_font(font, cache_dir))
    model.to(DTYPES[dtype]).save_pretrained(output)
    processor.save_pretrained(output)
    return check_folder(output, params, DTYPES[dtype])


def check_folder(folder: str | os.PathLike, params: dict[str, np.ndarray], dtype: torch.dtype) -> ConversionReport:
    """Open a converted folder, turn it back into official parameters and compare; then look at a picture and a text.

    Args:
        folder: What `convert_checkpoint` wrote.
        params: What it should hold.
        dtype: What it was rounded to.

    Raises:
        ConversionError: A parameter differs, or an embedding is not finite.
    """
    model = ClippoModel.from_pretrained(folder).eval()
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
        raise ConversionError(f"The model of {folder} gives embeddings that are not finite; its numbers are of no use.")
    return report


def export_checkpoint(
    folder: str | os.PathLike, path: str | os.PathLike, layout: str = "params"
) -> dict[str, np.ndarray]:
    """A saved `ClippoModel` folder as a big_vision `.npz`, which is read back and compared before this returns.

    Args:
        folder: Written by `save_pretrained`. Weights of lower precision are widened to float32, which is exact.
        path: File to write.
        layout: As in `write_checkpoint`.

    Returns:
        The parameters written, under their bare names.

    Raises:
        ConversionError: The folder holds no full CLIPPO model, or one that the official code could not run.
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
            f"The model in {folder} has a {rows}x{columns} grid of positions; big_vision takes every grid to be square."
        )
    model, loading = ClippoModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(map(str, loading[problem])):
            raise ConversionError(f"{folder} is not a plain ClippoModel: {problem.replace('_', ' ')} {_names(names)}.")
    params = params_from_model(model)
    write_checkpoint(params, path, layout)
    written = read_checkpoint(path)
    if different := [key for key in params if not same_bits(params[key], written.get(key))]:
        raise ConversionError(f"{path} does not hold what was written: {_names(different)} differ; is the disk full?")
    return params
