"""ONNX export: graphs in fp32, fp16 and int8, each compared with PyTorch after it is written.

The folder has the layout that transformers.js expects: the files of model and processor, and `onnx/` with
`vision_model.onnx`, `text_model.onnx` and `model.onnx`. A suffix names the precision: `_fp16`, `_quantized` (int8).

Needs the extra `clippo[onnx]`.
"""

import logging
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from clippo.conversion.publish import load_any_model
from clippo.integrations.onnx_graphs import TEXT_FORMATS, Graph, graphs_of
from clippo.processing import ClippoProcessor

try:
    import onnx
    import onnxruntime
    from onnxruntime import quantization
    from onnxscript import optimizer
except ImportError:
    onnx = None

# Suffixes of file names, as optimum and transformers.js write them.
SUFFIXES = {"fp32": "", "fp16": "_fp16", "int8": "_quantized", "int8-static": "_static_quantized"}
OPSETS = range(18, 24)  # LayerNormalization needs 17, and torch's exporter writes 18 and newer
SAMPLE_TEXTS = (
    "a cat on a sofa",
    "ein Hund",
    "собака бежит",
    "猫が座っている",
    "صندوق",
    "a long caption " * 8,
    "x",
    "",
)


@dataclass(frozen=True)
class ExportedFile:
    """One written file, compared with PyTorch.

    Args:
        path: The file.
        precision: Key of `SUFFIXES`.
        megabytes: Size.
        difference: Largest absolute difference of the first output to PyTorch in float32.
        cosine: Smallest cosine of a row of the first output to PyTorch's. NaN for scores of pairs.
        per_second: Rows a second with one thread, the sample batch repeated. NaN for scores of pairs.

    Example:
        >>> ExportedFile(Path("onnx/model.onnx"), "fp32", 24.8, 1e-5, 1.0, 420.0).path.name
        'model.onnx'
    """

    path: Path
    precision: str
    megabytes: float
    difference: float
    cosine: float
    per_second: float


@dataclass
class Samples:
    """Real inputs that check an export and calibrate static int8.

    Args:
        images: PIL images. None draws noise of several scales.
        texts: Texts.

    Example:
        >>> len(Samples(texts=["cat", "Hund"]).texts)
        2
    """

    images: Sequence[Image.Image] | None = None
    texts: Sequence[str] = SAMPLE_TEXTS

    def tensors(self, processor: ClippoProcessor, size: tuple[int, int], text_format: str) -> dict[str, torch.Tensor]:
        """Return pixel_values (B, 3, H, W) and text_pixel_values in `text_format`."""
        images = self.images or _noise(size)
        texts = processor.tokenizer(list(self.texts), canvas_format=text_format, overflow="ignore", return_tensors="pt")
        pixels = processor(images=list(images), return_tensors="pt")["pixel_values"]
        return {"pixel_values": pixels, "text_pixel_values": texts["text_pixel_values"]}


