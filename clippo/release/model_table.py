"""The table of the shipped models, made from their folders: size from the weights, the rest from the model cards.

A card's front matter has `license`, `training_data` (one line) and the hub's `model-index` with the measured numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard
from safetensors import safe_open

BEGIN, END = "<!-- models: written by `make table` -->", "<!-- end of models -->"
HEAD = ["| model | parameters | MB | trained on | measured, in % | licence |", "|---|--:|--:|---|---|---|"]


@dataclass(frozen=True)
class ModelRow:
    """One model of the table.

    Args:
        folder: Folder of the model.
        parameters: Numbers in the weights.
        megabytes: Size of all files.
        data: Training data in one line.
        numbers: Measured numbers, such as "R@1 87.0 % (emoji)".
        licence: SPDX name.

    Example:
        >>> ModelRow(Path("m/a"), 5_800_000, 13.9, "emoji", ("R@1 87 (seen)",), "apache-2.0").megabytes
        13.9
    """

    folder: Path
    parameters: int
    megabytes: float
    data: str
    numbers: tuple[str, ...]
    licence: str


def read_model(folder: str | Path) -> ModelRow:
    """Read one folder.

    Args:
        folder: Folder with weights and a model card.

    Raises:
        ValueError: The card lacks a field.

    Example:
        >>> row = read_model("checkpoints/clippo-emoji")
        >>> row.parameters, row.licence
        (5797633, 'apache-2.0')
    """
    folder = Path(folder)
    data = ModelCard.load(folder / "README.md").data
    wanted = {"license": data.license, "training_data": data.get("training_data"), "model-index": data.eval_results}
    if missing := [name for name, value in wanted.items() if not value]:
        raise ValueError(
            f"The front matter of {folder / 'README.md'} lacks {', '.join(missing)}; add it for the table."
        )
    with safe_open(folder / "model.safetensors", "np") as weights:
        parameters = sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    numbers = [f"{result.metric_name} {result.metric_value} ({result.dataset_name})" for result in data.eval_results]
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    return ModelRow(folder, parameters, size / 1e6, data["training_data"], tuple(numbers), data.license)


def read_models(folder: str | Path) -> list[ModelRow]:
    """Read every model below a folder, by name.

    Args:
        folder: Folder whose sub-folders hold models.
    """
    return [read_model(path.parent) for path in sorted(Path(folder).glob("*/config.json"))]


def model_table(rows: Sequence[ModelRow]) -> str:
    """Markdown table of models, whose names link to their folders.

    Example:
        >>> print(model_table([ModelRow(Path("m/a"), 5_800_000, 13.9, "emoji", ("R@1 87 (seen)",), "apache-2.0")]))
        | model | parameters | MB | trained on | measured, in % | licence |
        |---|--:|--:|---|---|---|
        | [a](m/a/README.md) | 5.8 M | 14 | emoji | R@1 87 (seen) | apache-2.0 |
    """
    lines = [
        f"| [{row.folder.name}]({row.folder.as_posix()}/README.md) | {row.parameters / 1e6:.1f} M | "
        f"{row.megabytes:.0f} | {row.data} | {'; '.join(row.numbers)} | {row.licence} |"
        for row in rows
    ]
    return "\n".join([*HEAD, *lines])


def with_table(text: str, table: str) -> str:
    """Text of a page with the table between its two marks.

    Raises:
        ValueError: The page has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"The page has no place for the table of models; add the lines {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table of the models in `checkpoints/` into README.md."""
    page = Path("README.md")
    text = with_table(page.read_text(encoding="utf-8"), model_table(read_models("checkpoints")))
    page.write_text(text, encoding="utf-8")


__all__ = ["ModelRow", "model_table", "read_model", "read_models", "with_table"]
