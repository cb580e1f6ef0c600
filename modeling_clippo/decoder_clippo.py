"""The decoder: causal blocks that attend to the tokens of the tower and predict the next byte.

Axes: B batch, L ids, M tokens of the tower, D width, H heads, K = D/H, V ids of the alphabet.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention_clippo import ClippoAttention, eager_attention_forward
from .configuration_clippo import ClippoConfig
from .encoder_clippo import ClippoMLP
from .labels_clippo import check_ids
from .tower_clippo import ClippoPreTrainedModel


class ClippoDecoderAttention(ClippoAttention):
    """Attention with a cache of keys and values.

    Without `key_value_states` it is causal and its cache grows with each id. Keys and values of the tower's tokens are
    computed once.
    """

    def __init__(self, config, layer: int):
        super().__init__(config)
        self.layer = layer

    def forward(
        self,
        hidden_states: torch.Tensor,
        mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, L, D) -> (B, L, D), and attention weights if the config says "eager".

        Args:
            hidden_states: (B, L, D).
            mask: bool, broadcast to (B, H, L, keys), True where a query sees a key. None means causal for
                self-attention and no mask for the tower's tokens.
            key_value_states: (B, M, D), tokens of the tower, or None for self-attention.
            past_key_values: Cache, which is changed in place.
        """
        query = self._split(self.q_proj(hidden_states))
        key, value = self._keys_and_values(hidden_states, key_value_states, past_key_values)
        dropout = self.dropout if self.training else 0.0
        causal = mask is None and key_value_states is None and query.shape[2] > 1
        if self.config._attn_implementation != "eager":  # other kernels expect one length of queries and keys
            output = F.scaled_dot_product_attention(query, key, value, mask, dropout, causal, scale=self.scaling)
            return self.out_proj(output.transpose(1, 2).flatten(2)), None
        if causal:
            mask = causal_mask(query.shape[2], 0, None, query.device)
        if mask is not None:
            mask = torch.where(mask, 0.0, -torch.inf).to(query.dtype)
        output, weights = eager_attention_forward(self, query, key, value, mask, self.scaling, dropout)
        return self.out_proj(output.flatten(2)), weights

    def _split(self, states: torch.Tensor) -> torch.Tensor:
        """(B, L, D) -> (B, H, L, K)"""
        return states.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def _keys_and_values(
        self, hidden_states: torch.Tensor, others: torch.Tensor | None, past_key_values: EncoderDecoderCache | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values (B, H, keys, K), from the cache as far as it has them."""
        crosses = others is not None
        cache = None
        if past_key_values is not None:
            cache = past_key_values.cross_attention_cache if crosses else past_key_values.self_attention_cache
            if crosses and past_key_values.is_updated.get(self.layer):
                return cache.layers[self.layer].keys, cache.layers[self.layer].values
        sources = others if crosses else hidden_states
        key, value = self._split(self.k_proj(sources)), self._split(self.v_proj(sources))
        if cache is not None:
            key, value = cache.update(key, value, self.layer)
            if crosses:
                past_key_values.is_updated[self.layer] = True
        return key, value


class ClippoDecoderLayer(GradientCheckpointingLayer):
    """One pre-LN block: causal self-attention, attention to the tower's tokens, MLP."""

    def __init__(self, config, layer: int):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = ClippoDecoderAttention(config, layer)
        self.layer_norm_cross = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.cross_attn = ClippoDecoderAttention(config, layer)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = ClippoMLP(config)

    def forward(
        self,
        hidden_states: torch.Tensor,
        tower_states: torch.Tensor,
        mask: torch.Tensor | None = None,
        tower_mask: torch.Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
    ) -> torch.Tensor:
        """(B, L, D) and tokens of the tower (B, M, D) -> (B, L, D)"""
        attended, _ = self.self_attn(self.layer_norm1(hidden_states), mask, past_key_values=past_key_values)
        hidden_states = hidden_states + attended
        queries = self.layer_norm_cross(hidden_states)
        attended, _ = self.cross_attn(queries, tower_mask, tower_states, past_key_values)
        hidden_states = hidden_states + attended
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))  # (B, L, D)