def export_onnx(
    model: str | Path,
    output_dir: str | Path,
    precisions: Sequence[str] = ("fp32",),
    text_format: str = "uint8",
    opset: int = 20,
    samples: Samples | None = None,
    names: Sequence[str] | None = None,
) -> list[ExportedFile]:
    """Write a saved folder as ONNX graphs with a dynamic batch, and compare each with PyTorch.

    Blank patches of text keep their place and are masked, so the result of a text is that of the eager model.

    Args:
        model: Folder of `ClippoModel` or of a classification head, with its processor.
        output_dir: Folder to write.
        precisions: Keys of `SUFFIXES`. "int8" quantizes weights, and activations while it runs. "int8-static" has
            scales of the activations that are calibrated on `samples`.
        text_format: Input of the text side, "uint8" (T, 1, H, W) or "packed" int64 (T, H/16, W/4).
        opset: Version of the ONNX operators, 18 to 23.
        samples: Inputs for comparison and calibration.
        names: Graphs to write, such as "text_model". None writes all.

    Returns:
        One row a file.

    Raises:
        ImportError: The extra `onnx` is not installed.
        ValueError: A precision, the text format or the opset is not known, or the model cannot be one graph.

    Example:
        >>> import tempfile
        >>> files = export_onnx("checkpoints/clippo-emoji", tempfile.mkdtemp())
        >>> [file.path.name for file in files]
        ['vision_model.onnx', 'text_model.onnx', 'model.onnx']
        >>> max(file.difference for file in files[:2]) < 1e-5
        True
    """
    if onnx is None:
        raise ImportError("ONNX export needs onnx, onnxscript and onnxruntime: pip install 'clippo[onnx]'.")
    _check_options(precisions, text_format, opset)
    loaded = load_any_model(model, torch.float32).eval()
    graphs = {graph.name: graph for graph in graphs_of(loaded)}
    if unknown := set(names or ()) - set(graphs):
        raise ValueError(f"{', '.join(sorted(unknown))} is no graph of this model; choose from {', '.join(graphs)}.")
    graphs = [graphs[name] for name in names or graphs]
    processor = ClippoProcessor.from_pretrained(model)
    tensors = (samples or Samples()).tensors(processor, loaded.config.canvas_size, text_format)
    output_dir = Path(output_dir)
    folder = output_dir / "onnx"
    folder.mkdir(parents=True, exist_ok=True)
    loaded.config.save_pretrained(output_dir)
    processor.save_pretrained(output_dir)
    written = []
    for graph in graphs:
        inputs = {name: tensors[name] for name in graph.inputs}
        base = folder / f"{graph.name}.onnx"
        _write(graph, inputs, base, opset)
        expected = _torch_outputs(graph, inputs)
        for precision in precisions:
            path = base.with_name(f"{graph.name}{SUFFIXES[precision]}.onnx")
            _convert(base, path, precision, inputs)
            written.append(_compare(path, precision, inputs, expected))
        if "fp32" not in precisions:
            base.unlink()
    return written


def _check_options(precisions: Sequence[str], text_format: str, opset: int) -> None:
    unknown = [name for name in precisions if name not in SUFFIXES]
    if unknown or not precisions:
        raise ValueError(f"precision {', '.join(unknown) or 'missing'}: choose from {', '.join(SUFFIXES)}.")
    if text_format not in TEXT_FORMATS:
        raise ValueError(f"text_format={text_format!r} is not known; choose {' or '.join(TEXT_FORMATS)}.")
    if opset not in OPSETS:
        raise ValueError(f"opset={opset} is not possible; give {OPSETS[0]} to {OPSETS[-1]}.")


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence notes of the exporter and the quantizer that a user cannot act on."""
    levels = {name: logging.getLogger(name).level for name in ("torch.onnx", "onnxscript", "onnx_ir", None)}
    for name in levels:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def _write(graph: Graph, inputs: dict[str, torch.Tensor], path: Path, opset: int) -> None:
    """Write a graph in float32."""
    shapes = tuple({0: torch.export.Dim(axis)} for axis in graph.inputs.values())
    # Unequal numbers of images and texts; equal ones would make the exporter believe that the axes are one.
    example = tuple(values[: 2 + place] for place, values in enumerate(inputs.values()))
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            graph.module,
            example,
            dynamo=True,
            dynamic_shapes=shapes,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=opset,
            verbose=False,
        )
        # Both sides of a pair use the same weights. Transposed once in the graph, they would not be quantized.
        optimizer.fold_constants_ir(
            program.model, should_fold=lambda node: True if node.op_type == "Transpose" else None
        )
        program.save(path)


def _convert(base: Path, path: Path, precision: str, inputs: dict[str, torch.Tensor]) -> None:
    """Write the graph of `base` in another precision."""
    if precision == "fp32":
        return
    with _quiet():
        if precision == "fp16":
            from onnxruntime.transformers.float16 import convert_float_to_float16

            onnx.save(convert_float_to_float16(onnx.load(base), keep_io_types=True), path)
        elif precision == "int8":
            quantization.quantize_dynamic(base, path, weight_type=quantization.QuantType.QInt8, per_channel=True)
        else:
            prepared = base.with_suffix(".prepared")
            quantization.quant_pre_process(str(base), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                prepared,
                path,
                _Calibration(inputs),
                weight_type=quantization.QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=["MatMul", "Gemm"],
                calibrate_method=quantization.CalibrationMethod.Percentile,
            )
            prepared.unlink()


class _Calibration(quantization.CalibrationDataReader if onnx else object):
    """Sample inputs, row by row."""

    def __init__(self, inputs: dict[str, torch.Tensor]):
        longest = max(map(len, inputs.values()))
        self.rows = iter(
            {name: values[i % len(values)][None].numpy() for name, values in inputs.items()} for i in range(longest)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next row, None after the last."""
        return next(self.rows, None)


