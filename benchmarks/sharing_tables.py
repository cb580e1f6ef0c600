"""Tables and the figure of the runs that benchmarks/sharing.py saved.

    python benchmarks/sharing_tables.py runs/sharing --figure docs/images/experts.png

Means over the seeds, with their range in brackets.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from clippo.evaluation.expert_use import normalized_mutual_information
from clippo.visualization.expert_figure import draw_expert_use


def read(folder: Path) -> dict[str, list[dict]]:
    """Runs of a table in the order of the recipe: variant -> its runs, in the order of the seeds."""
    rows = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.json"))]
    runs: dict[str, list[dict]] = {}
    for row in sorted(rows, key=lambda row: (row["place"], row["seed"])):
        runs.setdefault(row["variant"], []).append(row)
    return runs


def spread(values: list[float], scale: float = 100, digits: int = 1) -> str:
    """Mean and range; "-" without values."""
    if not values:
        return "-"
    low, high = scale * min(values), scale * max(values)
    return f"{scale * np.mean(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def line(cells: list) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def table(head: list[str], rows: list[list]) -> str:
    """Markdown table."""
    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)]) + "\n"


def main_table(runs: dict[str, list[dict]], equal: dict[str, list[dict]], seconds: dict[str, float]) -> str:
    """Recall, gap, sizes and seconds; `equal` has the runs with equal seconds, `seconds` those of a step."""
    rows = []
    for name, own in runs.items():
        same = equal.get(name, [])
        total, active = (own[0].get(kind, own[0]["parameters"]) / 1e6 for kind in ("parameters", "active"))
        rows.append([
            name,
            spread([row["R@1 seen"]["all"] for row in own]),
            spread([row["R@1 held out"]["all"] for row in own]),
            spread([row["R@1 seen"]["all"] for row in same]),
            spread([row["R@1 held out"]["all"] for row in same]),
            spread([row["gap"]["distance"] for row in own], 1, 2),
            spread([row["STS"] for row in own if "STS" in row]),
            f"{total:.2f} M",
            f"{active:.2f} M",
            f"{1000 * seconds.get(name, np.median([row['seconds a step'] for row in own])):.0f}",
            same[0]["steps"] if same else own[0]["steps"],
            len(own),
        ])  # fmt: skip
    head = ["variant", "seen", "held out", "seen, equal s", "held out, equal s", "gap", "STS", "parameters", "active"]
    return table([*head, "ms a step", "steps in equal s", "seeds"], rows)


def script_table(runs: dict[str, list[dict]], names: str) -> str:
    """R@1 of the seen or held-out names by script, means over the seeds."""
    key = f"R@1 {names}"
    scripts = sorted({script for own in runs.values() for row in own for script in row[key]} - {"all"})
    rows = []
    for name, own in runs.items():
        means = [np.mean([row[key][script] for row in own if script in row[key]]) for script in scripts]
        rows.append([name, *(f"{100 * mean:.1f}" for mean in means)])
    return table([f"variant, {names}", *scripts], rows)


def expert_table(runs: dict[str, list[dict]]) -> str:
    """Effective experts, and the normalised mutual information of expert and group, means over the blocks."""
    rows = []
    for name, own in runs.items():
        own = [row for row in own if "experts" in row]
        if not own:
            continue
        used = np.array([row["experts used"] for row in own])
        blocks = [block for row in own for block in row["experts"].values()]
        sides = [{"image": block["image"], "text": np.sum([*block.values()][1:], 0).tolist()} for block in blocks]
        scripts = [{group: counts for group, counts in block.items() if group != "image"} for block in blocks]
        largest = [max(np.sum([*side.values()], 0) / np.sum([*side.values()])) for side in sides]
        informations = [np.mean([normalized_mutual_information(part) for part in kind]) for kind in (sides, scripts)]
        rows.append([name, f"{used[:, 0].mean():.1f}", f"{used[:, 1].mean():.1f}", f"{100 * max(largest):.0f} %"])
        rows[-1] += [f"{value:.2f}" for value in informations]
    head = ["variant", "experts of images", "experts of texts", "largest expert", "modality and expert"]
    return table([*head, "script and expert"], rows) if rows else ""


def main() -> None:
    """Print the tables of a folder of runs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, help="The --output_dir of benchmarks/sharing.py.")
    parser.add_argument("--figure", help="File for the use of the experts in one run.")
    parser.add_argument("--variant", default="shared, 8 experts", help="Variant of the figure.")
    args = parser.parse_args()
    found = {}
    for name in ("variants", "ablations", "text_pairs"):
        runs = found[name] = read(args.folder / name)
        if not runs:
            continue
        seconds = args.folder / f"{name} seconds.json"
        times = json.loads(seconds.read_text(encoding="utf-8")) if seconds.exists() else {}
        equal = read(args.folder / f"{name} seconds")
        print(f"{name}\n\n{main_table(runs, equal, times)}")
        print(script_table(runs, "seen"), script_table(runs, "held out"), expert_table(runs), sep="\n")
    if args.figure:
        run = (found["variants"] | found["ablations"])[args.variant][0]
        draw_expert_use({int(block): groups for block, groups in run["experts"].items()}, args.figure)


if __name__ == "__main__":
    main()
