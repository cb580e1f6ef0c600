"""Attention: over whole batches through transformers' interface, and over packed sequences.

Axes: B batch or canvases, T tokens, D width, H heads, K = D/H, M longest canvas of a group.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .packing_clippo import Group, PackedSequence, varlen_attn


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention that also returns its weights. The interface is that of transformers' attention functions."""
    scores = query @ key.transpose(-1, -2) * scaling  # (B, H, Tq, Tk)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(dim=-1, dtype=torch.float32).to(query.dtype)
    weights = nn.functional.dropout(weights, p=dropout, training=module.training)
    return (weights @ value).transpose(1, 2).contiguous(), weights  # (B, Tq, H, K), (B, H, Tq, Tk)


def attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    packed: PackedSequence,
    pooling: bool = False,
) -> torch.Tensor:
    """Compute attention within each canvas of a packed sequence.

    Args:
        module: Attention module, with `scaling`, `dropout` and `config`.
        query: (T, H, K), one for each token; with `pooling` (B, H, K), one for each canvas.
        key: (T, H, K).
        value: (T, H, K).
        packed: Layout of the sequence.
        pooling: Whether there is one query for each canvas.

    Returns:
        Like `query`.
    """
    dropout = module.dropout if module.training else 0.0
    if packed.backend == "padded":
        return _padded_attention(module, query, key, value, packed.groups, pooling, dropout)
    ends, longest = packed.cu_seqlens, 1 if pooling else packed.longest
    starts = torch.arange(len(ends), dtype=ends.dtype, device=ends.device) if pooling else ends
    if packed.backend == "varlen":
        return varlen_attn(query, key, value, starts, ends, longest, packed.longest, scale=module.scaling)
    options = dict(dropout=dropout, scaling=module.scaling, is_causal=False)
    if packed.backend == "flash":
        options |= dict(cu_seq_lens_q=starts, cu_seq_lens_k=ends, max_length_q=longest, max_length_k=packed.longest)
    interface = ALL_ATTENTION_FUNCTIONS[module.config._attn_implementation]
    heads_first = (x.transpose(0, 1).unsqueeze(0) for x in (query, key, value))  # (1, H, T, K)
    return interface(module, *heads_first, packed.block_masks[pooling], **options)[0][0]


def _padded_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    groups: tuple[Group, ...],
    pooling: bool,
    dropout: float,
) -> torch.Tensor:
    """`attend` with one call for each group."""
    widths = [group.canvases * group.width for group in groups]
    queries = query.split([group.canvases for group in groups] if pooling else widths)
    outputs = []
    for group, *states in zip(groups, queries, key.split(widths), value.split(widths), strict=True):
        if group.canvases:
            batch = (x.view(group.canvases, -1, *x.shape[1:]).transpose(1, 2) for x in states)  # (b, H, M, K)
            output = _attention(module, *batch, group.mask, dropout)
            outputs.append(output.transpose(1, 2).flatten(0, 1))  # (b*M, H, K), a view
    return torch.cat(outputs) if len(outputs) > 1 else outputs[0]


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
) -> torch.Tensor:
    """Attention (b, H, M, K) of the config's implementation, eager or SDPA."""
    mask = None if mask is None else mask.to(query.dtype)
    if module.config._attn_implementation == "sdpa":
        return F.scaled_dot_product_attention(query, key, value, mask, dropout, scale=module.scaling)
    output, _ = eager_attention_forward(module, query, key, value, mask, scaling=module.scaling, dropout=dropout)
    return output.transpose(1, 2)


class ClippoAttention(nn.Module):
    """Multi-head attention with biases. Keys and values come from the queries' sequence or from another one."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.scaling = self.head_dim**-0.5
        self.dropout = config.attention_dropout
        self.is_causal = False
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,
        packed: PackedSequence | None = None,
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, T, D), or (1, T, D) with the layout of a packed sequence -> the same shape, and attention weights.

        `key_value_states` of a packed sequence go with one query for each canvas, (1, B, D).
        """
        sources = hidden_states if key_value_states is None else key_value_states
        if packed is not None:
            states = (self.q_proj(hidden_states), self.k_proj(sources), self.v_proj(sources))
            query, key, value = (x.view(x.shape[1], -1, self.head_dim) for x in states)  # (T, H, K)
            output = attend(self, query, key, value, packed, pooling=key_value_states is not None)
            return self.out_proj(output.reshape(1, len(output), -1)), None

        def split(x):  # (B, T, D) -> (B, H, T, K)
            return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

        attention = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        output, weights = attention(
            self,
            split(self.q_proj(hidden_states)),
            split(self.k_proj(sources)),
            split(self.v_proj(sources)),
            attention_mask,
            is_causal=self.is_causal,
            scaling=self.scaling,
            dropout=self.dropout if self.training else 0.0,
            **kwargs,
        )
        return self.out_proj(output.flatten(2)), weights
