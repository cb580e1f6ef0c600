"""Ranks by dot product, nearest items, and recall at k."""

import torch

# The scores of two equal items may differ by rounding, depending on their place in the matrix product.
ROUNDING = 1e-6


def ranks(
    queries: torch.Tensor, items: torch.Tensor, targets: torch.Tensor, chunk: int = 2048, item_chunk: int = 65536
) -> torch.Tensor:
    """Ranks each query's target among all items, 0 for the nearest.

    A tie counts against the target. An encoder that maps everything to one point therefore has recall 0.

    Args:
        queries: (Q, E) embeddings; with unit vectors the order is by cosine.
        items: (N, E) embeddings.
        targets: int64 (Q,), index of the right item.
        chunk: Number of queries scored at once.
        item_chunk: Number of items scored at once. The Q x N scores are never in memory together.

    Returns:
        int64 (Q,).

    Raises:
        ValueError: An embedding is not finite, or a target is not an item.
    """
    if len(targets) and (targets.min() < 0 or targets.max() >= len(items)):
        raise ValueError(f"Targets must lie in 0..{len(items) - 1}, got {int(targets.min())}..{int(targets.max())}.")
    return group_ranks(queries, items, targets, torch.arange(len(items)), chunk, item_chunk)


def group_ranks(
    queries: torch.Tensor,
    items: torch.Tensor,
    query_groups: torch.Tensor,
    item_groups: torch.Tensor,
    chunk: int = 2048,
    item_chunk: int = 65536,
) -> torch.Tensor:
    """Ranks each query's nearest right item. All items of the query's group are right.

    The rank is the number of wrong items that are as near or nearer. With the number of the image as group, this is the
    protocol of COCO and Flickr in both directions: an image is found if any of its captions is among the first k of all
    captions (big_vision `evaluators/proj/image_text/image_text_retrieval.py`).

    Args:
        queries: (Q, E) embeddings, on any device. Chunks of the items are moved there.
        items: (N, E) embeddings.
        query_groups: int64 (Q,), group of each query.
        item_groups: int64 (N,), group of each item.
        chunk: Number of queries scored at once.
        item_chunk: Number of items scored at once.

    Returns:
        int64 (Q,) on the CPU.

    Raises:
        ValueError: An embedding is not finite, or a query has no right item.
    """
    for name, embeddings in (("query", queries), ("item", items)):
        bad = (~embeddings.isfinite()).any(1).nonzero().flatten()
        if len(bad):
            raise ValueError(f"{len(bad)} {name} embeddings are not finite; the first is row {int(bad[0])}.")
    order = item_groups.argsort(stable=True)
    first, last = (
        torch.searchsorted(item_groups[order].contiguous(), query_groups.contiguous(), right=right)
        for right in (False, True)
    )
    lonely = (first == last).nonzero().flatten()
    if len(lonely):
        raise ValueError(f"{len(lonely)} queries have no right item; the first is query {int(lonely[0])}.")
    longest = items.norm(dim=1).max() if len(items) else 0.0

    result = []
    for begin in range(0, len(queries), chunk):
        rows = slice(begin, begin + chunk)
        part = queries[rows]  # (q, E)
        best = part.new_full((len(part),), -torch.inf)
        for offset in range(int((last[rows] - first[rows]).max())):
            has = (first[rows] + offset < last[rows]).nonzero().flatten()
            right = items[order[first[rows][has] + offset]].to(part.device)
            has = has.to(part.device)
            best[has] = best[has].maximum((part[has] * right).sum(-1))
        best -= ROUNDING * part.norm(dim=1) * longest
        own = query_groups[rows].to(part.device)
        ahead = torch.zeros(len(part), dtype=torch.int64, device=part.device)
        for item_begin in range(0, len(items), item_chunk):
            columns = slice(item_begin, item_begin + item_chunk)
            scores = part @ items[columns].to(part.device).T  # (q, n)
            wrong = item_groups[columns].to(part.device)[None] != own[:, None]
            ahead += ((scores >= best[:, None]) & wrong).sum(1)
        result.append(ahead.cpu())
    return torch.cat(result) if result else query_groups.new_zeros(0)


def nearest(
    queries: torch.Tensor, items: torch.Tensor, k: int, chunk: int = 2048, item_chunk: int = 65536
) -> torch.Tensor:
    """Returns the k nearest items of each query, nearest first, int64 (Q, k). A tie goes to the lower index.

    Raises:
        ValueError: There are fewer than k items.
    """
    if not 1 <= k <= len(items):
        raise ValueError(f"k must lie in 1..{len(items)}, the number of items; got {k}.")
    result = []
    for part in queries.split(chunk):
        best, place = part.new_zeros(len(part), 0), torch.zeros(len(part), 0, dtype=torch.int64, device=part.device)
        for begin in range(0, len(items), item_chunk):
            scores = part @ items[begin : begin + item_chunk].to(part.device).T
            numbers = torch.arange(begin, begin + scores.shape[1], device=part.device).expand_as(scores)
            best, place = torch.cat([best, scores], 1), torch.cat([place, numbers], 1)
            chosen = best.argsort(dim=1, descending=True, stable=True)[:, :k]
            best, place = best.gather(1, chosen), place.gather(1, chosen)
        result.append(place.cpu())
    return torch.cat(result) if result else torch.zeros(0, k, dtype=torch.int64)


def recall_at_k(place: torch.Tensor, ks: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
    """Computes the share of queries whose target is among the first k: {"R@1": ..., ...} in 0..1.

    Raises:
        ValueError: There are no queries.
    """
    if not len(place):
        raise ValueError("Recall without queries is undefined: the query list is empty.")
    return {f"R@{k}": (place < k).float().mean().item() for k in ks}
