"""Transformer blocks and pooling head: attention, MLP, pre-LN block, encoder, MAP head.

Axes: B batch, T tokens, D width, H heads, K = D/H.
"""

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS


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
        **kwargs,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        sources = hidden_states if key_value_states is None else key_value_states

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


class ClippoMLP(nn.Module):
    """D -> intermediate -> D."""

    def __init__(self, config):
        super().__init__()
        self.activation = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation(self.fc1(hidden_states)))


class ClippoEncoderLayer(GradientCheckpointingLayer):
    """One pre-LN block. LayerNorm comes before each branch; the residual stream itself is not normalised."""

    def __init__(self, config):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = ClippoAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = ClippoMLP(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        modality: str = "image",
        **kwargs,
    ) -> torch.Tensor:
        """(B, T, D) -> (B, T, D). All parameters are shared, so `modality` changes nothing here."""
        attended, _ = self.self_attn(self.layer_norm1(hidden_states), attention_mask, **kwargs)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))  # (B, T, D)


class ClippoEncoder(nn.Module):
    """The stack of blocks. The final LayerNorm follows in the tower."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList([ClippoEncoderLayer(config) for _ in range(config.num_hidden_layers)])

    def forward(
        self,
        hidden_states: torch.Tensor,
        padding_mask: torch.Tensor | None = None,
        modality: str = "image",
        **kwargs,
    ) -> torch.Tensor:
        """Apply all blocks.

        Args:
            hidden_states: (B, T, D).
            padding_mask: bool (B, T), False for tokens that no token attends to. None means that there is no padding.
            modality: "image" or "text", the same for the whole batch.
            kwargs: Options of the attention function.
        """
        mask = create_bidirectional_mask(self.config, inputs_embeds=hidden_states, attention_mask=padding_mask)
        for layer in self.layers:
            hidden_states = layer(hidden_states, mask, modality, **kwargs)
        return hidden_states


class ClippoAttentionPoolingHead(nn.Module):
    """MAP head: one learned query attends to all tokens, and an MLP follows.

    It differs from a transformer block in two ways. The attention output has no residual from the query, and keys and
    values have no LayerNorm of their own (big_vision `models/vit.py`, `MAPHead`).
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.probe = nn.Parameter(torch.empty(1, 1, config.hidden_size))
        self.attention = ClippoAttention(config)
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = ClippoMLP(config)

    def forward(self, hidden_states: torch.Tensor, padding_mask: torch.Tensor | None = None) -> torch.Tensor:
        """(B, T, D) -> (B, D)"""
        probe = self.probe.expand(hidden_states.shape[0], -1, -1)  # (B, 1, D)
        mask = create_bidirectional_mask(
            self.config, inputs_embeds=probe, attention_mask=padding_mask, encoder_hidden_states=hidden_states
        )
        pooled, _ = self.attention(probe, mask, key_value_states=hidden_states)
        pooled = pooled + self.mlp(self.layernorm(pooled))
        return pooled[:, 0]
