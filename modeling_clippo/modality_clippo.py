"""Parameters that know the modality: LayerNorms and first blocks, one of each for images and for texts (MS-CLIP).

The modality says how a canvas was made, and not what it shows: a photograph of a page is an image. It is a Python
constant of a call, or a split of the packed sequence. No tensor holds it.

A modality that is absent from a training step runs once on one token, times zero. Its parameters then have gradients of
zero, and data parallelism finds no unused parameter.

Source: MS-CLIP (arXiv 2207.12661), which shares attention and MLP and keeps LayerNorms and the first block apart.
"""

import torch
from torch import nn

from .packing_clippo import MODALITIES, PackedSequence, split_by_modality


def layer_norm(config) -> nn.Module:
    """A LayerNorm of the tower: one for both modalities, or a pair with `modality_norms`."""
    if config.modality_norms:
        return ClippoModalityNorm(config)
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


def normalize_tokens(
    norm: nn.Module, hidden_states: torch.Tensor, modality: str | None, packed: PackedSequence | None, pooled=False
) -> torch.Tensor:
    """Apply a LayerNorm to (B, T, D) of one modality, or to (1, T, D) of a packed sequence; pooled: (1, B, D)."""
    if not isinstance(norm, ClippoModalityNorm):
        return norm(hidden_states)
    if packed is None:
        return norm(hidden_states, ((modality, hidden_states.shape[1]),))
    return norm(hidden_states, tuple((p.modality, p.canvases if pooled else p.tokens) for p in packed.parts))


def add_nothing(hidden_states: torch.Tensor, absent: torch.Tensor) -> torch.Tensor:
    """Add zero times the output of an absent module, so that its parameters have gradients of zero."""
    return hidden_states + 0 * absent.sum().to(hidden_states.dtype)


class ClippoModalityNorm(nn.ModuleDict):
    """A LayerNorm for images and one for texts.

    Args:
        config: Model config.

    Example:
        >>> from clippo import ClippoConfig
        >>> norm = ClippoModalityNorm(ClippoConfig.from_preset("Ti/16"))
        >>> norm(torch.zeros(1, 9, 192), (("image", 4), ("text", 5))).shape
        torch.Size([1, 9, 192])
    """

    def __init__(self, config):
        super().__init__({m: nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) for m in MODALITIES})

    def forward(self, hidden_states: torch.Tensor, spans: tuple[tuple[str, int], ...]) -> torch.Tensor:
        """Normalise (B, T, D). The spans are modality and number of rows along the second axis."""
        if len(spans) == 1:
            output = self[spans[0][0]](hidden_states)
        else:
            parts = hidden_states.split([size for _, size in spans], 1)
            output = torch.cat([self[kind](part) for (kind, _), part in zip(spans, parts, strict=True)], 1)
        if self.training and torch.is_grad_enabled():
            for modality in set(MODALITIES) - {kind for kind, _ in spans}:
                output = add_nothing(output, self[modality](hidden_states.new_zeros(1, hidden_states.shape[-1])))
        return output


class ClippoModalityLayer(nn.ModuleDict):
    """A block for images and one for texts. Where images have a convolutional stem, the text block alone.

    Args:
        layers: Modality -> block.

    Example:
        >>> layer = ClippoModalityLayer({"image": nn.Identity(), "text": nn.Identity()})
        >>> sorted(layer)
        ['image', 'text']
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        modality: str | None = "image",
        packed: PackedSequence | None = None,
        **kwargs,
    ) -> torch.Tensor:
        """As a block: (B, T, D) -> (B, T, D), or (1, T, D) -> (1, T, D) for a packed sequence."""
        if packed is None:
            present = {modality}
            output = self._run(modality, hidden_states, attention_mask, modality, None, **kwargs)
        else:
            parts = split_by_modality(packed)
            present = {part.parts[0].modality for part in parts}
            slices = hidden_states.split([sum(p.tokens for p in part.parts) for part in parts], 1)
            outputs = [
                self._run(part.parts[0].modality, states, attention_mask, None, part, **kwargs)
                for part, states in zip(parts, slices, strict=True)
            ]
            output = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)
        # A recording hook would take the extra run for a block of its own.
        recording = any(kwargs.get(name) for name in ("output_hidden_states", "output_attentions"))
        if self.training and torch.is_grad_enabled() and not recording:
            token = hidden_states.new_zeros(1, 1, hidden_states.shape[-1])
            for kind in self.keys() - present:
                output = add_nothing(output, self[kind](token, None, kind, None))
        return output

    def _run(self, kind: str, hidden_states: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        return self[kind](hidden_states, *args, **kwargs) if kind in self else hidden_states


__all__ = ["ClippoModalityLayer", "ClippoModalityNorm", "layer_norm", "normalize_tokens"]