def causal_mask(length: int, past: int, padding: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    """Make the mask of causal self-attention, with `past` ids in the cache.

    Args:
        length: L, number of queries.
        past: Number of ids before them.
        padding: (B, past + L), 0 or False for ids that no other id sees. None: every id counts.
        device: Device of the mask.

    Returns:
        bool (1 or B, 1, L, past + L). Every id sees itself, so that no row is empty.
    """
    rows = torch.arange(past, past + length, device=device)[:, None]
    columns = torch.arange(past + length, device=device)
    mask = (columns <= rows)[None, None]  # (1, 1, L, past + L)
    return mask if padding is None else mask & (padding.bool()[:, None, None] | (columns == rows))


class ClippoDecoder(ClippoPreTrainedModel):
    """Byte embedding, learned positions, blocks and final LayerNorm. The embedding is also the output layer.

    Args:
        config: Model config, with `num_decoder_layers` of 1 or more.

    Example:
        >>> import clippo, torch
        >>> from clippo.modeling_clippo import ClippoDecoder
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_decoder_layers=1)
        >>> decoder = ClippoDecoder(config).eval()
        >>> states = decoder(torch.tensor([[0, 104, 108]]), torch.zeros(1, 4, 192)).last_hidden_state
        >>> decoder.logits(states).shape
        torch.Size([1, 3, 384])
    """

    base_model_prefix = "decoder"
    main_input_name = "input_ids"
    input_modalities = ("text",)
    _can_record_outputs = {
        "hidden_states": ClippoDecoderLayer,
        "attentions": OutputRecorder(ClippoDecoderAttention, index=1, layer_name="self_attn"),
        "cross_attentions": OutputRecorder(ClippoDecoderAttention, index=1, layer_name="cross_attn"),
    }

    def __init__(self, config: ClippoConfig):
        super().__init__(config)
        self.embedding = nn.Embedding(config.decoder_vocab_size, config.hidden_size)
        self.position_embedding = nn.Parameter(torch.empty(1, config.decoder_max_length, config.hidden_size))
        self.layers = nn.ModuleList([ClippoDecoderLayer(config, i) for i in range(config.num_decoder_layers)])
        self.final_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        super()._init_weights(module)
        if module is self:
            init.normal_(self.embedding.weight, std=self.config.hidden_size**-0.5)
            init.normal_(self.position_embedding, std=self.config.hidden_size**-0.5)

    @merge_with_config_defaults
    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor,
        tower_states: torch.Tensor,
        tower_mask: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """Compute the states from which the next ids are predicted.

        Args:
            input_ids: int64 (B, L). The first one is the start id.
            tower_states: (B, M, D), tokens of the tower.
            tower_mask: bool (B, M), True for tokens that exist. None: all of them.
            attention_mask: (B, past + L), 0 for ids that are padding, or a bool mask (B, 1, L, keys).
            past_key_values: Cache of the ids before these.
            use_cache: Return a cache.
            kwargs: `output_hidden_states`, `output_attentions` (needs the eager attention), `return_dict`.

        Raises:
            ValueError: There are more ids than positions.
        """
        if use_cache and past_key_values is None and not self.training:
            past_key_values = EncoderDecoderCache(DynamicCache(), DynamicCache())
        past = 0 if past_key_values is None else int(past_key_values.get_seq_length())
        length = input_ids.shape[1]
        if past + length > self.config.decoder_max_length:
            raise ValueError(
                f"{past + length} ids do not fit into decoder_max_length={self.config.decoder_max_length}; cut the "
                "labels, generate fewer ids, or make a model with a larger decoder_max_length."
            )
        hidden_states = self.embedding(input_ids) + self.position_embedding[:, past : past + length]  # (B, L, D)
        mask = attention_mask if attention_mask is not None and attention_mask.ndim == 4 else None
        if mask is None and (attention_mask is not None or (past and length > 1)):
            mask = causal_mask(length, past, attention_mask, input_ids.device)
        tower_mask = None if tower_mask is None else tower_mask[:, None, None]  # (B, 1, 1, M)
        for layer in self.layers:
            hidden_states = layer(hidden_states, tower_states, mask, tower_mask, past_key_values=past_key_values)
        return BaseModelOutputWithPastAndCrossAttentions(
            last_hidden_state=self.final_layernorm(hidden_states),
            past_key_values=past_key_values if use_cache else None,
        )

    def logits(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., D) -> float32 (..., V), by the transposed embedding."""
        return F.linear(hidden_states, self.embedding.weight).float()


def shift_right(labels: torch.Tensor, config: ClippoConfig) -> torch.Tensor:
    """Make decoder inputs of labels int64 (B, L): the start id, then all labels but the last. -100 becomes the start.

    Raises:
        ValueError: A label is not an id of the decoder.
    """
    check_ids(labels, config.decoder_vocab_size)
    start = config.pad_token_id
    return F.pad(labels[:, :-1], (1, 0), value=start).masked_fill(F.pad(labels[:, :-1], (1, 0)) == -100, start)


def byte_loss(logits: torch.Tensor, labels: torch.Tensor, num_items: torch.Tensor | int | None = None) -> torch.Tensor:
    """Compute the cross-entropy of the next ids, a mean over all ids of the batch whose label is not -100.

    A long text therefore weighs more than a short one. big_vision's PaliGemma first averages over the ids of each text
    (`trainers/proj/paligemma/train.py`), so that every text weighs the same.

    Args:
        logits: float32 (B, L, V).
        labels: int64 (B, L), -100 for ids that do not count.
        num_items: Number of labels to divide by, over all batches of a step that accumulates gradients. None: those of
            this batch. Without any label the loss is 0.

    Example:
        >>> import torch
        >>> loss = byte_loss(torch.zeros(1, 3, 4), torch.tensor([[1, 2, -100]]))
        >>> round(loss.item(), 3)  # log 4
        1.386
    """
    labels = labels.to(logits.device)
    total = F.cross_entropy(logits.flatten(0, 1), labels.flatten().long(), ignore_index=-100, reduction="sum")
    if num_items is None:
        num_items = (labels != -100).sum().clamp(min=1)
    elif isinstance(num_items, torch.Tensor):
        num_items = num_items.to(total.device)
    return total / num_items


__all__ = ["ClippoDecoder"]
