"""Experts in place of the MLP of a block: router, dispatch and experts (LIMoE, V-MoE).

A router gives each token K of E experts. An expert is the MLP of a dense block. The output of a token is

    sum over its experts of g_e * MLP_e(x)        g = softmax of the router's logits, not divided by the sum of the K

With K = 1 a gate divided by its sum would be 1, and the router would have no gradient from the task.

By default no expert has a capacity. The expert of a token then depends on that token alone, so a canvas does not depend
on its batch, and GradCache is exact. With a capacity, training drops the tokens that come too late.

Sources: google-research/vmoe `nn/vit_moe.py`, `moe.py` (arXiv 2106.05974); LIMoE (arXiv 2206.02770), whose code was
never released.

Axes: T tokens, D width, I width of the MLP, E experts, K experts a token.
"""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.integrations.moe import ExpertsInterface, _grouped_mm, use_experts_implementation
from transformers.utils.generic import maybe_autocast

from .pixels_clippo import is_exporting
from .router_losses_clippo import TokenGroups, token_statistics

CAPACITY_MULTIPLE = 4  # V-MoE rounds capacities up to a multiple of this number


def best_experts(gates: torch.Tensor, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest gates of each token and their experts: (T, E) -> (T, K) twice. Ties go to the lower expert."""
    if is_exporting():  # ONNX has no stable sort, and its TopK takes the lower of equal values
        return tuple(gates.topk(number, dim=-1))
    # topk breaks ties in an order of its own.
    values, index = gates.sort(dim=-1, descending=True, stable=True)
    return values[:, :number], index[:, :number]


def expert_capacity(tokens: int, number: int, experts: int, factor: float, multiple: int = CAPACITY_MULTIPLE) -> int:
    """Most tokens of one expert: ceil(tokens * number * factor / experts), rounded up to a multiple.

    Example:
        >>> from clippo.modeling_clippo.experts_clippo import expert_capacity
        >>> expert_capacity(40, number=1, experts=8, factor=1.0)
        8
    """
    capacity = math.ceil(tokens * number * factor / experts)
    return math.ceil(capacity / multiple) * multiple


def buffer_places(
    index: torch.Tensor, gates: torch.Tensor, batch_priority: bool, real: torch.Tensor | None = None
) -> torch.Tensor:
    """Place of each choice in the buffer of its expert, int64 (T, K), from 0.

    All first choices come before all second choices. Among them tokens come in their order, or with `batch_priority` by
    their largest gate. Padding takes no place.

    Args:
        index: int64 (T, K), the chosen experts.
        gates: (T, E).
        batch_priority: Whether tokens with larger gates come first.
        real: bool (T,), False for padding.
    """
    order = torch.arange(len(index), device=index.device)
    if batch_priority:
        order = gates.amax(-1).argsort(descending=True, stable=True)
    chosen = F.one_hot(index[order].T, gates.shape[-1])  # (K, T, E)
    counted = chosen if real is None else chosen * real[order, None]
    places = counted.flatten(0, 1).cumsum(0).view_as(chosen)
    places = (places * chosen).sum(-1).T - 1  # (T, K) in the order of priority
    return torch.empty_like(index).index_copy(0, order, places)


def _grouped_experts(
    experts: "ClippoExperts", hidden_states: torch.Tensor, index: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Grouped matrix products over tokens sorted by expert, as transformers' "grouped_mm" computes them.

    Two things differ. Under autocast the products run in its dtype. A bias reaches its rows by a product with a one-hot
    matrix, because the gradient of indexing adds thousands of rows to one row one after the other.
    """
    kind, dtype = hidden_states.device.type, experts.up_proj.dtype
    if torch.is_autocast_enabled(kind) and dtype == torch.float32:
        dtype = torch.get_autocast_dtype(kind)
    count, number = index.shape
    chosen, order = index.flatten().sort(stable=True)  # (T*K,)
    member = chosen.unsqueeze(1) == torch.arange(experts.num_experts, device=index.device)  # (T*K, E)
    offsets = member.sum(0).cumsum(0).to(torch.int32)  # (E,)
    member = member.to(dtype)

    def linear(rows, weight, bias):
        product = _grouped_mm(rows, weight.to(dtype).transpose(1, 2), offsets)
        return torch.addmm(product, member, bias.to(dtype))

    rows = hidden_states.index_select(0, order // number).to(dtype)  # (T*K, D)
    rows = experts.act_fn(linear(rows, experts.up_proj, experts.up_proj_bias))  # (T*K, I)
    rows = linear(rows, experts.down_proj, experts.down_proj_bias)  # (T*K, D)
    rows = rows * weights.flatten().index_select(0, order).unsqueeze(1).to(dtype)
    back = torch.empty_like(order).index_copy(0, order, torch.arange(order.shape[0], device=order.device))
    return rows.index_select(0, back).unflatten(0, (count, number)).sum(1)  # (T, D)


EXPERTS_FUNCTIONS = ExpertsInterface()
EXPERTS_FUNCTIONS["grouped_mm"] = _grouped_experts


@use_experts_implementation(experts_interface=EXPERTS_FUNCTIONS, has_gate=False, has_bias=True)
class ClippoExperts(nn.Module):
    """E MLPs as stacked parameters, so that an expert without tokens has a gradient of zero and not none.

    `model.set_experts_implementation` chooses how they are computed: "grouped_mm" (the default), "batched_mm", or
    "eager", which computes all experts for all tokens.

    Example:
        >>> from clippo import ClippoConfig
        >>> experts = ClippoExperts(ClippoConfig.from_preset("Ti/16", num_experts=4))
        >>> experts.up_proj.shape
        torch.Size([4, 768, 192])
    """

    def __init__(self, config):
        super().__init__()
        experts, width, inner = config.num_experts, config.hidden_size, config.intermediate_size
        self.num_experts = experts
        self.act_fn = ACT2FN[config.hidden_act]
        self.up_proj = nn.Parameter(torch.empty(experts, inner, width))
        self.up_proj_bias = nn.Parameter(torch.empty(experts, inner))
        self.down_proj = nn.Parameter(torch.empty(experts, width, inner))
        self.down_proj_bias = nn.Parameter(torch.empty(experts, width))

    def forward(
        self, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
    ) -> torch.Tensor:
        """(T, D) with experts and weights (T, K) -> (T, D)"""
        return self.every_expert(hidden_states, top_k_index, top_k_weights)

    def every_expert(self, hidden_states: torch.Tensor, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """As `forward`, with E times the work and without a shape that depends on the data, for exported models."""
        gates = weights.new_zeros(index.shape[0], self.num_experts).scatter(1, index, weights)  # (T, E)
        output = torch.zeros_like(hidden_states)
        for expert, gate in enumerate(gates.unbind(1)):
            inner = self.act_fn(F.linear(hidden_states, self.up_proj[expert], self.up_proj_bias[expert]))
            product = F.linear(inner, self.down_proj[expert], self.down_proj_bias[expert])
            output = output + product * gate.unsqueeze(1).to(product.dtype)
        return output


class ClippoRouter(nn.Linear):
    """Logits over the experts, in float32 also under autocast. There is no bias.

    Example:
        >>> from clippo import ClippoConfig
        >>> router = ClippoRouter(ClippoConfig.from_preset("Ti/16", num_experts=4))
        >>> router(torch.zeros(5, 192)).shape
        torch.Size([5, 4])
    """

    def __init__(self, config):
        super().__init__(config.hidden_size, config.num_experts, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., D) -> (..., E)"""
        dtype = torch.promote_types(hidden_states.dtype, torch.float32)
        with maybe_autocast(hidden_states.device.type, enabled=False):
            return F.linear(hidden_states.to(dtype), self.weight.to(dtype))


class ClippoSparseMLP(nn.Module):
    """Router and experts in the place of `ClippoMLP`.

    Args:
        config: Model config.

    Example:
        >>> from clippo import ClippoConfig
        >>> mlp = ClippoSparseMLP(ClippoConfig.from_preset("Ti/16", num_experts=4))
        >>> mlp.router.weight.shape
        torch.Size([4, 192])
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.router = ClippoRouter(config)
        self.experts = ClippoExperts(config)
        self.noise_std = config.router_noise_std / config.num_experts

    def forward(
        self, hidden_states: torch.Tensor, groups: TokenGroups | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Apply the experts that the router chooses.

        Args:
            hidden_states: (..., D), in all T tokens.
            groups: Layout of the tokens. None: one group without padding.

        Returns:
            (..., D), and the statistics of the router (2, 3 + 3 E), if the groups ask for them.
        """
        logits = self.router(hidden_states).flatten(0, -2)  # (T, E)
        noisy = logits
        if self.training and self.noise_std:
            noisy = logits + self.noise_std * torch.randn_like(logits)
        gates = noisy.softmax(-1)
        weights, index = best_experts(gates, self.config.num_experts_per_tok)
        if self.training and self.config.expert_capacity_factor is not None:
            weights = weights * self._kept(index, gates, groups)
        if groups is not None and groups.real is not None:
            weights = weights * groups.real.unsqueeze(1)
        compute = self.experts.every_expert if is_exporting() else self.experts
        output = compute(hidden_states.flatten(0, -2), index, weights).view(hidden_states.shape)
        if groups is None or not groups.with_statistics:
            return output, None
        noise = (None, 0.0) if noisy is logits else (noisy, self.noise_std)
        return output, token_statistics(logits, index, groups, *noise)

    def _kept(self, index: torch.Tensor, gates: torch.Tensor, groups: TokenGroups | None) -> torch.Tensor:
        """bool (T, K), False for a choice that its expert drops. Each group of tokens has buffers of its own."""
        config, sizes = self.config, (len(index),) if groups is None else groups.sizes
        real = [None] * len(sizes) if groups is None or groups.real is None else groups.real.split(sizes)
        kept = []
        for own_index, own_gates, own_real in zip(index.split(sizes), gates.split(sizes), real, strict=True):
            places = buffer_places(own_index, own_gates, config.expert_batch_priority, own_real)
            tokens = len(own_index) if own_real is None else int(own_real.sum())
            capacity = expert_capacity(
                tokens, config.num_experts_per_tok, config.num_experts, config.expert_capacity_factor
            )
            kept.append(places < capacity)
        return torch.cat(kept)


__all__ = ["ClippoExperts", "ClippoRouter", "ClippoSparseMLP", "best_experts", "buffer_places", "expert_capacity"]
