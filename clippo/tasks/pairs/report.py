"""Table and picture of a fine-tuning run: each evaluation before, after, and with the chosen weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from clippo.evaluation.report import markdown_table
from clippo.tasks.pairs.interpolation import Point

STYLES = {"new": "-", "old": "--", "report": ":"}


def table(points: Sequence[Point], chosen: Point, roles: Mapping[str, str]) -> str:
    """Markdown table of the evaluations.

    Args:
        points: Points of the curve, those of alpha 0 and 1 among them.
        chosen: Chosen point.
        roles: Role of each evaluation.

    Example:
        >>> points = [Point(0.0, {"flowers": 0.25}), Point(1.0, {"flowers": 0.75})]
        >>> print(table(points, points[1], {"flowers": "new"}))
        | evaluation | role | before | fine-tuned | alpha 1 | change, points |
        |---|---|---|---|---|---|
        | flowers | new | 25.0% | 75.0% | 75.0% | +50.0 |
        <BLANKLINE>
    """
    start, end = min(points), max(points)
    rows = [
        {
            "evaluation": name,
            "role": role,
            "before": start.metrics[name],
            "fine-tuned": end.metrics[name],
            f"alpha {chosen.alpha:g}": chosen.metrics[name],
            "change, points": f"{100 * (chosen.metrics[name] - start.metrics[name]):+.1f}",
        }
        for name, role in roles.items()
    ]
    return "\n".join(markdown_table(rows)) + "\n"


def draw(points: Sequence[Point], chosen: Point, roles: Mapping[str, str], output: str | Path) -> None:
    """Draws each evaluation over alpha, with a line at the chosen one.

    Args:
        points: Points of the curve.
        chosen: Chosen point.
        roles: Role of each evaluation.
        output: Image file to write.

    Raises:
        ImportError: Matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("The curve needs Matplotlib: pip install 'clippo[plot]'.") from error
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    ordered = sorted(points)
    for name, role in roles.items():
        values = [100 * point.metrics[name] for point in ordered]
        axes.plot([p.alpha for p in ordered], values, STYLES[role], marker="o", markersize=3, label=f"{name} ({role})")
    axes.axvline(chosen.alpha, color="0.6", linewidth=1)
    axes.set(xlabel="alpha: 0 before fine-tuning, 1 after it", ylabel="%", title=f"chosen: alpha {chosen.alpha:g}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(output, dpi=110)
