"""A trained folder as it is published: weights in half precision, the processor in its plain form, a model card."""

import json
import os
import shutil
from pathlib import Path

import torch
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
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


def push_folder(folder: str | os.PathLike, name: str, private: bool = False, kind: str = "model") -> str:
    """Upload a written folder to the hub as one commit.

    The folder stays as it is on the hub, with its model card and the code beside the weights.

    Args:
        folder: Folder that `publish_folder` or `clippo build web` wrote.
        name: Repository, "owner/name", or "name" for one of the user who is logged in. It is made if it is missing.
        private: Makes a missing repository private.
        kind: "model", or "space" for a static page.

    Returns:
        URL of the commit.

    Raises:
        PermissionError: The hub refuses.
    """
    api = HfApi()
    options = {"space_sdk": "static"} if kind == "space" else {}
    message = f"Upload {Path(folder).name}"
    try:
        repo = api.create_repo(name, private=private, exist_ok=True, repo_type=kind, **options).repo_id
        return api.upload_folder(repo_id=repo, folder_path=folder, repo_type=kind, commit_message=message).commit_url
    except HfHubHTTPError as error:
        raise PermissionError(
            f"The hub refused {name} with status {error.response.status_code}; log in with `hf auth login`, with a "
            "token that may write there."
        ) from error


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
