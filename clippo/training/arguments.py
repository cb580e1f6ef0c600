"""Arguments of a training run, as dataclasses that `HfArgumentParser` reads from a command line and a recipe (YAML)."""

import json
from dataclasses import dataclass, field, fields
from typing import Any

import yaml
from transformers import HfArgumentParser

from clippo.recipe_files import find_recipe

# Names of arguments that were changed -> the names they have now.
RENAMED = {"model": "config_overrides"}
# Arguments that became fields of a source.
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

    def __post_init__(self):
        self.config_overrides = from_json("config_overrides", self.config_overrides, dict) or {}


@dataclass
class DataArguments:
    """Data of a pretraining run: sources, their validation and augmentation."""

    sources: list | str | None = field(
        default=None, metadata={"help": "Sources to mix, a list of mappings; the data guide has their fields."}
    )
    validation: dict | str | None = field(default=None, metadata={"help": "Source to evaluate on, a mapping."})
    max_skipped: float = field(
        default=0.05,
        metadata={"help": "Largest share of unusable rows (broken image, no text) before the run stops."},
    )
    shuffle_buffer: int = field(default=1000, metadata={"help": "Rows of a stream among which the next one is drawn."})
    flip: bool = field(default=False, metadata={"help": "Mirror half of the photographs."})
    randaugment: list[int] | None = field(
        default=None, metadata={"help": "RandAugment of photographs: operations an image and magnitude, as '2 10'."}
    )
    texts_per_image: int = field(
        default=1, metadata={"help": "Texts for each image in one step; the image is encoded once for all of them."}
    )

    def __post_init__(self):
        self.sources = from_json("sources", self.sources, list)
        self.validation = from_json("validation", self.validation, dict)
        if self.randaugment is not None and len(self.randaugment) != 2:
            raise ValueError(f"randaugment={self.randaugment} must be two numbers, operations and magnitude: 2 10.")


@dataclass
class StepArguments:
    """How a step is computed."""

    micro_batch_size: int | None = field(
        default=None,
        metadata={"help": "Encode that many pictures at a time (GradCache): the batch may be larger than memory."},
    )


def from_json(name: str, value: Any, kind: type) -> Any:
    """A structured argument: as it is when it came from YAML or Python, parsed when it is text from a command line.

    Raises:
        ValueError: The text is no JSON, or not of `kind` (dict or list).
    """
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise ValueError(f"--{name} {value!r} is no JSON ({error}); quote it for the shell.") from error
    if value is not None and not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}, got {type(value).__name__} {value!r}.")
    return value


def parse_recipe(dataclass_types: tuple[type, ...], arguments: list[str]) -> tuple:
    """Read `[recipe] [--field value ...]`; the command line wins over the file.

    Args:
        dataclass_types: The argument dataclasses.
        arguments: Command line without the program's name. A first argument without dashes is a recipe: a file, or the
            name of a shipped recipe such as `emoji`.

    Returns:
        One instance of each dataclass.

    Raises:
        ValueError: The recipe names a field that no dataclass has.
        FileNotFoundError: There is no such recipe.
    """
    parser = HfArgumentParser(dataclass_types)
    known = {f.name for kind in dataclass_types for f in fields(kind) if f.init}
    _refuse_old_flags(arguments, known)
    if arguments and not arguments[0].startswith("-"):
        path, arguments = find_recipe(arguments[0]), arguments[1:]
        with open(path, encoding="utf-8") as file:
            recipe = yaml.safe_load(file) or {}
        for name, value in recipe.items():
            _refuse_old_name(path, name, value, known)
        unknown = sorted(set(recipe) - known)
        if unknown:
            raise ValueError(
                f"{path} sets {', '.join(unknown)}, which no argument is called; see --help for the names."
            )
        # argparse converts defaults that are strings, such as 1e-3, which YAML 1.1 does not take for a number.
        parser.set_defaults(**recipe)
    return parser.parse_args_into_dataclasses(arguments)


def _refuse_old_flags(arguments: list[str], known: set[str]) -> None:
    for flag, following in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, value = flag.partition("=")
        if name.startswith("--"):
            _refuse_old_name("The command line", name[2:], value if equals else following, known)


def _refuse_old_name(where: str, name: str, value: Any, known: set[str]) -> None:
    """Raises ValueError if `name` has its old meaning: no argument has it, or its value is a mapping."""
    is_mapping = isinstance(value, dict) or str(value).lstrip().startswith("{")
    if name in RENAMED and RENAMED[name] in known and (name not in known or is_mapping):
        raise ValueError(f"{where} sets {name}, which is now called {RENAMED[name]}; rename it.")
    if name in MOVED and name not in known and "sources" in known:
        raise ValueError(f"{where} sets {name}, which is now a field of a source; write {MOVED[name]}.")
