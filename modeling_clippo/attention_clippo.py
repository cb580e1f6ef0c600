"""Attention: over whole batches through transformers' interface, and over packed sequences.

Axes: B batch or canvases, T tokens, D width, H heads, K = D/H, M longest canvas of a group.
"""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .packing_clippo import Group, PackedSequence, varlen_attn
from .tiles_clippo import into_tiles, out_of_tiles

# Kernels for whole canvases on a GPU, the fastest first: measured on an H100, cuDNN needs 0.7 times as long as
# FlashAttention 2 for 196 patches.
DENSE_KERNELS = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
# cuDNN would prepare a kernel for each number of tiles, which changes from step to step.
TILE_KERNELS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def dense_kernels(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """Prefer `DENSE_KERNELS` on a GPU in half precision. Enter it around compiled blocks, not within."""
    if device.type != "cuda" or dtype not in (torch.float16, torch.bfloat16):
        return nullcontext()
    return sdpa_kernel(DENSE_KERNELS, set_priority=True)


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
    weights = F.dropout(weights, p=dropout, training=module.training)
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
    if packed.groups:
        return _grouped_attention(module, query, key, value, packed.groups, pooling, dropout)
    key_offsets = query_offsets = packed.cu_seqlens
    longest_key = longest_query = packed.max_patches
    if pooling:
        query_offsets = torch.arange(len(key_offsets), dtype=key_offsets.dtype, device=key_offsets.device)
        longest_query = 1
    if packed.backend == "varlen":
        lengths = (query_offsets, key_offsets, longest_query, longest_key)
        return varlen_attn(query, key, value, *lengths, scale=module.scaling)
    flash_attention = ALL_ATTENTION_FUNCTIONS[module.config._attn_implementation]
    output, _ = flash_attention(
        module,
        *(x.transpose(0, 1).unsqueeze(0) for x in (query, key, value)),  # (1, H, T, K)
        None,
        dropout=dropout,
        scaling=module.scaling,
        is_causal=False,
        cu_seq_lens_q=query_offsets,
        cu_seq_lens_k=key_offsets,
        max_length_q=longest_query,
        max_length_k=longest_key,
    )
    return output[0]


def _grouped_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    groups: tuple[Group, ...],
    pooling: bool,
    dropout: float,
) -> torch.Tensor:
    """`attend` with one call for each group."""
    tokens = [group.canvases * group.width if group.tokens is None else group.tokens for group in groups]
    queries = query.split([group.canvases for group in groups] if pooling else tokens)
    outputs = []
    for group, *states in zip(groups, queries, key.split(tokens), value.split(tokens), strict=True):
        if group.tiles is not None:
            outputs.append(_tile_attention(module, *states, group, pooling, dropout))
        elif group.offsets is not None:
            outputs.append(_ragged_attention(module, *states, group, pooling))
        else:
            batch = (x.view(group.canvases, -1, *x.shape[1:]).transpose(1, 2) for x in states)  # (b, H, M, K)
            output = _attention(module, *batch, group.mask, dropout)  # (b, M, H, K)
            outputs.append(output.flatten(0, 1))  # (b*M, H, K)
    return torch.cat(outputs) if len(outputs) > 1 else outputs[0]


def _tile_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    group: Group,
    pooling: bool,
    dropout: float,
) -> torch.Tensor:
    """Attention in tiles. The query of a canvas, where there is one for each, stands at its first token."""
    slot, first, mask = group.tiles
    places = first if pooling else slot
    tiles = (into_tiles(x, at, mask) for x, at in ((query, places), (key, slot), (value, slot)))  # (n, H, C, K)
    with sdpa_kernel(TILE_KERNELS) if query.is_cuda else nullcontext():
        output = _attention(module, *tiles, mask, dropout)  # (n, C, H, K)
    return out_of_tiles(output, places)


def _ragged_attention(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, group: Group, pooling: bool
) -> torch.Tensor:
    """Attention through torch's kernel for ragged sequences."""
    starts, longest = group.offsets, group.width
    if pooling:
        starts, longest = torch.arange(len(starts), dtype=starts.dtype, device=starts.device), 1
    return varlen_attn(query, key, value, starts, group.offsets, longest, group.width, scale=module.scaling)


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    dropout: float,
) -> torch.Tensor:
    """Attention of the config's implementation, eager or SDPA: (b, H, M, K) -> (b, M, H, K)."""
    mask = None if mask is None else mask.to(query.dtype)
    if module.config._attn_implementation == "sdpa":
        output = F.scaled_dot_product_attention(query, key, value, mask, dropout, scale=module.scaling)
        return output.transpose(1, 2)
    return eager_attention_forward(module, query, key, value, mask, scaling=module.scaling, dropout=dropout)[0]


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
            query, key, value = (x.view(x.shape[1], -1, self.head_dim) for x in states)  # (T, H, K), or (B, H, K)
            output = attend(self, query, key, value, packed, pooling=key_value_states is not None)
            return self.out_proj(output.flatten(1).unsqueeze(0)), None

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
