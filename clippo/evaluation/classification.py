"""Zero-shot classification: the class of an image is the label with the nearest text embedding."""

import math
from collections.abc import Sequence

import torch

from clippo.evaluation.benchmarks import Benchmark, class_names, open_rows, read_columns
from clippo.evaluation.encoder import EmbeddedImages, Encoder
from clippo.evaluation.metrics import ClassificationAccuracy
from clippo.evaluation.prompts import PROTOCOLS, class_embeddings, class_prompts, duplicates, read_prompts
from clippo.evaluation.report import Report
from clippo.evaluation.retrieval import nearest


def zero_shot(encoder: Encoder, images: Sequence, labels: Sequence[str], template: str = "{}") -> torch.Tensor:
    """Computes the probability of every label for every image, as the pipeline `zero-shot-image-classification` does.

    Args:
        encoder: Encoder of the model.
        images: B images in any form that the encoder accepts.
        labels: C different strings.
        template: Text with "{}" in the place of the label. The default is the bare label; the pipeline's default is
            "This is a photo of {}.".

    Returns:
        float32 (B, C), softmax over the labels of `exp(logit_scale)` times the cosine.

    Raises:
        TypeError: `images` or `labels` is a single item.
        ValueError: There are no images or no labels, an image cannot be read, a label comes twice, the template has no
            place for it, or the temperature of the model is not finite.
    """
    if "{}" not in template:
        raise ValueError(f"The template {template!r} has no place for the label; write one with {{}} in it.")
    if isinstance(labels, str):
        raise TypeError(f"labels is one string, {labels!r}; pass a list of strings.")
    twice = sorted({label for label in labels if list(labels).count(label) > 1})
    if twice:
        raise ValueError(f"Labels must differ, since they share one probability; given twice: {', '.join(twice)}.")
    texts = encoder.texts([template.replace("{}", label) for label in labels])
    vectors = encoder.images(images).require_all()
    model = encoder.model
    logit_scale = model.logit_scale.detach().float()
    if not logit_scale.isfinite().all():
        raise ValueError(f"logit_scale is {logit_scale.item()}, so there are no probabilities; check the weights.")
    scale = min(logit_scale.exp().item(), model.config.logit_scale_max or math.inf)
    return (scale * vectors @ texts.T).softmax(dim=-1)  # (B, C)


def zero_shot_report(
    encoder: Encoder, benchmark: Benchmark, protocol: str = "official", templates: Sequence[str] | None = None
) -> Report:
    """Classifies the images of a data set. The class of an image is the one with the nearest mean prompt.

    Args:
        encoder: Encoder of the model.
        benchmark: Images with labels.
        protocol: One of `PROTOCOLS`: "official" (big_vision's evaluator), "colab" (the official notebook) or "name".
        templates: Templates in place of the protocol's.

    Raises:
        ValueError: An unknown protocol, a label without a class, or data that cannot be used.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r} is not known; choose one of {', '.join(PROTOCOLS)}.")
    chosen = PROTOCOLS[protocol]
    rows = open_rows(benchmark)
    names, prompts = class_prompts(class_names(benchmark, rows, read_prompts()), chosen, templates)
    images, labels = embed_labelled(encoder, benchmark, rows, len(names))
    texts = encoder.texts([prompt for own in prompts for prompt in own])
    classes = class_embeddings(texts, len(names), chosen.renormalize)
    predicted = nearest(images.vectors, classes, k=min(5, len(names)))  # (M, 5), ties to the lower label as argmax
    metrics = ClassificationAccuracy().compute(predictions=predicted.tolist(), references=labels.tolist())

    return Report(
        task="zero-shot",
        data=benchmark.path,
        protocol=(
            f"Protocol {protocol}: {len(names)} classes, {len(prompts[0])} prompts each, "
            f"{'canonicalised, ' if chosen.canonical else ''}embeddings averaged"
            f"{' and renormalised' if chosen.renormalize else ''}; the nearest class by dot product counts."
        ),
        metrics={name: metrics[name] for name in ("top1", "top5", "mean_per_class") if name in metrics},
        chance={"top1": 1 / len(names), "top5": min(1.0, 5 / len(names)), "mean_per_class": 1 / len(names)},
        counts={"images": len(labels), "classes": len(names), "images that could not be read": len(images.broken)},
        rows=_per_class(names, labels, predicted[:, 0]),
        notes=_notes(names, labels, images.broken),
        confusion=_confusion(names, labels, predicted[:, 0]),
        variant=protocol,
    )


def embed_labelled(
    encoder: Encoder, benchmark: Benchmark, rows, classes: int, **options
) -> tuple[EmbeddedImages, torch.Tensor]:
    """Embeds labelled images.

    Args:
        encoder: Encoder of the model.
        benchmark: Data set with the names of the columns.
        rows: Its opened rows.
        classes: Number of classes.
        options: Arguments of `Encoder.images`.

    Returns:
        The images, and int64 (M,) labels of those that could be read.

    Raises:
        ValueError: A label is not in 0..classes - 1.
    """
    cells, columns = read_columns(rows, benchmark.image, benchmark.label)
    images = encoder.images(cells, **options)
    labels = torch.tensor(images.select(columns[benchmark.label]), dtype=torch.int64)
    if len(labels) and (labels.min() < 0 or labels.max() >= classes):
        raise ValueError(
            f"Labels run from {int(labels.min())} to {int(labels.max())}, but there are {classes} class names. Label "
            "-1 marks an unlabelled split; otherwise the list of names is wrong."
        )
    return images, labels


def _per_class(names: list[str], labels: torch.Tensor, predicted: torch.Tensor) -> list[dict]:
    result = []
    for label, name in enumerate(names):
        own = labels == label
        count = int(own.sum())
        share = (predicted[own] == label).double().mean().item() if count else None
        result.append({"class": name.replace("|", "/"), "images": count, "accuracy": share})
    return result


def _confusion(names: list[str], labels: torch.Tensor, predicted: torch.Tensor) -> dict | None:
    if len(names) > 1000:  # a million cells cannot be read
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
        notes.append(f"{len(empty)} classes have no images and are left out of the mean per class: {shown}.")
    if broken:
        row, reason = next(iter(broken.items()))
        notes.append(f"{len(broken)} images could not be read and do not count; the first is row {row}: {reason}")
    return notes
