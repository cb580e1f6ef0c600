"""Auxiliary losses of a router, from sums over the tokens.

Every loss below is a function of sums over tokens, so a block returns sums and not losses. The sums of micro-batches
and of processes are added before the losses are computed. The losses are then those of the whole batch.

For token i let l_ie be its logits over E experts and p_i their softmax. All logarithms are natural.

    importance  var_e(I_e) / mean_e(I_e)^2        I_e = sum_i p_ie; V-MoE writes (std / mean)^2
    load        the same of P_e                   P_e = sum_i Phi((l_ie - t_i) / sigma), t_i: K-th largest noisy logit
    z           mean_i logsumexp_e(l_ie)^2        ST-MoE
    local       mean_i H(p_i)                     of one modality; smaller when each token decides
    global      max(0, ln S - H(mean_i p_i))      of one modality; zero once its tokens use S experts or more

V-MoE computes the square root and has a gradient of NaN at perfect balance. The variance has a gradient of zero there.

Sources: V-MoE (arXiv 2106.05974, google-research/vmoe `moe.py`, `routing.py`), ST-MoE (arXiv 2202.08906), LIMoE (arXiv
2206.02770). No code of LIMoE was released; the entropies are the formulas of the paper.

Axes: L blocks with experts, T tokens, E experts, K experts a token.
"""

import math
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.nn import functional as F

from .packing_clippo import MODALITIES, PackedSequence

PROBABILITY_FLOOR = 1e-30  # ln of it is finite, so that a mean probability of 0 has a gradient of 0


class TokenGroups(NamedTuple):
    """Tokens of one pass of the tower, by modality, in the order of the sequence.

    Example:
        >>> TokenGroups(("image", "text"), (49, 7)).sizes
        (49, 7)
    """

    modalities: tuple[str, ...]  # of each group
    sizes: tuple[int, ...]  # tokens of each group, padding included
    real: torch.Tensor | None = None  # bool (T,), False for padding; None: there is no padding
    with_statistics: bool = False  # True in a training step


def token_groups(
    tokens: torch.Tensor,
    modality: str | None,
    packed: PackedSequence | None,
    padding_mask: torch.Tensor | None,
    with_statistics: bool,
) -> TokenGroups:
    """Describe the tokens (B, M, D) of a batch of one modality, or (1, T, D) of a packed sequence."""
    if packed is None:
        real = None if padding_mask is None else padding_mask.flatten()
        return TokenGroups((modality,), (tokens.shape[0] * tokens.shape[1],), real, with_statistics)
    real, sizes = None, tuple(part.tokens for part in packed.parts)
    if any(part.real is not None for part in packed.parts):
        masks = [tokens.new_ones(size, dtype=torch.bool) for size in sizes]
        for mask, part in zip(masks, packed.parts, strict=True):
            if part.real is not None:
                mask.fill_(False).index_fill_(0, part.real.to(mask.device), True)
        real = torch.cat(masks)
    return TokenGroups(tuple(part.modality for part in packed.parts), sizes, real, with_statistics)


class RouterSums(NamedTuple):
    """Sums over the tokens of each modality. The second axis is `MODALITIES`."""

    tokens: torch.Tensor  # (L, 2)
    z: torch.Tensor  # (L, 2) of logsumexp^2
    entropy: torch.Tensor  # (L, 2) of H(p_i)
    importance: torch.Tensor  # (L, 2, E) of p_ie
    load: torch.Tensor  # (L, 2, E) of the probability that e is among the K best under new noise
    assigned: torch.Tensor  # (L, 2, E) tokens that chose e, without gradient


def router_sums(statistics: torch.Tensor) -> RouterSums:
    """Name the columns of statistics (L, 2, 3 + 3 E)."""
    tokens, z, entropy, per_expert = statistics.split([1, 1, 1, statistics.shape[-1] - 3], -1)
    return RouterSums(tokens[..., 0], z[..., 0], entropy[..., 0], *per_expert.chunk(3, -1))


