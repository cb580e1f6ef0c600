"""Metrics of a search for concepts: several pictures are right, and a gallery may hold fewer than ten of them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

CHUNK = 512  # queries scored at once
METRICS = ("R@1", "R@5", "R@10", "P@10")


def search_metrics(
    scores: Callable[[int, int], Tensor], queries: Tensor, gallery: Tensor, chunk: int = CHUNK
) -> dict[str, Tensor]:
    """Metrics of each query.

    Pictures with equal scores come in the order of the gallery. A score of 0 or less that the first places need is no
    hit of a keyword search, whose scores are positive; `-inf` marks it.

    Args:
        scores: Function of the first and last query, which returns float (b, N).
        queries: int64 (Q,), the concept of each query; the gallery holds it.
        gallery: int64 (N,), the concept of each picture.
        chunk: Queries at a time.

    Returns:
        float32 (Q,) each. `R@k`: 1 if one of the first k pictures shows the concept. `P@10`: share of right pictures
        among the first min(10, n), where the gallery holds n of them.

    Raises:
        ValueError: A concept has no picture.

    Example:
        >>> import torch
        >>> from clippo.pictograms.metrics import search_metrics
        >>> table = torch.tensor([[0.9, 0.8, 0.1], [0.9, 0.2, 0.1]])
        >>> found = search_metrics(lambda a, b: table[a:b], torch.tensor([1, 2]), torch.tensor([1, 1, 2]))
        >>> found["R@1"].tolist(), found["P@10"].tolist()
        ([1.0, 0.0], [1.0, 0.0])
    """
    counts = torch.bincount(gallery, minlength=int(queries.max()) + 1 if len(queries) else 1)
    right = counts[queries]
    if len(queries) and int(right.min()) == 0:
        missing = queries[right == 0][0]
        raise ValueError(f"Concept {int(missing)} has no picture in the gallery; leave its queries out.")
    first = min(10, len(gallery))
    parts: dict[str, list[Tensor]] = {name: [] for name in METRICS}
    for start in range(0, len(queries), chunk):
        table = scores(start, min(start + chunk, len(queries)))  # (b, N)
        values, places = stable_topk(table, first)
        hits = (gallery[places] == queries[start : start + chunk, None]) & values.isfinite()  # (b, first)
        for k in (1, 5, 10):
            parts[f"R@{k}"].append(hits[:, :k].any(dim=1).float())
        possible = right[start : start + chunk].clamp(max=first)  # (b,)
        within = torch.arange(first) < possible[:, None]
        parts["P@10"].append((hits & within).sum(dim=1) / possible)
    return {name: torch.cat(values) if values else torch.zeros(0) for name, values in parts.items()}


def stable_topk(table: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Largest values and their places on the CPU; equal values in the order of the places.

    Args:
        table: float (b, N).
        k: Number of places.
    """
    # A topk alone may return equal values in any order. The step is below the rounding of float32 near 1.
    step = torch.arange(table.shape[1], device=table.device, dtype=torch.float64) * 1e-12
    places = (table.double() - step).topk(k, dim=1).indices
    return table.gather(1, places).cpu(), places.cpu()


def chance(queries: Tensor, gallery: Tensor) -> dict[str, float]:
    """Mean metrics of a random order.

    Args:
        queries: int64 (Q,), the concept of each query.
        gallery: int64 (N,), the concept of each picture.
    """
    total = len(gallery)
    right = torch.bincount(gallery, minlength=int(queries.max()) + 1)[queries].double()
    means = {"P@10": (right / total).mean().item()}
    for k in (1, 5, 10):
        missed = torch.ones_like(right)
        for i in range(min(k, total)):
            missed *= ((total - right - i) / (total - i)).clamp(min=0)
        means[f"R@{k}"] = (1 - missed).mean().item()
    return {name: means[name] for name in METRICS}


def means(found: dict[str, Tensor], members: Sequence[int]) -> dict[str, float]:
    """Mean of each metric over some queries.

    Args:
        found: Result of `search_metrics`.
        members: Numbers of the queries.
    """
    chosen = torch.tensor(list(members))
    return {name: round(values[chosen].mean().item(), 5) for name, values in found.items()}
