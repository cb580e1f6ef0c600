"""Transformer blocks and pooling head: MLP, pre-LN block, encoder, MAP head.

Axes: B batch, T tokens, D width, H heads, K = D/H.
"""

import torch
from torch import nn
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer

from .attention_clippo import ClippoAttention
from .experts_clippo import ClippoSparseMLP
from .image_branch_clippo import BranchState
from .modality_clippo import ClippoModalityLayer, layer_norm, normalize_tokens
from .packing_clippo import MODALITIES, PackedSequence
from .router_losses_clippo import TokenGroups, token_groups


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
    """One pre-LN block. LayerNorm comes before each branch; the residual stream itself is not normalised.

    Args:
        config: Model config.
        experts: Whether experts take the place of the MLP.
    """

    def __init__(self, config, experts: bool = False):
        super().__init__()
        self.layer_norm1 = layer_norm(config)
        self.self_attn = ClippoAttention(config)
        self.layer_norm2 = layer_norm(config)
        self.mlp = ClippoSparseMLP(config) if experts else ClippoMLP(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        modality: str | None = "image",
        packed: PackedSequence | None = None,
        token_groups: TokenGroups | None = None,
        **kwargs,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """(B, T, D) -> (B, T, D), or (1, T, D) -> (1, T, D) for a packed sequence, whose parts have a modality each.

        With experts and token groups that ask for statistics, those of the router come second. `modality` chooses the
        LayerNorms where each modality has its own, and changes nothing else here.
        """
        normalized = normalize_tokens(self.layer_norm1, hidden_states, modality, packed)
        attended, _ = self.self_attn(normalized, attention_mask, packed=packed, **kwargs)
        hidden_states = hidden_states + attended
        normalized = normalize_tokens(self.layer_norm2, hidden_states, modality, packed)
        if not isinstance(self.mlp, ClippoSparseMLP):
            return hidden_states + self.mlp(normalized)  # (B, T, D)
        change, statistics = self.mlp(normalized, token_groups)
        hidden_states = hidden_states + change
        return hidden_states if statistics is None else (hidden_states, statistics)


class ClippoEncoder(nn.Module):
    """A stack of blocks, `num_layers` or those of the tower. The final LayerNorm follows outside."""

    def __init__(self, config, num_layers: int | None = None):
        super().__init__()
        self.config = config
        sparse = config.expert_blocks if num_layers is None else ()
        number = config.num_hidden_layers if num_layers is None else num_layers
        split = config.num_modality_layers if num_layers is None else 0
        layers = [self._modality_layer(config, i) for i in range(split)]
        self.layers = nn.ModuleList(layers + [ClippoEncoderLayer(config, i in sparse) for i in range(split, number)])

    def _modality_layer(self, config, index: int) -> ClippoModalityLayer:
        """A block for each modality. A convolutional stem takes the place of the first block of images."""
        own = [kind for kind in MODALITIES if not (index == 0 and kind == "image" and config.image_stem == "conv")]
        return ClippoModalityLayer({kind: ClippoEncoderLayer(config) for kind in own})

    def forward(
        self,
        hidden_states: torch.Tensor,
        padding_mask: torch.Tensor | None = None,
        modality: str | None = "image",
        packed: PackedSequence | None = None,
        router_statistics: list[torch.Tensor] | None = None,
        branch: BranchState | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """Apply all blocks.

        Args:
            hidden_states: (B, T, D).
            padding_mask: bool (B, T), False for tokens that no token attends to. None means that there is no padding.
            modality: "image" or "text" for the whole batch. None for a packed sequence.
            packed: Layout of a packed sequence, for hidden_states (1, T, D).
            router_statistics: List to which the statistics of each router are added. None: they are not computed.
            branch: Maps of the images that join the tokens before some blocks. None: there is no branch.
            kwargs: Options of the attention function.
        """
        mask = None
        if packed is None:
            mask = create_bidirectional_mask(self.config, inputs_embeds=hidden_states, attention_mask=padding_mask)
        if self.config.num_experts:
            wanted = router_statistics is not None
            kwargs["token_groups"] = token_groups(hidden_states, modality, packed, padding_mask, wanted)
        for index, layer in enumerate(self.layers):
            if branch is not None:
                hidden_states = branch.join(index, hidden_states, packed)
            output = layer(hidden_states, mask, modality, packed, **kwargs)
            hidden_states, *statistics = output if isinstance(output, tuple) else (output,)
            if statistics:
                router_statistics.extend(statistics)
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
        self.layernorm = layer_norm(config)
        self.mlp = ClippoMLP(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        padding_mask: torch.Tensor | None = None,
        packed: PackedSequence | None = None,
        modality: str | None = "image",
    ) -> torch.Tensor:
        """(B, T, D) of one modality, or (1, T, D) with the layout of a packed sequence -> (B, D)"""
        if packed is not None:
            probe = self.probe.expand(-1, packed.canvases, -1)  # (1, B, D)
            pooled, _ = self.attention(probe, key_value_states=hidden_states, packed=packed)
            normalized = normalize_tokens(self.layernorm, pooled, modality, packed, pooled=True)
            return (pooled + self.mlp(normalized))[0]
        probe = self.probe.expand(hidden_states.shape[0], -1, -1)  # (B, 1, D)
        mask = create_bidirectional_mask(
            self.config, inputs_embeds=probe, attention_mask=padding_mask, encoder_hidden_states=hidden_states
        )
        pooled, _ = self.attention(probe, mask, key_value_states=hidden_states)
        pooled = pooled + self.mlp(normalize_tokens(self.layernorm, pooled, modality, None))
        return pooled[:, 0]
