"""Recipes that ship with the package, found by name."""

import difflib
from pathlib import Path


def recipe_folder() -> Path:
    """Folder of the shipped recipes: `clippo/recipes` in an installation, `recipes` in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def recipe_names() -> list[str]:
    """Names of the shipped recipes, such as `emoji` or `evaluation/flickr8k`. Files of Accelerate are no recipes."""
    folder = recipe_folder()
    names = (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))
    return sorted(name for name in names if not name.startswith("accelerate/"))


def find_recipe(name_or_path: str) -> Path:
    """Path of a recipe that is given by its file or by the name of a shipped one.

    Args:
        name_or_path: A file, or a name as `recipe_names` lists them, with or without `recipes/` and `.yaml`. A file
            that exists wins over a shipped recipe of the same name.

    Raises:
        FileNotFoundError: Neither a file nor a shipped recipe. The message lists the nearest names.

    Example:
        >>> find_recipe("emoji").name
        'emoji.yaml'
    """
    if Path(name_or_path).is_file():
        return Path(name_or_path)
    name = name_or_path.removesuffix(".yaml").removeprefix("recipes/")
    names = recipe_names()
    if name in names:
        return recipe_folder() / f"{name}.yaml"
    nearest = difflib.get_close_matches(name, names, n=3) or names
    raise FileNotFoundError(
        f"{name_or_path!r} is neither a file nor a shipped recipe; the nearest are {', '.join(nearest)}."
    )
