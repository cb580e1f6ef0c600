"""Look at what a model does: `python scripts/visualize.py heatmap|matrix|neighbours|layouts|answers --help`.

heatmap: which patches and which letters matter, by roll-out and Grad-CAM. matrix: all cosines of pictures and their
names. neighbours: the nearest pictures of some texts. Pictures are files of a folder, named after what they show.
layouts: one question in one picture, in all layouts. answers: questions with the answers of a model that
finetune_vqa.py trained, and where it looked.
"""

import random
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoModel, AutoModelForVisualQuestionAnswering, AutoProcessor, HfArgumentParser

from clippo import ClippoProcessor
from clippo.demo.terminal import read_pictures
from clippo.evaluation.embeddings import embed_images, embed_texts
from clippo.tasks.vqa.answers import is_right
from clippo.tasks.vqa.data import load_questions
from clippo.tasks.vqa.figures import draw_answers, draw_layouts
from clippo.visualization.heatmaps import METHODS, explain
from clippo.visualization.inputs import image_pixels
from clippo.visualization.matrix import draw_matrix
from clippo.visualization.neighbours import draw_neighbours
from clippo.visualization.text_table import align, bar

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Arguments:
    model: str = field(default=str(ROOT / "checkpoints" / "clippo-emoji"), metadata={"help": "Folder or hub name."})
    output: str | None = field(default=None, metadata={"help": "Image file; default: the command's name."})
    pictures: str = field(default=str(ROOT / "docs" / "pictures"), metadata={"help": "Folder of pictures."})
    texts: list[str] | None = field(default=None, metadata={"help": "Texts; default: the names of the pictures."})
    image: str | None = field(default=None, metadata={"help": "heatmap, layouts: one picture file."})
    questions: str | None = field(
        default=None,
        metadata={"help": "answers: parquet file, hub name, or VQAv2's questions.json,annotations.json,image folder."},
    )
    seed: int = field(default=0, metadata={"help": "answers: which questions are drawn."})
    wrong: int = field(default=0, metadata={"help": "answers: how many of them are to be wrong, as far as there are."})
    image_size: int | None = field(default=None, metadata={"help": "layouts: side of the canvas; default the model's."})
    methods: list[str] = field(
        default_factory=lambda: list(METHODS), metadata={"help": "heatmap: " + ", ".join(METHODS)}
    )
    count: int = field(
        default=8, metadata={"help": "neighbours: how many a query; matrix: of how many pairs; answers: how many."}
    )


def heatmap(model, processor, args: Arguments) -> None:
    if not args.image or not args.texts or len(args.texts) != 1:
        raise ValueError("heatmap looks at one --image and one text in --texts.")
    picture, found = explain(model, processor, args.image, args.texts[0], args.methods)
    picture.save(args.output)
    print(f"cosine {found.pop('cosine'):.3f}")
    for method, letters in found.items():
        print(f"\n{METHODS[method]}, relevance of the letters")
        print("\n".join(align([[letter, bar(value)] for letter, value in letters])))


def matrix(model, processor, args: Arguments) -> None:
    pictures = dict(list(read_pictures(Path(args.pictures)).items())[: args.count])
    texts = args.texts or [name.replace("_", " ") for name in pictures]
    if len(texts) != len(pictures):
        raise ValueError(f"matrix pairs texts and pictures by order: {len(texts)} texts, {len(pictures)} pictures.")
    cosines = embed_texts(model, processor, texts) @ embed_images(model, processor, list(pictures.values())).T
    draw_matrix(cosines.numpy(), args.output, "Texts by pictures", texts if len(texts) <= 60 else None)


def neighbours(model, processor, args: Arguments) -> None:
    pictures = read_pictures(Path(args.pictures))
    texts = args.texts or [name.replace("_", " ") for name in list(pictures)[:6]]
    images = list(pictures.values())
    cosines = embed_texts(model, processor, texts) @ embed_images(model, processor, images).T
    sheet = draw_neighbours(
        image_pixels(processor.tokenizer.render(texts, canvas_format="uint8").canvases),
        image_pixels(processor(images=images, return_tensors="np")["pixel_values"]),
        cosines.numpy(),
        args.count,
        [{i for i, name in enumerate(pictures) if name.replace("_", " ") == text} for text in texts],
    )
    sheet.save(args.output, optimize=True)


def layouts(model, processor, args: Arguments) -> None:
    if not args.image or not args.texts or len(args.texts) != 1:
        raise ValueError("layouts draws one question, in --texts, and one --image.")
    if args.image_size:
        processor = ClippoProcessor.from_size(args.image_size)
    draw_layouts(processor, args.image, args.texts[0]).save(args.output, optimize=True)


def answers(model, processor, args: Arguments) -> None:
    if not args.questions:
        raise ValueError("answers needs --questions: a parquet file, a hub name, or VQAv2's files.")
    if not 0 <= args.wrong <= args.count:
        raise ValueError(f"--wrong {args.wrong} of --count {args.count} answers cannot be.")
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
    if not canvases:
        raise ValueError(
            f"No question of {args.questions} is answered as asked for (--count {args.count}, --wrong {args.wrong}): "
            f"nothing to draw."
        )
    draw_answers(model, torch.stack(canvases), people).save(args.output, optimize=True)


COMMANDS = {"heatmap": heatmap, "matrix": matrix, "neighbours": neighbours, "layouts": layouts, "answers": answers}


def main() -> None:
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command not in COMMANDS:
        raise SystemExit(__doc__)
    (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses(sys.argv[2:])
    args.output = args.output or f"{command}.png"
    try:
        auto = AutoModelForVisualQuestionAnswering if command == "answers" else AutoModel
        model = auto.from_pretrained(args.model, dtype="float32").eval()
        COMMANDS[command](model, AutoProcessor.from_pretrained(args.model), args)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    print(f"Wrote {args.output}")


if __name__ == "__main__":
    main()
