"""Command lines of `clippo convert` and `clippo export`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from transformers import HfArgumentParser

from clippo.conversion.big_vision import DTYPES, convert_checkpoint, export_checkpoint
from clippo.conversion.npz import LAYOUTS
from clippo.conversion.official_files import CHECKPOINT_BUCKET, FONT_FOLDERS_VARIABLE, RELEASED_CHECKPOINTS
from clippo.conversion.publish import publish_folder, push_folder


@dataclass
class ConvertArguments:
    """Options of `clippo convert`."""

    checkpoint: str | None = field(
        default=None,
        metadata={
            "help": f"An .npz file, or a released checkpoint to download from {CHECKPOINT_BUCKET}: "
            f"{', '.join(RELEASED_CHECKPOINTS)}."
        },
    )
    output_dir: str | None = field(default=None, metadata={"help": "Folder to write."})
    model: str | None = field(default=None, metadata={"help": "Saved folder to convert back to an .npz file."})
    to_npz: str | None = field(default=None, metadata={"help": "The .npz file to write from `model`."})
    resolution: list[int] | None = field(
        default=None,
        metadata={"help": "Another canvas: side, or height and width, in pixels. Resamples the position embeddings."},
    )
    dtype: str = field(default="float32", metadata={"help": "Precision of the saved weights.", "choices": list(DTYPES)})
    font: list[str] = field(
        default_factory=lambda: ["official"],
        metadata={
            "help": "'official': Unifont 9.0.06, from the folder that the environment variable "
            f"{FONT_FOLDERS_VARIABLE} names, or downloaded. 'default': the packaged Unifont 15. Also accepted: the "
            "folder of the two official .hex files, or other font files in order of preference."
        },
    )
    layout: str = field(
        default="params", metadata={"help": "Names of the keys in the written .npz.", "choices": list(LAYOUTS)}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Folder that keeps downloads."})

    def __post_init__(self):
        forward, back = (self.checkpoint, self.output_dir), (self.model, self.to_npz)
        chosen, other = (forward, back) if any(forward) else (back, forward)
        if not all(chosen) or any(other):
            raise ValueError("pass --checkpoint with --output_dir (.npz to folder) or --model with --to_npz (back).")


@dataclass
class ExportArguments:
    """Options of `clippo export`."""

    model: str = field(metadata={"help": "Folder that a training run wrote."})
    output_dir: str = field(metadata={"help": "Folder to write."})
    dtype: str = field(
        default="bfloat16", metadata={"help": "Precision of the stored weights.", "choices": list(DTYPES)}
    )
    card: str | None = field(default=None, metadata={"help": "Markdown file that becomes the folder's README.md."})
    push_to: str | None = field(
        default=None, metadata={"help": "Repository on the hub, OWNER/NAME, to which the folder is uploaded."}
    )


def main_convert(argv: Sequence[str] | None = None) -> None:
    """Convert an official CLIPPO checkpoint to a Hugging Face folder, or such a folder back to an .npz file."""
    try:
        (args,) = HfArgumentParser(ConvertArguments, description=main_convert.__doc__).parse_args_into_dataclasses(argv)
        if args.to_npz is not None:
            params = export_checkpoint(args.model, args.to_npz, args.layout)
            print(f"Wrote {len(params)} tensors to {args.to_npz} and read them back: equal.")
        else:
            print(
                convert_checkpoint(
                    args.checkpoint,
                    args.output_dir,
                    resolution=args.resolution,
                    dtype=args.dtype,
                    font=args.font,
                    cache_dir=args.cache_dir,
                )
            )
            print(f"Wrote {args.output_dir}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


def main_export(argv: Sequence[str] | None = None) -> None:
    """Prepare a trained folder for publication: weights in half precision, plain processor, model card."""
    try:
        (args,) = HfArgumentParser(ExportArguments, description=main_export.__doc__).parse_args_into_dataclasses(argv)
        size = publish_folder(args.model, args.output_dir, args.dtype, args.card)
        print(f"Wrote {args.output_dir}: {size / 2**20:.1f} MiB")
        if args.push_to:
            print(f"Uploaded it: {push_folder(args.output_dir, args.push_to)}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
