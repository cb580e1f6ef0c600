"""Terminal demo: one checkpoint classifies images and finds them by texts in many languages."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, HfArgumentParser, pipeline
from transformers.utils import logging

from clippo.evaluation.encoder import Encoder
from clippo.evaluation.retrieval import ranks
from clippo.model_files import find_model
from clippo.visualization.inputs import CHECKOUT, image_pixels, read_images
from clippo.visualization.sheet import draw_sheet
from clippo.visualization.text_table import align, bar

ON_SHEET = 8  # images and texts that fit on one sheet
CLASSIFIED = 4  # number of these images that the zero-shot part prints


@dataclass(frozen=True)
class Query:
    """Text that searches for an image.

    Args:
        text: The text.
        language: English name of its language, if known.
        picture: File stem of the image that it names, if known.
        held_out: Whether no text in this language was trained on with the image.

    Example:
        >>> Query("猫", "Japanese", "cat", held_out=True).kind
        'held out'
    """

    text: str
    language: str = ""
    picture: str | None = None
    held_out: bool = False

    @property
    def kind(self) -> str:
        """Word for the table: "trained", "held out", or empty if the image is not known."""
        if self.picture is None:
            return ""
        return "held out" if self.held_out else "trained"


def read_queries(folder: Path) -> list[Query]:
    """Reads the queries that `scripts/build_demo_pictures.py` wrote beside its images.

    Raises:
        FileNotFoundError: The file is missing.
    """
    file = folder / "queries.json"
    if not file.is_file():
        raise FileNotFoundError(f"no queries.json in {folder}: make it with scripts/build_demo_pictures.py")
    return [Query(**query) for query in json.loads(file.read_text(encoding="utf-8-sig"))]


def run_demo(model_folder: str, images: dict[str, Image.Image], queries: list[Query]) -> Image.Image:
    """Prints zero-shot probabilities and retrieval, and returns the sheet of `clippo.visualization.sheet`.

    The first `ON_SHEET` queries are the labels of the zero-shot part and the rows of the sheet. Their images are its
    columns. If the images of the queries are not known, the first images are.

    Args:
        model_folder: Folder of a saved `ClippoModel` with its processor.
        images: Images by name. The names are printed.
        queries: At least one query. Its `picture` is a name in `images`.

    Raises:
        FileNotFoundError: The folder holds no checkpoint.
        ValueError: The image of a query is missing.
    """
    find_model(model_folder)
    missing = sorted({query.picture for query in queries if query.picture} - set(images))
    if missing:
        raise ValueError(f"queries name images that are missing: {', '.join(missing)}")
    classify = pipeline("zero-shot-image-classification", model=str(model_folder), dtype=torch.float32)
    model, processor = classify.model, AutoProcessor.from_pretrained(model_folder)

    labels = queries[:ON_SHEET]
    columns = list(dict.fromkeys(label.picture for label in labels if label.picture)) or list(images)[:ON_SHEET]
    # Before any output, because the encoder checks that the weights give finite embeddings.
    encoder = Encoder(model, processor)
    texts = encoder.texts([query.text for query in queries])  # (Q, E)
    vectors = encoder.images(images.values()).require_all()  # (P, E)
    print_zero_shot(classify, {name: images[name] for name in columns[:CLASSIFIED]}, labels)
    print_retrieval(texts, vectors, list(images), queries)

    place = [list(images).index(name) for name in columns]
    return draw_sheet(
        image_pixels(processor(images=[images[name] for name in columns], return_tensors="np")["pixel_values"]),
        image_pixels(processor.tokenizer.render([label.text for label in labels], canvas_format="uint8").canvases),
        (texts[: len(labels)] @ vectors[place].T).numpy(),
        scale=model.logit_scale.exp().item(),
        title="One vision transformer reads images and text",
        notes=[(label.language, label.kind) for label in labels] if any(label.language for label in labels) else (),
        right={(row, columns.index(label.picture)) for row, label in enumerate(labels) if label.picture},
        patch_size=model.config.patch_size,
        blank=processor.tokenizer.background if model.config.skip_blank_patches else None,
    )


def print_zero_shot(classify, images: dict[str, Image.Image], labels: list[Query]) -> None:
    """Prints the three most probable labels of every image, by the pipeline of transformers."""
    print(f'\nZero-shot classification with pipeline("zero-shot-image-classification"), {len(labels)} labels\n')
    by_text = {label.text: label for label in labels}
    rows = []
    for name, image in images.items():
        answers = classify(image, candidate_labels=list(by_text), hypothesis_template="{}")
        for place, answer in enumerate(answers[:3]):
            label, score = by_text[answer["label"]], answer["score"]
            right = "<- right" if label.picture == name else ""
            rows.append(
                ["" if place else name, f"{score:6.1%}", bar(score), label.text, label.language, label.kind, right]
            )
        rows.append([""] * 7)
    print("\n".join(align(rows)))


def print_retrieval(texts: torch.Tensor, images: torch.Tensor, names: list[str], queries: list[Query]) -> None:
    """Prints the five nearest images of every query, and the number of right ones beside chance.

    Args:
        texts: (Q, E) unit vectors, one a query.
        images: (P, E) unit vectors, one a name.
        names: P names of the images.
        queries: Q queries.
    """
    shown = min(5, len(names))
    brackets = ", the right one in brackets" if any(query.picture for query in queries) else ""
    print(f"Retrieval: the {shown} nearest of {len(names)} images{brackets}\n")
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
            f"  {kind}: right image first for {int((place < 1).sum())} of {len(chosen)} texts, among the first "
            f"{shown} for {int((place < shown).sum())}; by chance {len(chosen) / len(names):.1f} and "
            f"{shown * len(chosen) / len(names):.1f}"
        )
    if any(query.held_out for query in queries):
        print("  held out: no text in that language was trained on with the image")


@dataclass
class DemoArguments:
    """Options of the demo."""

    model: str = field(
        default=str(CHECKOUT / "checkpoints" / "clippo-emoji"), metadata={"help": "Folder of a checkpoint."}
    )
    output: str = field(default="demo.png", metadata={"help": "Image file to write."})
    image_dir: str | None = field(
        default=None, metadata={"help": "Folder of your own images.", "aliases": ["--pictures"]}
    )
    labels: list[str] | None = field(default=None, metadata={"help": "Your own texts."})


def main(argv: Sequence[str] | None = None) -> None:
    """Shows zero-shot classification and retrieval in many languages, and draws both.

    Raises:
        SystemExit: With one sentence, if a folder or file is missing.
    """
    (args,) = HfArgumentParser(DemoArguments, description=main.__doc__.partition("\n")[0]).parse_args_into_dataclasses(
        argv
    )
    sys.stdout.reconfigure(errors="replace")  # a terminal without Unicode still shows the numbers
    logging.disable_progress_bar()
    own = CHECKOUT / "docs" / "pictures"
    try:
        if args.labels:
            queries = [Query(text) for text in dict.fromkeys(args.labels)]
        else:
            queries = read_queries(own)
            if args.image_dir:  # the right answers are known only for the images of the repository
                queries = [Query(query.text, query.language) for query in queries]
        sheet = run_demo(args.model, read_images(Path(args.image_dir or own)), queries)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    sheet.save(args.output, optimize=True)
    print(f"\nWrote {args.output}: the canvases that the model reads, and their scores.")
