"""Class names to prompts, as the official zero-shot evaluation and the official notebook make them.

Sources: big_vision `evaluators/proj/image_text/prompt_engineering.py` and `discriminative_classifier.py` for the
official protocol, `configs/proj/clippo/clippo_colab.ipynb` for the colab's.
"""

import json
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class Protocol:
    """How class names become class embeddings.

    Args:
        templates: key of a list in `prompts.json`.
        canonical: bring names and templates into one form first, see `canonicalize`, and keep of several names that
            stand between commas the first.
        renormalize: bring the mean over the templates back to unit length.
    """

    templates: str
    canonical: bool
    renormalize: bool


PROTOCOLS = {
    "official": Protocol("clip_paper", canonical=True, renormalize=True),
    "colab": Protocol("clip_best", canonical=False, renormalize=False),
    "name": Protocol("name", canonical=False, renormalize=True),  # the bare name; ours
}


@cache
def read_prompts() -> dict:
    """Templates and class names that come with the package."""
    return json.loads((Path(__file__).parent / "prompts.json").read_text(encoding="utf-8"))


def canonicalize(text: str, keep: str | None = None) -> str:
    """Lower case, underscores to spaces, ASCII punctuation removed, white space collapsed.

    Args:
        text: any string.
        keep: a string that survives although it is punctuation: "{}" in templates, "," in names.
    """
    text = text.replace("_", " ")
    parts = text.split(keep) if keep else [text]
    text = (keep or "").join(part.translate(WITHOUT_PUNCTUATION) for part in parts)
    return re.sub(r"\s+", " ", text.lower()).strip()


def class_prompts(
    names: Sequence[str], protocol: Protocol, templates: Sequence[str] | None = None
) -> tuple[list[str], list[list[str]]]:
    """The names as used, and for each of C classes its T prompts.

    Args:
        names: C class names; some may be equal.
        protocol: one of `PROTOCOLS`.
        templates: instead of the protocol's own; each holds "{}" once.

    Raises:
        ValueError: no names, an empty name, or a template without its one "{}".
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
    """Mean over the prompts of each class.

    Args:
        vectors: (C * T, E) unit vectors, the T prompts of the first class first.
        classes: C.
        renormalize: divide by the length, official epsilon.

    Returns:
        float32 (C, E).
    """
    means = vectors.float().unflatten(0, (classes, -1)).mean(1)
    return means / (means.norm(dim=-1, keepdim=True) + 1e-8) if renormalize else means


def duplicates(names: Sequence[str]) -> dict[str, list[int]]:
    """Names that several classes share, with their labels. Only the first of them can ever be predicted."""
    places: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        places.setdefault(name, []).append(i)
    return {name: labels for name, labels in places.items() if len(labels) > 1}
