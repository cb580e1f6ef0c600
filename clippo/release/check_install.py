"""A check of an installation, run in an environment with nothing but the package.

python -m clippo.release.check_install --model checkpoints/clippo-emoji --image docs/pictures/cat.webp --label cat
"""

import argparse
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.metadata import distribution
from io import StringIO
from pathlib import Path

from transformers import pipeline

import clippo
from clippo import cli
from clippo.recipe_files import find_recipe

LABELS = ("cat", "Hund", "ракета", "пицца", "木")


def check_package() -> str:
    """Check that the imported package is the installed one, with its data files and its command.

    Returns:
        Version.

    Raises:
        RuntimeError: Another copy was imported, or a part is missing.
    """
    installed = distribution("clippo")
    here = Path(clippo.__file__).resolve()
    if not Path(str(installed.locate_file("clippo"))).resolve() == here.parent:
        raise RuntimeError(f"{here.parent} was imported, not the installed package; run the check in another folder.")
    if clippo.ClippoTokenizer(canvas_size=80)(["wheel"])["text_pixel_values"][0].min() > 0:  # 0 is ink
        raise RuntimeError("The packaged font has no glyphs; build the wheel again.")
    find_recipe("emoji")
    with redirect_stdout(StringIO()) as said:
        cli.main(["--version"])
    if said.getvalue().split() != ["clippo", installed.version]:
        raise RuntimeError(f"`clippo --version` printed {said.getvalue()!r}, and the package is {installed.version}.")
    return installed.version


def check_model(model: str, image: str, label: str) -> float:
    """Check that a folder opens and labels a picture.

    Args:
        model: Folder of a `ClippoModel`.
        image: Picture.
        label: The right one of `LABELS`.

    Returns:
        Probability of the label.

    Raises:
        RuntimeError: Another label is ranked first.

    Example:
        >>> check_model("checkpoints/clippo-emoji", "docs/pictures/cat.webp", "cat") > 0.5
        True
    """
    best = pipeline("zero-shot-image-classification", model)(
        image, candidate_labels=list(LABELS), hypothesis_template="{}"
    )[0]
    if best["label"] != label:
        raise RuntimeError(
            f"{image} was labelled {best['label']!r}, not {label!r}; the weights or the code are damaged."
        )
    return best["score"]


def main(argv: Sequence[str] | None = None) -> None:
    """Check the installed package, and a model if one is given."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", help="Folder of a model.")
    parser.add_argument("--image", help="Picture to label.")
    parser.add_argument("--label", default="cat", choices=LABELS, help="Label of the picture.")
    args = parser.parse_args(argv)
    try:
        print(f"clippo {check_package()}: font, recipes and command are there")
        if args.model:
            print(f"{args.model}: {args.label} {check_model(args.model, args.image, args.label):.3f}")
    except (RuntimeError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
