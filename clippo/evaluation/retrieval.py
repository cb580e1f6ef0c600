"""Recall at k: how often the right item is among the k nearest."""

import torch


def ranks(queries: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, chunk: int = 2048) -> torch.Tensor:
    """Place of each query's target among all items, 0 for the nearest.

    A tie counts against the target: an encoder that maps everything to one point finds nothing.

    Args:
        queries: (Q, E) embeddings; with unit vectors the order is by cosine.
        items: (N, E) embeddings.
        targets: int64 (Q,) index of the right item.
        chunk: Queries scored at once, so that Q x N scores never exist together.

    Returns:
        int64 (Q,).

    Raises:
        ValueError: An embedding is not finite, or a target is not an item.
    """
    for name, embeddings in (("query", queries), ("item", items)):
        bad = (~embeddings.isfinite()).any(1).nonzero().flatten()
        if len(bad):
            raise ValueError(f"{len(bad)} {name} embeddings are not finite, the first is row {int(bad[0])}.")
    if len(targets) and (targets.min() < 0 or targets.max() >= len(items)):
        raise ValueError(f"Targets must lie in 0..{len(items) - 1}, got {int(targets.min())}..{int(targets.max())}.")
    result = []
    for part, target in zip(queries.split(chunk), targets.split(chunk), strict=True):
        scores = part @ items.T  # (chunk, N)
        own = scores.gather(1, target[:, None])
        result.append((scores >= own).sum(1) - 1)  # minus the target itself
    return torch.cat(result) if result else targets.new_zeros(0)


def recall_at_k(place: torch.Tensor, ks: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
    """Share of queries whose target is among the first k, as {"R@1": ..., ...} in 0..1.

    Raises:
        ValueError: There are no queries, so there is no share.
    """
    if not len(place):
        raise ValueError("Recall of no queries is undefined: the query list is empty.")
    return {f"R@{k}": (place < k).float().mean().item() for k in ks}