def _torch_outputs(graph: Graph, inputs: dict[str, torch.Tensor]) -> list[np.ndarray]:
    with torch.no_grad():
        outputs = graph.module(*inputs.values())
    return [value.numpy() for value in (outputs if isinstance(outputs, tuple) else (outputs,))]


def _compare(path: Path, precision: str, inputs: dict[str, torch.Tensor], expected: list[np.ndarray]) -> ExportedFile:
    """Run a written graph with one thread and compare its first output with PyTorch's."""
    session = open_session(path, threads=1)
    feed = {name: values.numpy() for name, values in inputs.items()}
    got = session.run(None, feed)
    difference = float(np.abs(got[0] - expected[0]).max())
    cosine = per_second = float("nan")
    if len(inputs) == 1:
        lengths = np.linalg.norm(got[0], axis=1) * np.linalg.norm(expected[0], axis=1)
        cosine = float(((got[0] * expected[0]).sum(1) / lengths).min())
        seconds = [_seconds(session, feed) for _ in range(3)]
        per_second = len(got[0]) / min(seconds)
    return ExportedFile(path, precision, path.stat().st_size / 1e6, difference, cosine, per_second)


def _seconds(session: "onnxruntime.InferenceSession", feed: dict[str, np.ndarray]) -> float:
    start = time.perf_counter()
    session.run(None, feed)
    return time.perf_counter() - start


def open_session(path: str | Path, threads: int = 0) -> "onnxruntime.InferenceSession":
    """Open an ONNX file on the CPU.

    Args:
        path: The file.
        threads: Number of threads. 0 takes one a core.

    Raises:
        ImportError: The extra `onnx` is not installed.
    """
    if onnx is None:
        raise ImportError("ONNX files need onnxruntime: pip install 'clippo[onnx]'.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # constant folding notes
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _noise(size: tuple[int, int]) -> list[Image.Image]:
    """Images (H, W) of noise at several scales, which differ more than white noise does."""
    random = np.random.default_rng(0)
    cells = [random.integers(0, 256, (side, side, 3), np.uint8) for side in (2, 3, 5, 8, 13, 21, 34, 55)]
    return [Image.fromarray(cell).resize(size[::-1], Image.Resampling.BICUBIC) for cell in cells]


def size_table(files: Sequence[ExportedFile]) -> str:
    """Markdown table of an export."""
    rows = [
        "| file | precision | MB | largest difference | smallest cosine | rows/s, one thread |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for file in files:
        scores = [f"{file.cosine:.5f}", f"{file.per_second:,.0f}"]
        scores = [value if "nan" not in value else "" for value in scores]
        rows.append(
            f"| {file.path.name} | {file.precision} | {file.megabytes:.1f} | {file.difference:.1e} | "
            f"{scores[0]} | {scores[1]} |"
        )
    return "\n".join(rows)


__all__ = ["ExportedFile", "Samples", "export_onnx", "open_session", "size_table"]
