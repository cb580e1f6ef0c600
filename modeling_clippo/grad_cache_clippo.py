"""GradCache: batches whose activations do not fit into memory (Gao et al., arXiv 2101.06983).

A step is encoded in parts of about equal work. The loss receives the embeddings of all parts. In backward each part is
encoded once more, so autograd needs the activations of one part at a time.
"""

from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch.utils.checkpoint import checkpoint

Batch = tuple[torch.Tensor, str]  # pixel values of canvases (B, ...), and their modality


# torch.compile would unroll all parts into one graph, and its own checkpointing does not restore the random numbers.
# Left out of the graph, this function calls an `encode` that is compiled once.
@torch.compiler.disable(recursive=False)
def grad_cache(
    encode: Callable[[list[Batch]], tuple[torch.Tensor, ...]], parts: list[list[Batch]]
) -> list[tuple[torch.Tensor, ...]]:
    """Encode parts one after the other, and each again in backward.

    Data-parallel wrappers see one forward and one backward pass.

    Args:
        encode: Batches of b canvases in all -> (b, E), and perhaps further tensors. It is called twice with the same
            random numbers and under the same autocast, and must compute the same both times.
        parts: Of `cut_batches`.

    Returns:
        Output of `encode` for each part.
    """
    # The second pass runs to its end, not only to the last tensor that backward needs: FSDP2 frees the parameters of a
    # module in a hook after its forward, which an early stop would skip.
    return [checkpoint(encode, part, use_reentrant=False, early_stop=False) for part in parts]


def cut_batches(batches: Sequence[Batch], lengths: torch.Tensor, budget: int) -> list[list[Batch]]:
    """Cut batches into parts of about equally many tokens.

    All processes get the same number of parts, whatever their texts, because they run sharded layers together.

    Args:
        batches: B canvases in all.
        lengths: int64 (B,), the tokens of each canvas.
        budget: Most tokens of a part, by about one canvas.

    Example:
        >>> import torch
        >>> batches = [(torch.zeros(2, 1), "image"), (torch.zeros(4, 1), "text")]
        >>> parts = cut_batches(batches, torch.tensor([4, 4, 1, 1, 1, 1]), 6)
        >>> [[(len(values), modality) for values, modality in part] for part in parts]
        [[(2, 'image')], [(4, 'text')]]
    """
    ends = lengths.cumsum(0).cpu()  # (B,)
    count = _agreed_count(-(-int(ends[-1]) // budget), len(ends), lengths.device)
    targets = ends[-1] * torch.arange(1, count) / count
    cuts, last = [0], 0
    for part, cut in enumerate((torch.searchsorted(ends, targets) + 1).tolist(), start=1):
        last = min(max(cut, last + 1), len(ends) - count + part)  # no part is empty
        cuts.append(last)
    return [_canvases(batches, first, stop) for first, stop in zip(cuts, [*cuts[1:], len(ends)], strict=True)]


def _agreed_count(count: int, canvases: int, device: torch.device) -> int:
    """Number of parts on all processes: the largest wanted, but not more than the canvases of any process."""
    count = min(count, canvases)
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        numbers = torch.tensor([count, -canvases], device=device)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        count = min(int(numbers[0]), -int(numbers[1]))
    return count


def _canvases(batches: Sequence[Batch], first: int, stop: int) -> list[Batch]:
    """Canvases `first` to `stop`, counted over all batches."""
    part = []
    for values, modality in batches:
        if first < len(values) and stop > 0:
            part.append((values[max(first, 0) : stop], modality))
        first, stop = first - len(values), stop - len(values)
    return part
