"""The demo: one checkpoint classifies and finds pictures by texts in many languages, and shows what it looked at."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, pipeline

from clippo.evaluation.embeddings import embed_images, embed_texts
from clippo.evaluation.retrieval import ranks
from clippo.visualization.inputs import image_pixels
from clippo.visualization.sheet import draw_sheet
from clippo.visualization.text_table import align, bar

ON_SHEET = 8  # pictures and texts that one sheet has room for
CLASSIFIED = 4  # of these pictures, how many the zero-shot part prints


@dataclass(frozen=True)
class Query:
    """A text to find a picture by.

    Args:
        text: the text itself.
        language: English name of its language, if known.
        picture: file stem of the picture that it names, if known.
        held_out: the picture was never trained on with a text in this language.
    """

    text: str
    language: str = ""
    picture: str | None = None
    held_out: bool = False

    @property
    def kind(self) -> str:
        if self.picture is None:
            return ""
        return "held out" if self.held_out else "trained"


def read_pictures(folder: Path) -> dict[str, Image.Image]:
    """File stem -> picture, by name.

    Raises:
        FileNotFoundError: the folder, or a picture in it, is missing.
    """
    known = Image.registered_extensions()
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in known)
    if not files:
        raise FileNotFoundError(f"no pictures in {folder}: give a folder with files such as .png, .jpg or .webp")
    return {path.stem: Image.open(path) for path in files}


def read_queries(folder: Path) -> list[Query]:
    """The queries that scripts/build_demo_pictures.py wrote beside its pictures.

    Raises:
        FileNotFoundError: there are none.
    """
    file = folder / "queries.json"
    if not file.is_file():
        raise FileNotFoundError(f"no queries.json in {folder}: make it with scripts/build_demo_pictures.py")
    return [Query(**query) for query in json.loads(file.read_text(encoding="utf-8"))]


def run_demo(model_folder: str, pictures: dict[str, Image.Image], queries: list[Query]) -> Image.Image:
    """Prints zero-shot probabilities and retrieval; returns the sheet of `clippo.visualization.sheet`.

    The first `ON_SHEET` queries are the labels of the zero-shot part and the rows of the sheet. Their own pictures are
    its columns, or the first pictures where it is not known which belong to them.

    Args:
        model_folder: a saved `ClippoModel` with its processor.
        pictures: name -> picture; the names are printed.
        queries: at least one; a query's `picture` is a name in `pictures`.

    Raises:
        FileNotFoundError: there is no checkpoint in `model_folder`.
        ValueError: a query's picture is not there.
    """
    if not (Path(model_folder) / "config.json").is_file():
        raise FileNotFoundError(
            f"no checkpoint in {model_folder}: give another folder, or train one (recipes/emoji.yaml)"
        )
    missing = sorted({query.picture for query in queries if query.picture} - set(pictures))
    if missing:
        raise ValueError(f"queries name pictures that are not there: {', '.join(missing)}")
    classify = pipeline("zero-shot-image-classification", model=str(model_folder), dtype=torch.float32)
    model, processor = classify.model, AutoProcessor.from_pretrained(model_folder)

    labels = queries[:ON_SHEET]
    columns = list(dict.fromkeys(label.picture for label in labels if label.picture)) or list(pictures)[:ON_SHEET]
    print_zero_shot(classify, {name: pictures[name] for name in columns[:CLASSIFIED]}, labels)

    texts = embed_texts(model, processor, [query.text for query in queries])  # (Q, E)
    images = embed_images(model, processor, list(pictures.values()))  # (P, E)
    print_retrieval(texts, images, list(pictures), queries)

    place = [list(pictures).index(name) for name in columns]
    return draw_sheet(
        image_pixels(processor(images=[pictures[name] for name in columns], return_tensors="np")["pixel_values"]),
        image_pixels(processor.tokenizer.render([label.text for label in labels], canvas_format="uint8").canvases),
        (texts[: len(labels)] @ images[place].T).numpy(),
        scale=model.logit_scale.exp().item(),
        title="One vision transformer reads pictures and text",
        notes=[(label.language, label.kind) for label in labels] if any(label.language for label in labels) else (),
        right={(row, columns.index(label.picture)) for row, label in enumerate(labels) if label.picture},
        patch_size=model.config.patch_size,
        blank=processor.tokenizer.background if model.config.skip_blank_patches else None,
    )


def print_zero_shot(classify, pictures: dict[str, Image.Image], labels: list[Query]) -> None:
    """The three likeliest labels of every picture, by transformers' pipeline."""
    print(f'\nZero-shot classification with pipeline("zero-shot-image-classification"), {len(labels)} labels\n')
    by_text = {label.text: label for label in labels}
    rows = []
    for name, picture in pictures.items():
        answers = classify(picture, candidate_labels=list(by_text), hypothesis_template="{}")
        for place, answer in enumerate(answers[:3]):
            label, score = by_text[answer["label"]], answer["score"]
            right = "<- right" if label.picture == name else ""
            rows.append(
                ["" if place else name, f"{score:6.1%}", bar(score), label.text, label.language, label.kind, right]
            )
        rows.append([""] * 7)
    print("\n".join(align(rows)))


def print_retrieval(texts: torch.Tensor, images: torch.Tensor, names: list[str], queries: list[Query]) -> None:
    """The nearest five pictures of every query, and how often the right one was found, beside chance.

    Args:
        texts: (Q, E) unit vectors, one a query.
        images: (P, E) unit vectors, one a name.
    """
    shown = min(5, len(names))
    brackets = ", the right one in brackets" if any(query.picture for query in queries) else ""
    print(f"Retrieval: the {shown} nearest of {len(names)} pictures{brackets}\n")
    rows = []
    for query, nearest in zip(queries, (texts @ images.T).topk(shown).indices.tolist(), strict=True):
        found = [f"[{names[i]}]" if names[i] == query.picture else names[i] for i in nearest]
        rows.append([query.language, query.kind, query.text, "  ".join(found)])
    print("\n".join(align(rows)), end="\n\n")
    for kind in ("trained", "held out"):
        chosen = [i for i, query in enumerate(queries) if query.kind == kind]
        if not chosen:
            continue
        place = ranks(texts[chosen], images, torch.tensor([names.index(queries[i].picture) for i in chosen]))
        print(
            f"  {kind}: right picture first for {int((place < 1).sum())} of {len(chosen)} texts, among the first "
            f"{shown} for {int((place < shown).sum())}; by chance {len(chosen) / len(names):.1f} and "
            f"{shown * len(chosen) / len(names):.1f}"
        )
    if any(query.held_out for query in queries):
        print("  held out: the picture was never trained on with any text in that language")
