"""A folder that runs as a Space of the hub as it is: app, model, pictures, the package and its requirements."""

import shutil
from pathlib import Path

import clippo
from clippo.model_files import find_model

TEMPLATES = Path(__file__).with_name("space")
IGNORED = shutil.ignore_patterns("__pycache__", "*.pyc", "checkpoint-*")


def write_space(model: str | Path, image_dir: str | Path | None, output: str | Path) -> Path:
    """Writes the folder of a Space.

    Args:
        model: Folder of a saved model.
        image_dir: Folder of images to search, or None.
        output: Folder to write; it must not exist.

    Returns:
        The folder. `python app.py` in it serves the page.

    Raises:
        FileNotFoundError: The model is not a local folder.
        FileExistsError: The folder exists.
    """
    output = Path(output)
    if not Path(find_model(model)).is_dir():
        raise FileNotFoundError(f"{model} is a name on the hub; download it first, because a Space holds its model.")
    if output.exists():
        raise FileExistsError(f"{output} exists already; choose another folder.")
    shutil.copytree(TEMPLATES, output, ignore=IGNORED)
    shutil.copytree(model, output / "model", ignore=IGNORED)
    if image_dir:
        shutil.copytree(image_dir, output / "pictures", ignore=IGNORED)
    # The package in its installed form: two folders of a checkout lie beside `clippo`.
    shutil.copytree(Path(clippo.__file__).parent, output / "clippo", ignore=IGNORED)
    for name in ("modeling_clippo", "processing"):
        source = Path(getattr(clippo, name).__file__).parent
        shutil.copytree(source, output / "clippo" / name, ignore=IGNORED, dirs_exist_ok=True)
    return output
