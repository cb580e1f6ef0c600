"""Make a trained folder fit to publish: weights stored in fewer bits, the processor in its plain form, a model card.

python scripts/export_checkpoint.py --model runs/emoji --output_dir checkpoints/clippo-emoji --card model_card.md
"""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModel, AutoProcessor, HfArgumentParser

import clippo  # noqa: F401 - registers the Auto classes


@dataclass
class Arguments:
    model: str = field(metadata={"help": "Folder that scripts/pretrain.py wrote."})
    output_dir: str = field(metadata={"help": "Folder to write."})
    dtype: str = field(default="bfloat16", metadata={"help": "What the weights are stored in: bfloat16 or float16."})
    card: str | None = field(default=None, metadata={"help": "Markdown file to be the folder's README.md."})


def main() -> None:
    (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    output = Path(args.output_dir)
    model = AutoModel.from_pretrained(args.model, dtype=getattr(torch, args.dtype))
    model.save_pretrained(output)
    AutoProcessor.from_pretrained(args.model, canvas_format="uint8").save_pretrained(output)
    if args.card:
        shutil.copy(args.card, output / "README.md")
    # Stored in half the bytes, computed with in float32 unless asked otherwise: on a CPU that is faster and finer.
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    (output / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    print(f"Wrote {output}: {sum(path.stat().st_size for path in output.iterdir()) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
