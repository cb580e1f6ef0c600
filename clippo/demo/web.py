"""Web demo with Gradio: any checkpoint names pictures, searches a folder, shows what it reads, answers and writes.

Everything runs on this machine: no statistics are sent, and the page asks no other server for anything.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import HfArgumentParser

from clippo.demo.answers import SHOWN, Answers
from clippo.demo.spaces import write_space
from clippo.visualization.inputs import CHECKOUT, read_images

LABELS = "cat\nHund\nракета\n虹"
EXAMPLES = [["guitar"], ["Regenbogen"], ["ракета"], ["飛行機"], ["शेर"]]


def import_gradio() -> Any:
    """Gradio with its statistics turned off.

    Raises:
        ImportError: Gradio is missing.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    os.environ.setdefault("GRADIO_CHECK_VERSION", "False")
    try:
        import gradio
    except ImportError as error:
        raise ImportError("The web demo needs Gradio: pip install 'clippo[demo]'.") from error
    return gradio


def build_app(model: str | Path, images: dict[str, Image.Image]) -> Any:
    """Makes the page of a model.

    Args:
        model: Folder or hub name, see `Answers`.
        images: Images to search, by name.

    Returns:
        `gradio.Blocks`; its `launch()` serves the page.

    Raises:
        ImportError: Gradio is missing.
        FileNotFoundError: There is no such model.
        ValueError: The model has a head that the demo does not show.
    """
    gradio, answers = import_gradio(), Answers(model, images)
    with gradio.Blocks(analytics_enabled=False, title=f"CLIPPO: {Path(model).name}") as page:
        gradio.Markdown(f"# CLIPPO\nOne vision transformer reads images and text. Model: `{Path(model).name}`.")
        for title, tab in TABS[answers.head].items():
            with gradio.Tab(title):
                tab(gradio, answers)
    return page


def _tells(gradio: Any, function: Callable) -> Callable:
    """The function with its errors as messages of the page."""

    @wraps(function)
    def call(*arguments):
        try:
            return function(*arguments)
        except (OSError, TypeError, ValueError) as error:
            raise gradio.Error(str(error)) from error

    return call


def _name(gradio: Any, answers: Answers) -> None:
    with gradio.Row():
        image = gradio.Image(type="pil", label="Picture", elem_id="named")
        with gradio.Column():
            labels = gradio.Textbox(LABELS, lines=6, label="Labels, one a line", elem_id="labels")
            template = gradio.Textbox("{}", label="Template, {} is the label", elem_id="template")
            button = gradio.Button("Name it", variant="primary", elem_id="name")
        result = gradio.Label(num_top_classes=SHOWN, label="Names", elem_id="names")
    button.click(_tells(gradio, answers.names), [image, labels, template], result)


def _search(gradio: Any, answers: Answers) -> None:
    with gradio.Row():
        text = gradio.Textbox(label="Words in any language", elem_id="query")
        image = gradio.Image(type="pil", label="or a picture", height=160)
    button = gradio.Button("Search", variant="primary", elem_id="search")
    found = gradio.Gallery(label=f"The nearest of {len(answers.images)} pictures", columns=4, elem_id="found")
    for event in (button.click, text.submit):
        event(_tells(gradio, answers.search), [text, image], found)
    gradio.Examples(EXAMPLES, text)


def _read(gradio: Any, answers: Answers) -> None:
    text = gradio.Textbox("Text is drawn. Nothing is split into tokens.", label="Text", elem_id="read")
    canvas = gradio.Image(label="Canvas", interactive=False, elem_id="canvas")
    note = gradio.Markdown(elem_id="note")
    text.submit(_tells(gradio, answers.canvas), text, [canvas, note])
    gradio.Button("Draw", elem_id="draw").click(_tells(gradio, answers.canvas), text, [canvas, note])


