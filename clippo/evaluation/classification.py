"""Classifying pictures without training (zero-shot) and with very little (probes), as reports."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from clippo.evaluation.encoder import Encoder
from clippo.evaluation.metrics import ClassificationAccuracy
from clippo.evaluation.probes import draw_shots, least_squares, logistic
from clippo.evaluation.prompts import PROTOCOLS, class_embeddings, class_prompts, duplicates, read_prompts
from clippo.evaluation.report import Report
from clippo.evaluation.retrieval import nearest
from clippo.evaluation.sources import Source, class_names, open_rows, read_columns


def zero_shot_report(
    encoder: Encoder,
    source: Source,
    protocol: str = "official",
    templates: Sequence[str] | None = None,
    streaming: bool = False,
    limit: int | None = None,
) -> Report:
    """Zero-shot classification: the class of a picture is the one whose mean prompt lies nearest.

    Args:
        encoder: the model.
        source: pictures with labels.
        protocol: one of `PROTOCOLS`: "official" (the numbers of the README), "colab" (the official notebook), "name".
        templates: instead of the protocol's.
        streaming, limit: see `open_rows`.

    Raises:
        ValueError: an unknown protocol, a label without a class, or what the parts raise.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r} is not known; choose one of {', '.join(PROTOCOLS)}.")
    chosen = PROTOCOLS[protocol]
    rows = open_rows(source, streaming=streaming, limit=limit)
    names, prompts = class_prompts(class_names(source, rows, read_prompts()), chosen, templates)
    cells, columns = read_columns(rows, source.image, source.label)
    pictures = encoder.pictures(cells)
    labels = _labels(pictures.select(columns[source.label]), len(names))
    texts = encoder.texts([prompt for own in prompts for prompt in own])
    classes = class_embeddings(texts, len(names), chosen.renormalize)
    predicted = nearest(pictures.vectors, classes, k=min(5, len(names)))  # (M, 5), ties to the lower label as argmax
    metrics = ClassificationAccuracy().compute(predictions=predicted.tolist(), references=labels.tolist())

    return Report(
        task="zero-shot",
        data=source.path,
        protocol=(
            f"Protocol {protocol}: {len(names)} classes, {len(prompts[0])} prompts each, "
            f"{'canonicalised, ' if chosen.canonical else ''}embeddings averaged"
            f"{' and renormalised' if chosen.renormalize else ''}; the nearest class by dot product counts."
        ),
        metrics={name: metrics[name] for name in ("top1", "top5", "mean_per_class") if name in metrics},
        chance={"top1": 1 / len(names), "top5": min(1.0, 5 / len(names)), "mean_per_class": 1 / len(names)},
        counts={
            "pictures": len(labels),
            "classes": len(names),
            "pictures that could not be read": len(pictures.broken),
        },
        rows=_per_class(names, labels, predicted[:, 0]),
        notes=_notes(names, labels, pictures.broken),
        confusion=_confusion(names, labels, predicted[:, 0]),
        variant=protocol,
    )


