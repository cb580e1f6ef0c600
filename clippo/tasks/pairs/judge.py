"""Evaluations of a model before, between and after fine-tuning: the new task, the old ones, retrieval."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate import PartialState
from tqdm.auto import tqdm

from clippo.evaluation.cache import digest, tensor_digests
from clippo.evaluation.command import TASKS, RunArguments, known_options
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.report import Report
from clippo.tasks.pairs.interpolation import ROLES, Point, interpolate

# Number of a report that stands for the evaluation.
METRICS = {"zero-shot": "top1", "retrieval": "T2I R@1"}
OWN = ("name", "role", "task", "metric", "limit")
FILE = "curve.json"


@dataclass
class Evaluation:
    """One evaluation as a recipe writes it: a task of `clippo evaluate` with a role in the choice of the weights.

    Args:
        name: Name in the table.
        task: A task of `clippo evaluate`.
        arguments: Options of the task.
        role: "new" and "old" decide on the weights, "report" is only measured.
        metric: Number of the report.
        limit: Rows to read from the beginning of the data set.

    Example:
        >>> spec = {"name": "flowers", "role": "new", "task": "zero-shot", "data": "data/flowers"}
        >>> Evaluation.from_dict(spec).metric
        'top1'
    """

    name: str
    task: str
    arguments: Any
    role: str = "report"
    metric: str | None = None
    limit: int | None = None

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> "Evaluation":
        """The evaluation that a mapping of a recipe describes.

        Args:
            spec: Fields of this class, and the options of the task.

        Raises:
            ValueError: `spec` is not a mapping, or a task, a role or an option is unknown.
        """
        task = spec.get("task") if isinstance(spec, Mapping) else None
        if task not in TASKS:
            raise ValueError(f"The evaluation {spec!r} has no known task; choose one of {', '.join(TASKS)}.")
        role = spec.get("role", "report")
        if role not in ROLES:
            raise ValueError(f"role={role!r} of an evaluation is not known; write one of {', '.join(ROLES)}.")
        name = spec.get("name") or f"{task} {Path(str(spec.get('data', ''))).name}"
        options = {key: value for key, value in spec.items() if key not in OWN}
        arguments = TASKS[task][0](**known_options(TASKS[task][0], options, f"The evaluation {name}"))
        return cls(name, task, arguments, role, spec.get("metric") or METRICS.get(task), spec.get("limit"))

    def measure(self, encoder: Encoder) -> float:
        """Main number of the evaluation.

        Args:
            encoder: Encoder of the model.

        Raises:
            ValueError: The report has no such number, or the data cannot be used.
        """
        run = RunArguments(limit=self.limit, cache_dir="", progress=False)
        report: Report = TASKS[self.task][1](encoder, run, self.arguments)
        metric = self.metric or next(iter(report.metrics))
        if metric not in report.metrics:
            raise ValueError(f"{self.name} has no metric {metric!r}; choose one of {', '.join(report.metrics)}.")
        return float(report.metrics[metric])


class Judge:
    """Measures models between two sets of weights, and keeps what it has measured in a file.

    Args:
        evaluations: Mappings, see `Evaluation`.

    Raises:
        ValueError: An evaluation is specified wrongly, or two have one name.

    Example:
        >>> Judge([{"name": "flowers", "role": "new", "task": "zero-shot", "data": "data/flowers"}]).roles
        {'flowers': 'new'}
    """

    def __init__(self, evaluations: Sequence[Mapping[str, Any]]):
        self.specs = [dict(spec) for spec in evaluations]
        self.evaluations = [Evaluation.from_dict(spec) for spec in evaluations]
        names = [evaluation.name for evaluation in self.evaluations]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"Evaluations need different names; given twice: {', '.join(twice)}.")

    @property
    def roles(self) -> dict[str, str]:
        """Role of each evaluation by its name."""
        return {evaluation.name: evaluation.role for evaluation in self.evaluations}

    def measure(self, model: torch.nn.Module, processor: Any) -> dict[str, float]:
        """Main number of every evaluation.

        Args:
            model: Model to measure.
            processor: Its processor.
        """
        with TemporaryDirectory() as cache:  # two evaluations of one data set embed its images once
            encoder = Encoder(model, processor, cache)
            return {evaluation.name: evaluation.measure(encoder) for evaluation in self.evaluations}

    def curve(
        self,
        model: torch.nn.Module,
        processor: Any,
        before: Mapping[str, torch.Tensor],
        alphas: Sequence[float],
        folder: str | Path,
    ) -> list[Point]:
        """Measures models between `before` and the weights of `model`, which it has again at the end.

        Args:
            model: Model after fine-tuning.
            processor: Its processor.
            before: State dict before fine-tuning.
            alphas: Shares of the weights after fine-tuning.
            folder: Folder of `curve.json`. Points that it holds for the same weights and evaluations are not measured
                again, so a stopped run continues.

        Returns:
            The points, in the order of alpha.
        """
        after = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        key = digest(json.dumps(self.specs, sort_keys=True), *tensor_digests(before), *tensor_digests(after))
        file, state = Path(folder) / FILE, PartialState()
        points = _read(file, key)
        for alpha in tqdm(sorted(set(alphas)), desc="interpolation", disable=not state.is_main_process):
            if alpha not in points:
                model.load_state_dict(interpolate(before, after, alpha))
                points[alpha] = self.measure(model, processor)
                if state.is_main_process:
                    _write(file, key, points)
        model.load_state_dict(after)
        return [Point(alpha, points[alpha]) for alpha in sorted(set(alphas))]


def _read(file: Path, key: str) -> dict[float, dict[str, float]]:
    """Points of a file, if it is about the same weights and evaluations."""
    if not file.is_file():
        return {}
    saved = json.loads(file.read_text(encoding="utf-8"))
    return {point["alpha"]: point["metrics"] for point in saved["points"]} if saved["key"] == key else {}


def _write(file: Path, key: str, points: Mapping[float, dict[str, float]]) -> None:
    listed = [{"alpha": alpha, "metrics": points[alpha]} for alpha in sorted(points)]
    part = file.with_suffix(".part")  # a kill while it is written leaves the old file
    part.write_text(json.dumps({"key": key, "points": listed}, indent=1), encoding="utf-8")
    part.replace(file)
