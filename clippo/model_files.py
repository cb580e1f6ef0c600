"""Saved models, found by folder or by hub name, with an error that says which of the two is missing."""

import difflib
import re
from pathlib import Path

from transformers.utils import cached_file

# "name" or "owner/name"; everything else can only be a folder.
HUB_NAME = re.compile(r"[\w.-]*\w(/[\w.-]*\w)?")


def find_model(name_or_folder: str | Path) -> str:
    """Checks that a model exists before anything is loaded or trained.

    Args:
        name_or_folder: Folder that `save_pretrained` wrote, or name of a model on the hub. A folder that exists wins.

    Returns:
        The argument as a string.

    Raises:
        FileNotFoundError: The folder does not exist or has no config.json, or the hub has no such model or cannot be
            reached.

    Example:
        >>> find_model("checkpoints/clippo-emoji")
        'checkpoints/clippo-emoji'
    """
    name, folder = str(name_or_folder), Path(name_or_folder)
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return name
        inner = sorted(file.parent.as_posix() for file in folder.glob("*/config.json"))
        remedy = f"give one of {', '.join(inner)}" if inner else "give a folder that save_pretrained wrote"
        raise FileNotFoundError(f"The folder {name} has no config.json; {remedy}.")
    nearest = _nearest_folders(folder)
    remedy = f"the nearest is {nearest[0]}" if nearest else "check the path"
    if not HUB_NAME.fullmatch(name) or name.startswith("."):
        raise FileNotFoundError(f"There is no folder {name}; {remedy}.")
    try:
        cached_file(name, "config.json")
    except OSError as error:
        raise FileNotFoundError(
            f"There is no folder {name} below {Path.cwd()}, and the hub has no such model or cannot be reached; "
            f"{remedy}."
        ) from error
    return name


def _nearest_folders(folder: Path) -> list[str]:
    """Folders of models beside a missing one, the most similar name first."""
    try:
        beside = {path.name: path for path in folder.parent.iterdir() if (path / "config.json").is_file()}
    except OSError:
        return []
    return [beside[name].as_posix() for name in difflib.get_close_matches(folder.name, beside, n=1)]
