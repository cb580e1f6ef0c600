"""Command line of `clippo export onnx`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from clippo.data.text_files import read_lines
from clippo.integrations.onnx import OPSETS, SAMPLE_TEXTS, SUFFIXES, Samples, export_onnx, size_table
from clippo.integrations.onnx_graphs import TEXT_FORMATS
from clippo.model_files import find_model
from clippo.processing.images_clippo import open_image


@dataclass
class OnnxArguments:
    """Options of `clippo export onnx`."""

    model: str = field(metadata={"help": "Folder or hub name of a model or a classification head."})
    output_dir: str = field(metadata={"help": "Folder to write."})
    precision: list[str] = field(
        default_factory=lambda: ["fp32", "int8"],
        metadata={"help": "One or more precisions of the written graphs.", "choices": list(SUFFIXES)},
    )
    text_format: str = field(
        default="uint8",
        metadata={"help": "Input of the text side: a byte or a bit a pixel.", "choices": list(TEXT_FORMATS)},
    )
    opset: int = field(default=20, metadata={"help": f"Version of the ONNX operators, {OPSETS[0]} to {OPSETS[-1]}."})
    images: str | None = field(
        default=None, metadata={"help": "Folder of images that check the export and calibrate int8-static."}
    )
    texts: str | None = field(
        default=None,
        metadata={"help": "Text file, one text a line, that checks the export and calibrates int8-static."},
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Write a model as ONNX graphs, and compare each with PyTorch."""
    (args,) = HfArgumentParser(OnnxArguments, description=main.__doc__).parse_args_into_dataclasses(argv)
    try:
        samples = Samples(_images(args.images), read_lines(args.texts) if args.texts else SAMPLE_TEXTS)
        model = find_model(args.model)
        files = export_onnx(model, args.output_dir, args.precision, args.text_format, args.opset, samples)
    except (ValueError, OSError, ImportError) as error:
        raise SystemExit(f"error: {error}") from None
    print(size_table(files))


def _images(folder: str | None) -> list | None:
    """Images of a folder, in order of their names; None without a folder."""
    if folder is None:
        return None
    images = [open_image(path) for path in sorted(Path(folder).iterdir()) if path.is_file()]
    if not images:
        raise ValueError(f"{folder} has no images; give a folder of image files.")
    return images