def few_shot_report(
    encoder: Encoder,
    source: Source,
    train_split: str = "train",
    shots: Sequence[int] = (1, 5, 10, 25),
    seeds: Sequence[int] = (0, 1, 2),
    l2: float = 2.0**10,
    probes: Sequence[str] = ("least-squares", "logistic"),
    c: float = 1.0,
    crop: bool = True,
    streaming: bool = False,
    limit: int | None = None,
) -> Report:
    """Linear probes on the pooled vectors before the projection.

    Args:
        encoder: the model.
        source: pictures with labels; its split is the one to test on.
        train_split: the split to learn from.
        shots: pictures a class; 0 stands for all.
        seeds: draws of the shots; their mean and deviation are reported.
        l2: penalty of least squares; 2^10 is the official one.
        probes: "least-squares", "logistic" or both.
        c: inverse penalty of the logistic regression.
        crop: resize to 256/224 of the canvas and cut out the centre, as officially; else squash to the canvas.
        streaming, limit: see `open_rows`; the limit is for either split.

    Raises:
        ValueError: an unknown probe, or what the parts raise.
    """
    unknown = sorted(set(probes) - {"least-squares", "logistic"})
    if unknown:
        raise ValueError(f"probes={unknown[0]!r} is not known; choose least-squares, logistic or both.")
    options = _official_crop(encoder.processor) if crop else {}
    features, labels, broken, names = {}, {}, {}, []
    for part, split in (("train", train_split), ("test", source.split)):
        rows = open_rows(source, split, streaming, limit)
        names = names or class_names(source, rows, read_prompts())
        cells, columns = read_columns(rows, source.image, source.label)
        pictures = encoder.pictures(cells, pooled=True, **options)
        features[part], broken[part] = pictures.vectors, len(pictures.broken)
        labels[part] = _labels(pictures.select(columns[source.label]), len(names))

    table, few = [], {}
    sizes = np.bincount(labels["train"].numpy(), minlength=len(names))
    for probe in probes:
        for count in shots:
            scores = []
            for seed in seeds if count else seeds[:1]:  # all pictures are all pictures, whatever the seed
                drawn = torch.as_tensor(draw_shots(labels["train"], len(names), count or int(sizes.max()), seed))
                x, y = features["train"][drawn], labels["train"][drawn]
                fitted = (
                    least_squares(x, y, len(names), l2) if probe == "least-squares" else logistic(x, y, len(names), c)
                )
                predicted = fitted(features["test"]).argmax(1)
                scores.append((predicted == labels["test"]).double().mean().item())
            label = f"{count} shots" if count else "all pictures"
            table.append(
                {
                    "probe": probe,
                    "shots": count or "all",
                    "accuracy": float(np.mean(scores)),
                    "deviation": float(np.std(scores)),
                    "draws": len(scores),
                }
            )
            few[f"{probe}, {label}"] = float(np.mean(scores))
    notes = [f"Class {names[i]!r} has no training pictures." for i in np.flatnonzero(sizes == 0)]
    scarce = [count for count in shots if count > sizes[sizes > 0].min()]
    if scarce:
        notes.append(f"For {max(scarce)} shots some classes have fewer pictures, {sizes[sizes > 0].min()} at least.")
    size = "resized to 256/224 of the canvas, the centre cut out" if crop else "squashed to the canvas"
    return Report(
        task="few-shot",
        data=source.path,
        protocol=(
            f"Linear probes on the pooled vectors before the projection, pictures {size}. Least squares onto one-hot "
            f"labels, l2 = {l2:g}; logistic regression with C = {c:g}; mean and deviation over {len(seeds)} draws of "
            "the shots."
        ),
        metrics=few,
        chance=dict.fromkeys(few, 1 / len(names)),
        counts={
            "training pictures": len(labels["train"]),
            "test pictures": len(labels["test"]),
            "classes": len(names),
            "pictures that could not be read": broken["train"] + broken["test"],
        },
        rows=table,
        notes=notes,
    )


def _official_crop(processor: Any) -> dict[str, Any]:
    """Options of the image processor for the official few-shot preprocessing, at any canvas size."""
    canvas = processor.image_processor.size
    height, width = canvas["height"], canvas["width"]
    return {
        "size": {"height": round(height * 256 / 224), "width": round(width * 256 / 224)},
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
    }


def _labels(values: list, classes: int) -> torch.Tensor:
    labels = torch.tensor(values, dtype=torch.int64)
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(
            f"Labels run from {int(labels.min())} to {int(labels.max())}, but there are {classes} class names: -1 "
            "marks an unlabelled split, anything else the wrong list of names."
        )
    return labels


def _per_class(names: list[str], labels: torch.Tensor, predicted: torch.Tensor) -> list[dict]:
    result = []
    for label, name in enumerate(names):
        own = labels == label
        count = int(own.sum())
        share = (predicted[own] == label).double().mean().item() if count else None
        result.append({"class": re.sub(r"\|", "/", name), "pictures": count, "accuracy": share})
    return result


def _confusion(names: list[str], labels: torch.Tensor, predicted: torch.Tensor) -> dict | None:
    if len(names) > 1000:  # a million cells are no picture
        return None
    counts = torch.bincount(labels * len(names) + predicted, minlength=len(names) ** 2)
    return {"names": list(names), "counts": counts.view(len(names), len(names)).tolist()}


def _notes(names: list[str], labels: torch.Tensor, broken: dict[int, str]) -> list[str]:
    notes = []
    for name, places in duplicates(names).items():
        notes.append(f"Classes {', '.join(map(str, places))} are all called {name!r}: only the first can be predicted.")
    empty = sorted(set(range(len(names))) - set(labels.tolist()))
    if empty:
        shown = ", ".join(repr(names[i]) for i in empty[:5])
        notes.append(f"{len(empty)} classes have no pictures and are left out of the mean per class: {shown}.")
    if broken:
        row, reason = next(iter(broken.items()))
        notes.append(f"{len(broken)} pictures could not be read and count nowhere; the first is row {row}: {reason}")
    return notes