def token_statistics(
    logits: torch.Tensor,
    index: torch.Tensor,
    groups: TokenGroups,
    noisy_logits: torch.Tensor | None = None,
    noise_std: float = 0.0,
) -> torch.Tensor:
    """Sum what the losses need over the tokens of each modality.

    Args:
        logits: (T, E) without noise.
        index: int64 (T, K), the chosen experts.
        groups: Layout of the tokens. Padding is not counted.
        noisy_logits: (T, E), the logits that chose the experts. None: there is no noise, and the load is zero.
        noise_std: Standard deviation of the noise.

    Returns:
        (2, 3 + 3 E), see `router_sums`.
    """
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    entropy = -(p * log_p).sum(-1, keepdim=True)
    z = logits.logsumexp(-1, keepdim=True).square()
    assigned = F.one_hot(index, logits.shape[-1]).sum(1).to(p.dtype)
    load = torch.zeros_like(p)
    if noisy_logits is not None:
        threshold = noisy_logits.topk(index.shape[1], -1).values[:, -1:]  # (T, 1)
        load = torch.special.ndtr((logits - threshold) / noise_std)
    rows = torch.cat([torch.ones_like(z), z, entropy, p, load, assigned], -1)  # (T, 3 + 3 E)
    if groups.real is not None:
        rows = rows.masked_fill(~groups.real.unsqueeze(1), 0)
    sums = [group.sum(0) for group in rows.split(groups.sizes)]
    return torch.stack([_sum_of(sums, groups.modalities, modality) for modality in MODALITIES])


def _sum_of(sums: list[torch.Tensor], modalities: tuple[str, ...], modality: str) -> torch.Tensor:
    own = [value for value, kind in zip(sums, modalities, strict=True) if kind == modality]
    return sum(own) if own else torch.zeros_like(sums[0])


def sum_over_processes(statistics: torch.Tensor) -> torch.Tensor:
    """Add the statistics of all processes. Each process must call it in a training step.

    The gradient of a process is W times its own share, because data parallelism averages over W processes.
    """
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return statistics
    total = statistics.detach().clone()
    dist.all_reduce(total)
    return total + (statistics - statistics.detach()) * dist.get_world_size()


def squared_variation(values: torch.Tensor) -> torch.Tensor:
    """Population variance over squared mean along the last axis: (L, E) -> (L,). Zero where all values are zero."""
    mean = values.mean(-1)
    return values.var(-1, correction=0) / mean.square().clamp_min(PROBABILITY_FLOOR)


def mean_entropy(sums: RouterSums) -> torch.Tensor:
    """H of the mean probabilities, (L, 2), and zero for a modality without tokens. Its exp is the effective experts."""
    p = sums.importance / sums.tokens.clamp_min(1).unsqueeze(-1)  # (L, 2, E)
    return -(p * p.clamp_min(PROBABILITY_FLOOR).log()).sum(-1)


def router_losses(statistics: torch.Tensor, min_experts: tuple[int, int]) -> dict[str, torch.Tensor]:
    """Compute the losses of each block.

    Args:
        statistics: (L, 2, 3 + 3 E), see `token_statistics`.
        min_experts: S of images and of texts. 0 means that the modality has no global loss.

    Returns:
        importance, load, z: (L,) over both modalities. local, global: (L, 2), zero for a modality without tokens.

    Example:
        >>> import torch
        >>> from clippo.modeling_clippo.router_losses_clippo import TokenGroups, router_losses, token_statistics
        >>> index = torch.zeros(4, 1, dtype=torch.int64)
        >>> sums = token_statistics(torch.zeros(4, 8), index, TokenGroups(("image",), (4,)))
        >>> router_losses(sums.unsqueeze(0), (8, 8))["local"]  # ln 8 for images
        tensor([[2.0794, 0.0000]])
    """
    sums = router_sums(statistics)
    count = sums.tokens.clamp_min(1)
    present = sums.tokens > 0
    targets = statistics.new_tensor([math.log(number) if number else -math.inf for number in min_experts])
    return {
        "importance": squared_variation(sums.importance.sum(1)),
        "load": squared_variation(sums.load.sum(1)),
        "z": sums.z.sum(1) / sums.tokens.sum(1).clamp_min(1),
        "local": sums.entropy / count,
        "global": (targets - mean_entropy(sums)).clamp_min(0) * present,
    }


def auxiliary_loss(statistics: torch.Tensor, config) -> torch.Tensor:
    """Weighted sum of the router losses, averaged over the blocks with experts.

    V-MoE sums over blocks. The mean keeps the weights independent of the depth.

    Args:
        statistics: (L, 2, 3 + 3 E).
        config: Model config.
    """
    losses = router_losses(statistics, (config.router_min_image_experts, config.router_min_text_experts))
    total = config.router_importance_coef * losses["importance"] + config.router_z_coef * losses["z"]
    total = total + config.router_load_coef * losses["load"]
    for name, weights in (("local", config.router_local_entropy_coef), ("global", config.router_global_entropy_coef)):
        weights = (weights, weights) if isinstance(weights, int | float) else weights
        total = total + sum(weight * losses[name][:, i] for i, weight in enumerate(weights))
    return total.mean()


__all__ = ["TokenGroups", "auxiliary_loss", "router_losses", "router_sums", "token_groups", "token_statistics"]
