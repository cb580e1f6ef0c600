"""Command line of the figures: one sub-command each."""

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoModelForVisualQuestionAnswering, AutoProcessor, HfArgumentParser

from clippo.evaluation.encoder import Encoder
from clippo.model_files import find_model
from clippo.processing import ClippoProcessor
from clippo.tasks.vqa.answers import is_right
from clippo.tasks.vqa.data import load_questions
from clippo.tasks.vqa.figures import draw_answers, draw_layouts
from clippo.visualization.heatmaps import METHODS, explain
from clippo.visualization.inputs import CHECKOUT, image_pixels, read_images
from clippo.visualization.matrix import draw_matrix
from clippo.visualization.neighbours import draw_neighbours
from clippo.visualization.text_table import align, bar


@dataclass
class FigureArguments:
    """Options that all figures share."""

    model: str = field(
        default=str(CHECKOUT / "checkpoints" / "clippo-emoji"), metadata={"help": "Folder or hub name of the model."}
    )
    output: str | None = field(default=None, metadata={"help": "Image file; default: the figure's name."})


@dataclass
class HeatmapArguments:
    """Options of the heat map."""

    image: str | None = field(default=None, metadata={"help": "One image file."})
    texts: list[str] | None = field(default=None, metadata={"help": "One text."})
    methods: list[str] = field(
        default_factory=lambda: list(METHODS), metadata={"help": "Methods: " + ", ".join(METHODS) + "."}
    )


@dataclass
class FolderArguments:
    """Options of figures over a folder of images. The files are named after what they show."""

    image_dir: str = field(
        default=str(CHECKOUT / "docs" / "pictures"), metadata={"help": "Folder of images.", "aliases": ["--pictures"]}
    )
    texts: list[str] | None = field(default=None, metadata={"help": "Texts; default: the names of the images."})
    count: int = field(default=8, metadata={"help": "matrix: number of pairs; neighbours: number a query."})


@dataclass
class LayoutArguments:
    """Options of the layouts of a question."""

    image: str | None = field(default=None, metadata={"help": "One image file."})
    texts: list[str] | None = field(default=None, metadata={"help": "One question."})
    image_size: int | None = field(default=None, metadata={"help": "Side of the canvas; default: the model's."})


@dataclass
class AnswerArguments:
    """Options of answered questions."""

    questions: str | None = field(
        default=None,
        metadata={"help": "Parquet file, hub name, or VQAv2's questions.json,annotations.json,image folder."},
    )
    count: int = field(default=8, metadata={"help": "Number of questions."})
    wrong: int = field(default=0, metadata={"help": "Number of them that the model answers wrong, if there are."})
    seed: int = field(default=0, metadata={"help": "Seed of the random choice of questions."})


def heatmap(model: Any, processor: Any, args: HeatmapArguments, output: str) -> None:
    """Draws the patches and prints the letters that matter, by attention roll-out and Grad-CAM."""
    _require_one("heatmap", args.image, args.texts)
    figure, found = explain(model, processor, args.image, args.texts[0], args.methods)
    figure.save(output)
    print(f"cosine {found.pop('cosine'):.3f}")
    for method, letters in found.items():
        print(f"\n{METHODS[method]}, relevance of the letters")
        print("\n".join(align([[letter, bar(value)] for letter, value in letters])))


def matrix(model: Any, processor: Any, args: FolderArguments, output: str) -> None:
    """Draws all cosines of images and their names."""
    images = dict(list(read_images(Path(args.image_dir)).items())[: args.count])
    texts = args.texts or [name.replace("_", " ") for name in images]
    if len(texts) != len(images):
        raise ValueError(f"matrix pairs texts and images by order: {len(texts)} texts, {len(images)} images.")
    cosines = _cosines(model, processor, texts, images)
    draw_matrix(cosines.numpy(), output, "Texts by images", texts if len(texts) <= 60 else None)


def neighbours(model: Any, processor: Any, args: FolderArguments, output: str) -> None:
    """Draws the nearest images of some texts."""
    images = read_images(Path(args.image_dir))
    texts = args.texts or [name.replace("_", " ") for name in list(images)[:6]]
    sheet = draw_neighbours(
        image_pixels(processor.tokenizer.render(texts, canvas_format="uint8").canvases),
        image_pixels(processor(images=list(images.values()), return_tensors="np")["pixel_values"]),
        _cosines(model, processor, texts, images).numpy(),
        args.count,
        [{i for i, name in enumerate(images) if name.replace("_", " ") == text} for text in texts],
    )
    sheet.save(output, optimize=True)


