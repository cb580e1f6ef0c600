"""Arguments of a training run, as dataclasses that `HfArgumentParser` reads from a command line and a recipe (YAML)."""

import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import yaml
from transformers import HfArgumentParser

from clippo.recipe_files import find_recipe
from clippo.training.processes import RunRefusedError

# Names of arguments that changed -> the names they have now.
RENAMED = {"model": "config_overrides"}
# Arguments that others replace -> the one in their place, and the text to write.
REPLACED = {"freeze_tower": ("tower_lr_scale", "tower_lr_scale: 0 to freeze the tower")}
# Arguments that became fields of a source -> the form of that source.
_EMOJI = "sources: [{kind: emoji, path: data/emoji, languages: [en, de], anchor: en, name_probability: 0.5}]"
_FILES = "sources: [{path: 'data/NAME/train*.parquet', image_column: image, caption_columns: captions}]"
MOVED = {
    **dict.fromkeys(("dataset", "data_dir"), f"{_EMOJI} or {_FILES}"),
    **dict.fromkeys(("languages", "name_probability", "anchor"), _EMOJI),
    **dict.fromkeys(("image_column", "caption_columns"), _FILES),
}


@dataclass
class ModelArguments:
    """Model to train: a new one of a preset, or one that exists.

    Example:
        >>> from clippo.training.arguments import ModelArguments
        >>> ModelArguments(preset="Ti/16", config_overrides='{"image_size": 80}').config_overrides
        {'image_size': 80}
    """

    preset: str = field(default="B/16", metadata={"help": "Size of a new model: Ti, S, B, L or H, '/', patch side."})
    # HfArgumentParser takes a mapping from YAML, and the same as JSON from the command line, as `dict | str | None`.
    config_overrides: dict | str | None = field(
        default=None, metadata={"help": "ClippoConfig fields that override the preset, as a JSON object."}
    )
    init_from: str | None = field(
        default=None,
        metadata={
            "help": "Folder or hub name of a CLIPPO to start from instead of a new model, or of an ImageNet ViT whose "
            "weights the new model's tower starts from."
        },
    )
    canvas_format: str = field(
        default="packed",
        metadata={"help": "Format of rendered text on its way to the model: packed (1 bit a pixel), uint8 or float."},
    )
    attn_implementation: str | None = field(
        default=None, metadata={"help": "Attention backend: eager, sdpa, flash_attention_2 or flex_attention."}
    )
    font: str | None = field(default=None, metadata={"help": "Font file(s) of a new model; default: packaged Unifont."})
    text_options: dict | str | None = field(
        default=None, metadata={"help": "Drawing options of a new model's tokenizer, as a JSON object."}
    )
    fit_projection: int = field(
        default=0,
        metadata={"help": "Texts to fit a new projection to given vectors on, before training; 0 leaves it out."},
    )
    train_only: str | None = field(
        default=None,
        metadata={"help": "Train only the parameters whose name has this regular expression in it; default: all."},
    )

    def __post_init__(self):
        self.config_overrides = from_json("config_overrides", self.config_overrides, dict) or {}
        self.text_options = from_json("text_options", self.text_options, dict) or {}


@dataclass
class DataArguments:
    """Training and validation data.

    Raises:
        ValueError: `sources` or `validation` is not JSON, or `randaugment` does not hold two numbers.

    Example:
        >>> from clippo.training.arguments import DataArguments
        >>> data = DataArguments(sources='[{"path": "data/flickr8k/train*.parquet", "caption_columns": "captions"}]')
        >>> data.sources[0]["caption_columns"]
        'captions'
    """

    sources: list | str | None = field(
        default=None, metadata={"help": "Sources to mix, a list of mappings; as JSON on the command line."}
    )
    validation: dict | str | None = field(default=None, metadata={"help": "Source to evaluate on, a mapping."})
    max_skipped: float = field(
        default=0.05,
        metadata={"help": "Largest share of unusable rows (broken image, no text) before the run stops."},
    )
    shuffle_buffer: int = field(
        default=1000, metadata={"help": "Streaming sources: number of rows among which the next one is drawn."}
    )
    flip: bool = field(default=False, metadata={"help": "Mirror every second image."})
    randaugment: list[int] | None = field(
        default=None, metadata={"help": "RandAugment of images: operations per image and magnitude, as '2 10'."}
    )
    random_crop: float | None = field(
        default=None, metadata={"help": "Random crops of images; the smallest share of the area that one keeps."}
    )
    augment_on_device: bool = field(
        default=False,
        metadata={
            "help": "Compute flips, crops and the views of emoji on the device of the model, not in the workers."
        },
    )
    texts_per_image: int = field(
        default=1, metadata={"help": "Texts per image in one step; the image is encoded once for all of them."}
    )

    def __post_init__(self):
        self.sources = from_json("sources", self.sources, list)
        self.validation = from_json("validation", self.validation, dict)
        if self.randaugment is not None and len(self.randaugment) != 2:
            raise ValueError(f"randaugment={self.randaugment} must be two numbers, operations and magnitude: 2 10.")


