"""Prompts of class names, as in the official zero-shot evaluation and the official notebook.

Sources: big_vision `evaluators/proj/image_text/prompt_engineering.py` and `discriminative_classifier.py` for the
official protocol, `configs/proj/clippo/clippo_colab.ipynb` for the protocol of the notebook.
"""

import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from clippo.modeling_clippo.modeling_clippo import normalize

WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Protocol:
    """Rules that turn class names into class embeddings.

    Args:
        templates: Key of a list in `prompts.json`.
        canonical: Whether to canonicalize names and templates first (`canonicalize`). Of several names separated by
            commas, only the first is kept.
        renormalize: Whether to normalize the mean over the templates.

    Example:
        >>> names, prompts = class_prompts(["goldfish, carp"], PROTOCOLS["official"], ["a photo of a {}."])
        >>> prompts
        [['a photo of a goldfish']]
    """

    templates: str
    canonical: bool
    renormalize: bool


PROTOCOLS = {
    "official": Protocol("clip_paper", canonical=True, renormalize=True),
    "colab": Protocol("clip_best", canonical=False, renormalize=False),
    "name": Protocol("name", canonical=False, renormalize=True),  # the bare name; not in the paper
}


@cache
def read_prompts() -> dict:
    """Reads the templates and class names that come with the package."""
    return json.loads((Path(__file__).parent / "prompts.json").read_text(encoding="utf-8"))


def canonicalize(text: str, keep: str | None = None) -> str:
    """Lower-cases text, turns underscores into spaces, removes ASCII punctuation and collapses white space.

    Args:
        text: String.
        keep: Punctuation that is kept: "{}" in templates, "," in names.
    """
    text = text.replace("_", " ")
    parts = text.split(keep) if keep else [text]
    text = (keep or "").join(part.translate(WITHOUT_PUNCTUATION) for part in parts)
    return re.sub(r"\s+", " ", text.lower()).strip()


def class_prompts(
    names: Sequence[str], protocol: Protocol, templates: Sequence[str] | None = None
) -> tuple[list[str], list[list[str]]]:
    """Returns the names as used, and T prompts for each of C classes.

    Args:
        names: C class names. Some may be equal.
        protocol: One of `PROTOCOLS`.
        templates: Templates in place of the protocol's. Each holds "{}" once.

    Raises:
        ValueError: There are no names, a name is empty, or a template does not hold "{}" once.
    """
    names, templates = list(names), list(templates or read_prompts()["templates"][protocol.templates])
    if protocol.canonical:
        names = [canonicalize(name, keep=",").split(",")[0] for name in names]
        templates = [canonicalize(template, keep="{}") for template in templates]
    for template in templates:
        if template.count("{}") != 1:
            raise ValueError(f"The template {template!r} needs one place for the class name, written {{}}.")
    empty = [i for i, name in enumerate(names) if not name.strip()]
    if empty or not names:
        raise ValueError(f"Class {empty[0]} has an empty name." if names else "There are no class names.")
    return names, [[template.replace("{}", name) for template in templates] for name in names]


def class_embeddings(vectors: torch.Tensor, classes: int, renormalize: bool = True) -> torch.Tensor:
    """Averages the vectors of the prompts of each class.

    Args:
        vectors: (C * T, E) unit vectors, the T prompts of the first class first.
        classes: Number of classes C.
        renormalize: Whether to normalize the mean.

    Returns:
        float32 (C, E).
    """
    means = vectors.float().unflatten(0, (classes, -1)).mean(1)
    return normalize(means) if renormalize else means


def duplicates(names: Sequence[str]) -> dict[str, list[int]]:
    """Returns names that several classes share, with their labels. Only the first of them can be predicted."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        places.setdefault(name, []).append(i)
    return {name: labels for name, labels in places.items() if len(labels) > 1}