def layouts(model: Any, processor: Any, args: LayoutArguments, output: str) -> None:
    """Draws one question and one image in all layouts."""
    _require_one("layouts", args.image, args.texts)
    if args.image_size:
        processor = ClippoProcessor.from_size(args.image_size)
    draw_layouts(processor, args.image, args.texts[0]).save(output, optimize=True)


def answers(model: Any, processor: Any, args: AnswerArguments, output: str) -> None:
    """Draws questions, the answers of a model that `clippo finetune vqa` trained, and its attention."""
    if not args.questions:
        raise ValueError("answers needs --questions: a parquet file, a hub name, or VQAv2's files.")
    if not 0 <= args.wrong <= args.count:
        raise ValueError(f"--wrong {args.wrong} must lie between 0 and --count {args.count}.")
    canvases, people = _answered(model, processor, args)
    if not canvases:
        raise ValueError(
            f"No question of {args.questions} is answered as asked for (--count {args.count}, --wrong {args.wrong}): "
            f"nothing to draw."
        )
    draw_answers(model, torch.stack(canvases), people).save(output, optimize=True)


def _answered(model: Any, processor: Any, args: AnswerArguments) -> tuple[list[torch.Tensor], list[list[str]]]:
    """Returns canvases and human answers of random questions, with the wanted numbers of right and wrong answers."""
    questions = load_questions(args.questions)
    order = random.Random(args.seed).sample(range(len(questions)), len(questions))
    wanted = {True: args.count - args.wrong, False: args.wrong}
    canvases, people = [], []
    for start in range(0, len(order), 250):
        items = questions.__getitems__(order[start : start + 250])
        inputs = processor(
            images=[item["image"] for item in items],
            questions=[item["question"] for item in items],
            canvas_format="uint8",
            return_tensors="pt",
        )
        with torch.no_grad():
            best = model(**inputs).logits.argmax(-1).tolist()
        for canvas, item, answer in zip(inputs["pixel_values"], items, best, strict=True):
            right = is_right(model.config.id2label[answer], item["answers"])
            if wanted[right]:
                wanted[right] -= 1
                canvases.append(canvas)
                people.append(item["answers"])
        if not any(wanted.values()):
            break
    return canvases, people


def _require_one(figure: str, image: str | None, texts: list[str] | None) -> None:
    if not image or not texts or len(texts) != 1:
        raise ValueError(f"{figure} needs one --image and one text in --texts.")


def _cosines(model: Any, processor: Any, texts: list[str], images: dict[str, Any]) -> torch.Tensor:
    """Returns cosines, texts by images."""
    encoder = Encoder(model, processor)
    return encoder.texts(texts) @ encoder.images(images.values()).require_all().T


FIGURES = {
    "heatmap": (heatmap, HeatmapArguments),
    "matrix": (matrix, FolderArguments),
    "neighbours": (neighbours, FolderArguments),
    "layouts": (layouts, LayoutArguments),
    "answers": (answers, AnswerArguments),
}
USAGE = "\n".join(
    [
        "usage: clippo visualize FIGURE [--field value ...]",
        "",
        "figures:",
        *(f"  {name:<12}{draw.__doc__}" for name, (draw, _) in FIGURES.items()),
        "",
        "`clippo visualize FIGURE --help` lists the options of a figure.",
    ]
)


def main(argv: Sequence[str] | None = None) -> None:
    """Draws the figure that the command line names.

    Raises:
        SystemExit: With one sentence, for arguments and data that cannot be used.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE)
        raise SystemExit(0)
    name, *rest = argv
    if name not in FIGURES:
        raise SystemExit(f"error: {name!r} is not a figure\n\n{USAGE}")
    draw, kind = FIGURES[name]
    parser = HfArgumentParser((FigureArguments, kind), prog=f"clippo visualize {name}", description=draw.__doc__)
    common, args = parser.parse_args_into_dataclasses(rest)
    output = common.output or f"{name}.png"
    try:
        auto = AutoModelForVisualQuestionAnswering if name == "answers" else AutoModel
        model = auto.from_pretrained(find_model(common.model), dtype="float32").eval()
        draw(model, AutoProcessor.from_pretrained(common.model), args, output)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"Wrote {output}")