@dataclass
class StepArguments:
    """Computation of a step.

    Example:
        >>> from clippo.training.arguments import StepArguments
        >>> StepArguments(micro_batch_size=64)
        StepArguments(micro_batch_size=64, compile_blocks=False, caption_loss_weight=0.0)
    """

    micro_batch_size: int | None = field(
        default=None,
        metadata={"help": "Full canvases whose patches are encoded at a time (GradCache); default: all."},
    )
    compile_blocks: bool = field(
        default=False,
        metadata={"help": "Compile the blocks for sequences of any length (torch.compile); --torch_compile does too."},
    )
    caption_loss_weight: float = field(
        default=0.0,
        metadata={
            "help": "Weight of the loss of writing the captions, beside the contrastive loss (CoCa). It needs a "
            "decoder: num_decoder_layers in config_overrides."
        },
    )


@dataclass
class ResumeArguments:
    """Resumption of a stopped run.

    Example:
        >>> from clippo.training.arguments import ResumeArguments
        >>> ResumeArguments().resume_anyway
        False
    """

    resume_anyway: bool = field(
        default=False,
        metadata={"help": "Resume although data, settings or library versions differ from those of the checkpoint."},
    )


def from_json(name: str, value: Any, kind: type) -> Any:
    """Returns a structured argument: unchanged from YAML or Python, parsed when it is text from a command line.

    Args:
        name: Name of the argument in errors.
        value: The argument.
        kind: Its type, dict or list.

    Raises:
        ValueError: The text is not JSON, or the value is not of `kind`.
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"--{name} {value!r} is not JSON ({error}); quote it for the shell.") from error
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {type(value).__name__} {value!r}.")
    return value


def parse_recipe(dataclass_types: tuple[type, ...], arguments: Sequence[str]) -> tuple:
    """Reads `[recipe] [--field value ...]`; the command line wins over the recipe.

    Args:
        dataclass_types: The argument dataclasses.
        arguments: Command line without the program's name. A first argument without dashes is a recipe: a YAML or JSON
            file, or the name of a shipped one.

    Returns:
        One instance of each dataclass.

    Raises:
        FileNotFoundError: The recipe is neither a file nor a shipped recipe.
        ValueError: The recipe names a field that no dataclass has, or an argument has its old name.
    """
    parser, arguments = HfArgumentParser(dataclass_types), list(arguments)
    known = {f.name for kind in dataclass_types for f in fields(kind) if f.init}
    _refuse_old_flags(arguments, known)
    if "use_cpu" in known and not torch.accelerator.is_available():
        parser.set_defaults(use_cpu=True)  # TrainingArguments refuses bf16 on a machine without a GPU otherwise
    if arguments and not arguments[0].startswith("-"):
        path = find_recipe(arguments.pop(0))
        recipe = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        for name, value in recipe.items():
            _refuse_old_name(path, name, value, known)
        unknown = sorted(set(recipe) - known)
        if unknown:
            raise ValueError(f"{path} sets {', '.join(unknown)}, which is not an argument; see --help for the names.")
        # argparse converts defaults that are strings, such as 1e-3, which YAML 1.1 does not take for a number.
        parser.set_defaults(**recipe)
    return parser.parse_args_into_dataclasses(arguments)


def parse_command(dataclass_types: tuple[type, ...], argv: Sequence[str] | None, usage: str) -> tuple:
    """Reads the command line of a training command as `parse_recipe` does, and turns on logging.

    Args:
        dataclass_types: The argument dataclasses.
        argv: Command line without the program's name; default: `sys.argv[1:]`.
        usage: Text that is printed when the command line is empty.

    Raises:
        SystemExit: The command line is empty or wrong.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv:
        raise SystemExit(usage)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    try:
        return parse_recipe(dataclass_types, argv)
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


def run_command(
    run: Callable[..., Any],
    dataclass_types: tuple[type, ...],
    argv: Sequence[str] | None,
    usage: str,
    refusals: tuple[type[Exception], ...] = (),
) -> Any:
    """Runs a training command with the arguments of `parse_command`.

    Args:
        run: Function of one argument for each dataclass.
        dataclass_types: The argument dataclasses.
        argv: Command line without the program's name; default: `sys.argv[1:]`.
        usage: Text that is printed when the command line is empty.
        refusals: Errors that end the command with their sentence, beside missing files and refused runs.

    Returns:
        The result of `run`.

    Raises:
        SystemExit: The command line is empty or wrong, or `run` raised one of those errors.
    """
    arguments = parse_command(dataclass_types, argv, usage)
    try:
        return run(*arguments)
    except (FileNotFoundError, RunRefusedError, *refusals) as error:
        raise SystemExit(f"error: {error}") from error


def _refuse_old_flags(arguments: list[str], known: set[str]) -> None:
    for flag, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = flag.partition("=")
        if name.startswith("--"):
            _refuse_old_name("The command line", name[2:], value if equals else following, known)


def _refuse_old_name(where: Any, name: str, value: Any, known: set[str]) -> None:
    """Raises ValueError if `name` has its old meaning: no argument has it, or its value is a mapping."""
    is_mapping = isinstance(value, dict) or str(value).lstrip().startswith("{")
    if name in RENAMED and RENAMED[name] in known and (name not in known or is_mapping):
        raise ValueError(f"{where} sets {name}, which is now called {RENAMED[name]}; rename it.")
    if name in REPLACED and name not in known and REPLACED[name][0] in known:
        raise ValueError(f"{where} sets {name}, which {REPLACED[name][0]} replaces; write {REPLACED[name][1]}.")
    if name in MOVED and name not in known and "sources" in known:
        raise ValueError(f"{where} sets {name}, which is now a field of a source; write {MOVED[name]}.")
