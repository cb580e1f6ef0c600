#!/usr/bin/env python
"""Converts an official CLIPPO checkpoint to a Hugging Face folder, or such a folder back to an `.npz`.

python scripts/convert_big_vision.py --checkpoint clippo_b16_yfcc100m_i21k_init_75c4 --output clippo-b16
python scripts/convert_big_vision.py --to_npz clippo-b16 --output clippo_b16.npz
"""

from dataclasses import dataclass, field

from transformers import HfArgumentParser

from clippo.conversion import DTYPES, convert_checkpoint, export_checkpoint
from clippo.conversion.npz import LAYOUTS
from clippo.conversion.official_files import CHECKPOINT_BUCKET, FONT_FOLDERS_VARIABLE, RELEASED_CHECKPOINTS


@dataclass
class ConvertArguments:
    output: str = field(metadata={"help": "Folder to write; with --to_npz the file to write."})
    checkpoint: str | None = field(
        default=None,
        metadata={
            "help": f"An .npz file, or a released checkpoint to download from {CHECKPOINT_BUCKET}: "
            f"{', '.join(RELEASED_CHECKPOINTS)}."
        },
    )
    to_npz: str | None = field(default=None, metadata={"help": "A saved folder to turn into an .npz instead."})
    resolution: list[int] | None = field(
        default=None, metadata={"help": "Another canvas, side or height and width in pixels: resamples the positions."}
    )
    dtype: str = field(default="float32", metadata={"help": "Precision to save in.", "choices": list(DTYPES)})
    font: list[str] = field(
        default_factory=lambda: ["official"],
        metadata={
            "help": "'official' (Unifont 9.0.06, from the folder that the environment variable "
            f"{FONT_FOLDERS_VARIABLE} names, or downloaded), the folder with its two .hex files, 'default' (the "
            "packaged Unifont 15), or other font files in order of preference."
        },
    )
    layout: str = field(default="params", metadata={"help": "How to_npz names its keys.", "choices": list(LAYOUTS)})
    cache_folder: str | None = field(default=None, metadata={"help": "Where downloads are kept."})

    def __post_init__(self):
        if (self.checkpoint is None) == (self.to_npz is None):
            raise ValueError("pass either --checkpoint (npz to folder) or --to_npz (folder to npz).")


def main(arguments: list[str] | None = None) -> None:
    try:
        (args,) = HfArgumentParser(ConvertArguments).parse_args_into_dataclasses(arguments)
        if args.to_npz is not None:
            params = export_checkpoint(args.to_npz, args.output, args.layout)
            print(f"Wrote {len(params)} tensors to {args.output} and read them back: equal.")
        else:
            options = {key: getattr(args, key) for key in ("resolution", "dtype", "font", "cache_folder")}
            print(convert_checkpoint(args.checkpoint, args.output, **options))
            print(f"Wrote {args.output}")
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
