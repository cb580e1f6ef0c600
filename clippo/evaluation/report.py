"""Report of one evaluation, written as JSON, as Markdown and as a figure."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Report:
    """Result of one evaluation, with its protocol and the level of chance.

    Args:
        task: Name of the evaluation.
        data: Name of the data set.
        protocol: Sentences that define the metrics.
        metrics: Main numbers.
        chance: Values of a random guess, for the metrics that have one.
        counts: Sizes of the data, and what was left out.
        rows: Lines of the table, dictionaries with the same keys.
        notes: Remarks for the reader.
        confusion: {"names": C names, "counts": C x C, row right, column predicted}, or None.
        bars: Column of `rows` to draw, and the column that names the bars.
        context: Model, command and versions. The command line fills it in.
        variant: Part of the file name that separates evaluations of one task on the same data.

    Example:
        >>> report = Report("zero-shot", "cifar10", "Ten classes.", {"top1": 0.5}, chance={"top1": 0.1})
        >>> print(report.to_markdown())
        ## zero-shot: cifar10
        <BLANKLINE>
        Ten classes.
        <BLANKLINE>
        | metric | value | chance |
        |---|---|---|
        | top1 | 50.0% | 10.0% |
        <BLANKLINE>
    """

    task: str
    data: str
    protocol: str
    metrics: dict[str, float]
    chance: dict[str, float] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    rows: list[dict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    confusion: dict | None = None
    bars: tuple[str, str] | None = None
    context: dict[str, str] = field(default_factory=dict)
    variant: str = ""

    @property
    def name(self) -> str:
        """Task, data and variant as one file name."""
        return "_".join(filter(None, (self.task, Path(self.data).name, self.variant))).replace(" ", "_")

    def to_json(self) -> str:
        """Returns the whole report, numbers unrounded. NaN and infinity become null."""
        return json.dumps(_without_nan(asdict(self)), indent=1, ensure_ascii=False)

    def to_markdown(self) -> str:
        """Returns a section: protocol, main numbers beside chance, table, notes."""
        lines = [f"## {self.task}: {Path(self.data).name}", ""]
        lines += [f"{label}: `{value}`  " for label, value in self.context.items()]
        lines += [self.protocol, ""]
        if self.counts:
            lines += [", ".join(f"{value} {label}" for label, value in self.counts.items()) + ".", ""]
        if self.metrics:
            lines += ["| metric | value | chance |", "|---|---|---|"]
            lines += [
                f"| {name} | {format_cell(name, value)} | {format_cell(name, self.chance.get(name))} |"
                for name, value in self.metrics.items()
            ]
            lines.append("")
        if self.rows:
            lines += [*markdown_table(self.rows), ""]
        lines += [f"* {note}" for note in self.notes]
        return "\n".join(lines).rstrip() + "\n"

    def write(self, folder: str | Path) -> list[Path]:
        """Writes `<name>.json`, `<name>.md` and, if there is a figure, `<name>.png`. Returns the files."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        files = [folder / f"{self.name}.json", folder / f"{self.name}.md"]
        files[0].write_text(self.to_json() + "\n", encoding="utf-8")
        files[1].write_text(self.to_markdown(), encoding="utf-8")
        if self.confusion or (self.bars and len(self.rows) > 1):
            files.append(folder / f"{self.name}.png")
            self.draw(files[-1])
        return files

    def draw(self, path: Path) -> None:
        """Draws the confusion matrix, or one bar a row.

        Raises:
            ImportError: Matplotlib is missing.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("Figures of results need Matplotlib: pip install 'clippo[plot]'.") from error
        if self.confusion:
            names, counts = self.confusion["names"], self.confusion["counts"]
            side = 3 + 0.28 * min(len(names), 60)
            figure = Figure(figsize=(side + 1, side), layout="constrained")
            axes = figure.subplots()
            shares = [[value / max(sum(row), 1) for value in row] for row in counts]
            image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            figure.colorbar(image, label="share of the class", shrink=0.8)
            axes.set(xlabel="predicted", ylabel="right", title=f"{self.task}: {Path(self.data).name}")
            if len(names) <= 60:  # more would only be a grey margin
                axes.set_xticks(range(len(names)), names, rotation=90)
                axes.set_yticks(range(len(names)), names)
        else:
            column, label = self.bars
            rows = [row for row in self.rows if isinstance(row[column], int | float)]
            figure = Figure(figsize=(2 + 0.16 * max(len(rows), 20), 3.6), layout="constrained")
            axes = figure.subplots()
            axes.bar(range(len(rows)), [row[column] for row in rows], color="#3b5bb5")
            axes.set_xticks(range(len(rows)), [str(row[label]) for row in rows], rotation=90, fontsize=7)
            if column in self.chance:
                axes.axhline(self.chance[column], color="0.4", linestyle=":", label="chance")
                axes.legend(frameon=False)
            axes.set(ylabel=column, title=f"{self.task}: {Path(self.data).name}")
            axes.spines[["top", "right"]].set_visible(False)
            axes.margins(x=0.01)
        figure.savefig(path, dpi=110)


def column_means(rows: Sequence[dict], columns: Iterable[str]) -> dict[str, float]:
    """Computes the mean of columns over rows."""
    return {column: sum(row[column] for row in rows) / len(rows) for column in columns}


def markdown_table(rows: Sequence[dict]) -> list[str]:
    """Formats rows as lines of a Markdown table, columns in the order of the first row's keys."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return lines + [
        "| " + " | ".join(format_cell(column, row.get(column)) for column in columns) + " |" for row in rows
    ]


def format_cell(name: str, value: Any) -> str:
    """Formats shares in percent, correlations and distances with three decimals, and other values as they are."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, float):
        return str(value)
    if any(word in name for word in ("spearman", "pearson", "distance", "cosine")):
        return f"{value:.3f}"
    return f"{value:g}" if "rank" in name else f"{value:.2%}" if 0 < value < 0.01 else f"{value:.1%}"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