def _heat(gradio: Any, answers: Answers) -> None:
    with gradio.Row():
        image = gradio.Image(type="pil", label="Picture", elem_id="seen")
        text = gradio.Textbox("cat", label="Text", elem_id="compared")
    button = gradio.Button("Show", variant="primary", elem_id="heat")
    button.click(
        _tells(gradio, answers.heat), [image, text], gradio.Image(label="Relevance of patches", elem_id="heatmap")
    )


def _question(gradio: Any, answers: Answers) -> None:
    with gradio.Row():
        image = gradio.Image(type="pil", label="Picture", elem_id="asked")
        with gradio.Column():
            text = gradio.Textbox(label="Question", elem_id="question")
            button = gradio.Button("Ask", variant="primary", elem_id="ask")
        result = gradio.Label(num_top_classes=SHOWN, label="Answers", elem_id="answers")
    canvas, note = gradio.Image(label="What the model reads", interactive=False), gradio.Markdown()
    button.click(_tells(gradio, answers.answer), [image, text], result)
    button.click(_tells(gradio, answers.canvas), [text, image], [canvas, note])


def _caption(gradio: Any, answers: Answers) -> None:
    with gradio.Row():
        image = gradio.Image(type="pil", label="Picture", elem_id="described")
        with gradio.Column():
            prompt = gradio.Textbox("caption en", label="Prompt, drawn", elem_id="prompt")
            button = gradio.Button("Write", variant="primary", elem_id="write")
        result = gradio.Textbox(label="Text", elem_id="written")
    button.click(_tells(gradio, answers.write), [image, prompt], result)


# Head of a checkpoint -> its tabs.
TABS = {
    "compares": {
        "Name a picture": _name,
        "Search": _search,
        "What the model reads": _read,
        "Where it looks": _heat,
    },
    "answers": {"Ask about a picture": _question},
    "writes": {"Describe a picture": _caption},
}


@dataclass
class WebDemoArguments:
    """Options of the web demo."""

    model: str = field(
        default=str(CHECKOUT / "checkpoints" / "clippo-emoji"), metadata={"help": "Folder or hub name of a checkpoint."}
    )
    image_dir: str = field(
        default=str(CHECKOUT / "docs" / "pictures"), metadata={"help": "Folder of images to search; '' for none."}
    )
    host: str = field(default="127.0.0.1", metadata={"help": "Address to listen on; 0.0.0.0 for other machines too."})
    port: int = field(default=7860, metadata={"help": "Port of the page."})
    space: str | None = field(
        default=None, metadata={"help": "Write a folder that runs as a Space, and serve nothing."}
    )


def serve(page: Any, host: str = "127.0.0.1", port: int = 7860, wait: bool = True) -> str:
    """Serves a page.

    Args:
        page: `gradio.Blocks`.
        host: Address to listen on.
        port: Port of the page.
        wait: Whether to return only after the server has stopped.

    Returns:
        Address of the page.
    """
    page.launch(
        server_name=host, server_port=port, share=False, ssr_mode=False, quiet=True, prevent_thread_lock=True,
        footer_links=[],
    )  # fmt: skip
    if wait:
        print(f"The demo runs at {page.local_url} (Control-C ends it).", flush=True)
        page.block_thread()
    return page.local_url


def main(argv: Sequence[str] | None = None) -> None:
    """Serves a web page on which a checkpoint is tried, or writes it as a Space.

    Raises:
        SystemExit: With one sentence, if a folder or a package is missing.
    """
    parser = HfArgumentParser(WebDemoArguments, description=main.__doc__.partition("\n")[0])
    (args,) = parser.parse_args_into_dataclasses(sys.argv[1:] if argv is None else argv)
    try:
        images = read_images(Path(args.image_dir)) if args.image_dir else {}
        if args.space:
            print(f"Wrote {write_space(args.model, args.image_dir or None, args.space)}: push it to a Space.")
            return
        serve(build_app(args.model, images), args.host, args.port)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
