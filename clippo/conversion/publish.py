"""A trained folder as it is published: weights in half precision, the processor in its plain form, a model card."""

import json
import os
import shutil
from pathlib import Path

import torch
from transformers import PreTrainedModel

import clippo
from clippo.conversion.big_vision import DTYPES
from clippo.modeling_clippo import ClippoConfig
from clippo.processing import ClippoProcessor


def publish_folder(
    model: str | os.PathLike,
    output_dir: str | os.PathLike,
    dtype: str = "bfloat16",
    card: str | os.PathLike | None = None,
) -> int:
    """Write a copy of a trained folder that is fit to publish.

    Args:
        model: Folder of any CLIPPO model with its processor, heads included.
        output_dir: Folder to write.
        dtype: Precision of the stored weights, a key of `clippo.conversion.DTYPES`.
        card: Markdown file that becomes the folder's README.md.

    Returns:
        Size of the written folder in bytes.

    Raises:
        ValueError: The folder names no CLIPPO class, or its weights are not those of the class.
    """
    output = Path(output_dir)
    loaded = load_any_model(model, DTYPES[dtype])
    loaded.save_pretrained(output)
    ClippoProcessor.from_pretrained(model, canvas_format="uint8").save_pretrained(output)
    if card:
        shutil.copy(card, output / "README.md")
    # The weights are stored in half the bytes. A CPU computes faster and more exactly in float32, so that is what the
    # config asks for.
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float32"
    (output / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return sum(path.stat().st_size for path in output.iterdir())


def load_any_model(folder: str | os.PathLike, dtype: torch.dtype) -> PreTrainedModel:
    """Load a folder as the class that its config names, with nothing missing and nothing dropped.

    Args:
        folder: Written by `save_pretrained`.
        dtype: Precision of the loaded weights.

    Raises:
        ValueError: The config names no CLIPPO class, or weights are missing or left over.
    """
    names = ClippoConfig.from_pretrained(folder).architectures or ["ClippoModel"]
    kind = getattr(clippo, names[0], None) if len(names) == 1 else None
    if not (isinstance(kind, type) and issubclass(kind, PreTrainedModel)):
        raise ValueError(f"{folder} holds architectures={names}; a folder of one CLIPPO model can be exported.")
    model, loading = kind.from_pretrained(folder, dtype=dtype, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if wrong := sorted(map(str, loading[problem])):
            raise ValueError(f"{folder} is no {names[0]}: {problem.replace('_', ' ')} {', '.join(wrong[:3])}.")
    return model
