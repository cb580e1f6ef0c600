"""The console command `clippo`: one table of sub-commands, each imported when it is called.

clippo pretrain emoji --output_dir runs/emoji
python -m clippo evaluate retrieval --help          # the same from a checkout that is not installed
"""

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

import clippo


class Command(NamedTuple):
    """One sub-command: the function that runs it, as "module:function", and its line in `clippo --help`."""

    function: str
    summary: str


COMMANDS = {
    "pretrain": Command("clippo.training.pretraining:main", "Train a model on image-text pairs or text pairs."),
    "finetune glue": Command("clippo.tasks.glue.finetune:main", "Fine-tune and evaluate a model on GLUE."),
    "finetune vqa": Command("clippo.tasks.vqa.finetune:main", "Fine-tune a model on questions about images."),
    "finetune generate": Command(
        "clippo.tasks.generation.finetune:main", "Fine-tune a model that writes captions, answers and read texts."
    ),
    "finetune pairs": Command("clippo.tasks.pairs.finetune:main", "Fine-tune on own pairs, and keep the old tasks."),
    "evaluate": Command("clippo.evaluation.command:main", "Evaluate a model: zero-shot, retrieval, probes, sentences."),
    "evaluate emoji": Command("clippo.emoji.evaluation:main", "Measure an emoji search by script and by split."),
    "evaluate pictograms": Command(
        "clippo.pictograms.evaluation:main", "Measure a search for pictograms beside keyword search."
    ),
    "embed": Command("clippo.evaluation.embed:main", "Write the vectors of a data set by any model."),
    "evaluate glue": Command("clippo.tasks.glue.frozen:main", "Score linear models on frozen vectors on GLUE."),
    "search": Command("clippo.search.command:main", "Search embedded images or texts by texts and pictures."),
    "visualize": Command("clippo.visualization.command:main", "Draw heat maps, cosine matrices and neighbours."),
    "demo sentences": Command("clippo.demo.sentences:main", "Search sentences by meaning, in many languages."),
    "demo web": Command("clippo.demo.web:main", "Try a checkpoint on a web page, or write it as a Space (Gradio)."),
    "demo": Command("clippo.demo.terminal:main", "Search images by texts in many languages."),
    "demo pictograms": Command("clippo.pictograms.demo:main", "Search icons and emoji by words in twenty languages."),
    "plan": Command("clippo.training.planning:main", "Estimate memory and days of a training run."),
    "plot": Command("clippo.visualization.curves:main", "Plot the curves of training runs."),
    "convert": Command("clippo.conversion.command:main_convert", "Convert official checkpoints to folders and back."),
    "export": Command("clippo.conversion.command:main_export", "Prepare a trained folder for publication."),
    "export onnx": Command("clippo.integrations.onnx_command:main", "Write ONNX graphs: fp32, fp16, int8."),
    "prepare": Command("clippo.data.prepare:main", "Write a data set of the recipes to data/NAME."),
    "build sentences": Command("clippo.data.reading_corpus:main", "Build the texts that a reader learns from."),
    "build pictograms": Command("clippo.pictograms.command:main", "Build the pictogram data set of icons and emoji."),
    "build web": Command("clippo.web.command:main", "Write the page that runs a model in the browser."),
    "build pictogram_gallery": Command(
        "clippo.pictograms.command:main_gallery", "Write the sheet of pictograms that the demo searches."
    ),
    "build": Command("clippo.emoji.command:main", "Build the emoji data set, the demo gallery or phrases."),
}


def overview(names: Sequence[str] = tuple(COMMANDS)) -> str:
    """Text of `clippo --help`, or of `clippo finetune --help` with the names of that group."""
    width = max(map(len, names)) + 2
    commands = [f"  {name:<{width}}{COMMANDS[name].summary}" for name in names]
    return "\n".join(
        [
            "usage: clippo [--help] [--version] COMMAND ...",
            "",
            "CLIPPO for Hugging Face transformers: one Vision Transformer embeds images and rendered text.",
            "",
            "commands:",
            *commands,
            "",
            "`clippo COMMAND --help` lists the options of a command.",
        ]
    )


def find_command(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Split a command line into the name of a sub-command and the rest.

    Args:
        arguments: Command line without the program's name.

    Returns:
        A key of `COMMANDS`, of one or two words, and the arguments after it.

    Raises:
        SystemExit: No sub-command has that name. The message suggests the nearest one.
    """
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in COMMANDS:
            return name, list(arguments[words:])
    group = _group(arguments[0])
    typed = " ".join(arguments[: 2 if group else 1])
    nearest = group or difflib.get_close_matches(typed, _first_words(), n=1) or _first_words()
    raise SystemExit(f"error: clippo has no command {typed!r}; choose from: {', '.join(nearest)} (clippo --help).")


def _group(word: str) -> list[str]:
    """Names of the sub-commands of two words that begin with `word`, if it is not a sub-command itself."""
    return [name for name in COMMANDS if name.startswith(f"{word} ") and word not in COMMANDS]


def _first_words() -> list[str]:
    return list(dict.fromkeys(name.split()[0] for name in COMMANDS))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the sub-command that `argv` names.

    Args:
        argv: Command line without the program's name; default: `sys.argv[1:]`.

    Raises:
        SystemExit: The name is unknown, or the sub-command ends this way.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(overview())
    elif arguments[0] == "--version":
        print(f"clippo {clippo.__version__}")
    elif _group(arguments[0]) and arguments[1:] in ([], ["-h"], ["--help"]):
        print(overview(_group(arguments[0])))
    else:
        name, rest = find_command(arguments)
        module, function = COMMANDS[name].function.split(":")
        run = getattr(importlib.import_module(module), function)
        program, sys.argv[0] = sys.argv[0], f"clippo {name}"  # argparse prints it in usage lines
        try:
            run(rest)
        finally:
            sys.argv[0] = program


if __name__ == "__main__":
    main()
