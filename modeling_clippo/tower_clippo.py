"""ClippoVisionModel, the vision transformer that embeds images and rendered text, and the base class of all models."""

import inspect
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from .attention_clippo import ClippoAttention, dense_kernels
from .configuration_clippo import ClippoConfig
from .embeddings_clippo import ClippoEmbeddings
from .encoder_clippo import ClippoAttentionPoolingHead, ClippoEncoder, ClippoEncoderLayer
from .experts_clippo import ClippoRouter
from .grid_clippo import GridFeaturesMixin
from .image_branch_clippo import BranchState, image_branch
from .initialization_clippo import initialize_tower_module
from .modality_clippo import layer_norm, normalize_tokens
from .model_card_clippo import model_card
from .packing_clippo import MODALITIES, Part
from .pixels_clippo import as_pixels, is_exporting

OPTIONS = (
    "output_hidden_states",
    "output_attentions",
    "output_router_logits",
    "return_dict",
)  # keywords of every forward pass


def closed_keywords(method: Callable) -> Callable:
    """Limit the keywords of a method to its arguments and `OPTIONS`. A keyword that is None is dropped.

    Generic callers such as PEFT pass `attention_mask=None` and other arguments of text models.
    """
    parameters = inspect.signature(method).parameters.values()
    taken = [p.name for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD] + list(OPTIONS)

    @wraps(method)
    def wrapper(self, *args, **kwargs):
        kwargs = {name: value for name, value in kwargs.items() if value is not None}
        unknown = [name for name in kwargs if name not in taken]
        if unknown:
            raise TypeError(
                f"{type(self).__name__}.{method.__name__} does not take {', '.join(unknown)}; pass only "
                f"{', '.join(taken)}. It needs no mask: blank patches are found in the pixel values."
            )
        return method(self, *args, **kwargs)

    return wrapper


@dataclass
class ClippoVisionOutput(BaseModelOutputWithPooling):
    """Output of the tower. B canvases, N patches, D = config.hidden_size.

    Args:
        last_hidden_state: (B, N, D) after the final LayerNorm, in reading order, zero where a patch was skipped.
        pooler_output: (B, D), output of the pooling head before the projection (`pre_logits` in big_vision).
        hidden_states: Output of the embeddings and of each block, (B, N, D), if asked for. When blank patches are
            skipped they are (B, M, D), the kept patches of each canvas in reading order and then padding.
        attentions: (B, heads, N, N) or (B, heads, M, M) of each block, if asked for.
        kept_patches: bool (B, N), True for the patches that were computed. None when no patch was skipped.
        router_logits: float32 (B, N, E) or (B, M, E) of each block with experts, if asked for.

    Example:
        >>> import clippo, torch
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32)
        >>> tower = clippo.ClippoVisionModel(config).eval()
        >>> canvas = clippo.ClippoTokenizer(canvas_size=32)("i", return_tensors="pt")["text_pixel_values"]
        >>> tower(canvas, modality="text").kept_patches.tolist()
        [[True, False, False, False]]
    """

    kept_patches: torch.Tensor | None = None
    router_logits: tuple[torch.Tensor, ...] | None = None

    def to_tuple(self) -> tuple[Any, ...]:
        """The fields that are not None, in the order of their definition."""
        return tuple(self[field.name] for field in fields(self) if field.name in self)


class ClippoPreTrainedModel(GridFeaturesMixin, PreTrainedModel):
    """Base class of all CLIPPO models: loading, saving, initialisation, features of transformers that they support.

    A new head derives from it and holds its tower as `vision_model`, so that it loads the weights of any checkpoint.

    Args:
        config: Model config.

    Example:
        >>> import clippo
        >>> from clippo.modeling_clippo import ClippoPreTrainedModel
        >>> from torch import nn
        >>> class Head(ClippoPreTrainedModel):
        ...     def __init__(self, config):
        ...         super().__init__(config)
        ...         self.vision_model = clippo.ClippoVisionModel._from_config(config)
        ...         self.score = nn.Linear(config.hidden_size, 1)
        ...         self.post_init()
        >>> Head(clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32)).score.bias.item()
        0.0
    """

    config_class = ClippoConfig
    config: ClippoConfig
    base_model_prefix = "vision_model"  # heads and ClippoModel hold the tower under this name: weights load across
    main_input_name = "pixel_values"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["ClippoEmbeddings", "ClippoEncoderLayer", "ClippoAttentionPoolingHead"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True  # not with skip_blank_patches: the number of kept patches depends on the data
    _input_embed_layer = "patch_embedding"
    _can_record_outputs = {
        "hidden_states": ClippoEncoderLayer,
        # The layer name keeps the pooling head's attention, which is of another shape, out of the list.
        "attentions": OutputRecorder(ClippoAttention, index=1, layer_name="self_attn"),
        "router_logits": ClippoRouter,
    }
    # The losses are means over the batch. Trainer must not divide them by a number of items, or gradient accumulation
    # is wrong.
    accepts_loss_kwargs = False

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        # The default reads the source of this module, finds no decorator, and chooses the slow "eager" in silence.
        return True

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """Load as in transformers, and refuse weights that are not finite.

        Raises:
            ValueError: A weight is NaN or infinite. Pipelines would answer with NaN scores.
        """
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # with output_loading_info
        damaged = [name for name, parameter in model.named_parameters() if not _is_finite(parameter)]
        if damaged:
            raise ValueError(
                f"{len(damaged)} weights of {model.config.name_or_path} are not finite, {damaged[0]} among them; the "
                "training diverged or the file is damaged. Load an earlier checkpoint."
            )
        return loaded

    def save_pretrained(self, save_directory: str | os.PathLike, is_main_process: bool = True, *args, **kwargs):
        """Save as in transformers. A folder without README.md also gets a model card."""
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)
        readme = Path(save_directory) / "README.md"
        if is_main_process and not readme.exists():
            readme.write_text(self._model_card(), encoding="utf-8")

    def _upload_modified_files(self, working_dir: str | os.PathLike, *args, **kwargs):
        # Pushing replaces the card by a generated one; a card that was written by hand on the hub is kept.
        readme = Path(working_dir) / "README.md"
        if readme.exists() and "automatically generated" in readme.read_text(encoding="utf-8"):
            readme.write_text(self._model_card(), encoding="utf-8")
        return super()._upload_modified_files(working_dir, *args, **kwargs)

    def compile_blocks(self, **options) -> None:
        """Compile the blocks and the pooling head for sequences of any length (`torch.compile` with dynamic=True).

        The blocks share one graph. Nothing is compiled again when the number of tokens changes.

        Args:
            options: Of `torch.compile`, such as `mode` or `backend`.
        """
        for module in self.modules():
            if isinstance(module, (ClippoEncoderLayer, ClippoAttentionPoolingHead)):
                module.compile(dynamic=True, **options)

    def _model_card(self) -> str:
        return model_card(type(self).__name__, self.config, self.num_parameters())

    def _initialize_weights(self, module: nn.Module, is_custom_code: bool = False):
        # For classes outside transformers the default skips every module without parameters of its own, and attention,
        # whose parameters belong to its linear layers, would keep their plain normal initialisation. The default
        # guards against code that overwrites loaded weights; `_init_weights` below uses functions that cannot.
        super()._initialize_weights(module)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module):
        """Apply the official initialisation."""
        super()._init_weights(module)
        initialize_tower_module(module, self.config.hidden_size)


def _is_finite(parameter: nn.Parameter) -> bool:
    """True if a parameter has finite numbers only. Quantized and offloaded parameters count as finite."""
    floating = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    if type(parameter) is not nn.Parameter or parameter.device.type == "meta" or parameter.dtype not in floating:
        return True
    return bool(parameter.isfinite().all())


class ClippoVisionModel(ClippoPreTrainedModel):
    """The tower: pixel values to tokens to one pooled vector, for images and rendered text alike.

    Args:
        config: Model config.

    Example:
        >>> import clippo, torch
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32)
        >>> output = clippo.ClippoVisionModel(config)(torch.zeros(2, 3, 32, 32))
        >>> output.last_hidden_state.shape, output.pooler_output.shape
        (torch.Size([2, 4, 192]), torch.Size([2, 192]))
    """

    input_modalities = ("image",)

    def __init__(self, config: ClippoConfig):
        super().__init__(config)
        self.embeddings = ClippoEmbeddings(config)
        self.encoder = ClippoEncoder(config)
        self.image_branch = image_branch(config)
        self.post_layernorm = layer_norm(config)
        self.head = ClippoAttentionPoolingHead(config)
        self.post_init()

    def train(self, mode: bool = True):
        """Set the mode as in torch. A frozen tower, no parameter of which has a gradient, stays in evaluation mode."""
        return super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))

    @closed_keywords
    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    def forward(
        self,
        pixel_values: torch.Tensor,
        interpolate_pos_encoding: bool = False,
        modality: str = "image",
        router_statistics: list[torch.Tensor] | None = None,
        pooled_only: bool = False,
        **kwargs,
    ) -> ClippoVisionOutput:
        """Embed a batch of images or of rendered texts.

        Args:
            pixel_values: float (B, 3 or 1, H, W) in [-1, 1], uint8 of the same shape, or packed text, int64
                (B, H/16, W/4).
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            modality: "image" or "text". With `config.skip_blank_patches`, patches of text that equal the background
                are skipped. The result for one canvas does not depend on the others in the batch.
            router_statistics: List to which the sums for the router losses are added, one tensor for each block with
                experts. None: they are not computed.
            pooled_only: Return pooled vectors only; tokens are not put back on their canvases.
            kwargs: `output_hidden_states`, `output_attentions` (needs the eager attention), `output_router_logits`,
                `return_dict`.

        Returns:
            `ClippoVisionOutput`.

        Raises:
            ValueError: The modality is not known; the pixel values are not accepted.
        """
        batch = (pixel_values, modality)
        return self.encode([batch], interpolate_pos_encoding, pooled_only, router_statistics, **kwargs)[0]

    def encode(
        self,
        batches: Sequence[tuple[torch.Tensor, str]],
        interpolate_pos_encoding: bool = False,
        pooled_only: bool = False,
        router_statistics: list[torch.Tensor] | None = None,
        **kwargs,
    ) -> list[ClippoVisionOutput]:
        """Embed several batches of images and rendered texts in one pass, as one packed sequence.

        Args:
            batches: Pixel values and their modality, "image" or "text".
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            pooled_only: Return pooled vectors only.
            router_statistics: As in `forward`.
            kwargs: As in `forward`. With hidden states or attentions, batch follows batch, each padded to its longest
                canvas, because hooks record what the blocks compute. So it is in an exported model, and where the
                attention function cannot pack.

        Returns:
            One output for each batch.

        Raises:
            ValueError: There is no canvas; a modality is not known; the pixel values are not accepted.
        """
        unknown = [modality for _, modality in batches if modality not in MODALITIES]
        if unknown:
            raise ValueError(f"modality={unknown[0]!r} is not known; choose {' or '.join(map(repr, MODALITIES))}.")
        backend = self.embeddings.packed_backend()
        if backend is None or is_exporting() or self.records(**kwargs):
            kwargs["router_statistics"] = router_statistics
            return [self._encode_whole(batch, interpolate_pos_encoding, **kwargs) for batch in batches]
        tokens, packed = self.embeddings(batches, interpolate_pos_encoding, backend)
        options = {"router_statistics": router_statistics, "branch": self._branch_of(batches)}
        if len(packed.parts) == 1 and packed.parts[0].place is None:  # one batch of which every patch is computed
            tokens = tokens[0].unflatten(0, (-1, packed.max_patches))  # (B, N, D)
            hidden_states, pooled = self._encode_batch(tokens, None, batches[0][1], **options)
            hidden_states = hidden_states.flatten(0, 1)
        else:
            with self._dense_kernels(tokens):
                hidden_states = self.encoder(tokens, None, None, packed, **options)
            hidden_states = normalize_tokens(self.post_layernorm, hidden_states, None, packed)  # (1, T, D)
            pooled = self.head(hidden_states, packed=packed)
            hidden_states = hidden_states[0]
        pooled = pooled.split([part.canvases for part in packed.parts])
        hidden_states = hidden_states.split([part.tokens for part in packed.parts])
        return [
            self._output(part, states, vectors, pooled_only)
            for part, states, vectors in zip(packed.parts, hidden_states, pooled, strict=True)
        ]

    def records(self, **kwargs) -> bool:
        """Return True if hidden states, attentions or router logits are asked for, by keyword or by the config."""
        names = ("output_hidden_states", "output_attentions", "output_router_logits")
        return any(kwargs.get(name, getattr(self.config, name)) for name in names)

    @torch.no_grad()
    def count_patches(self, batches: Sequence[tuple[torch.Tensor, str]]) -> torch.Tensor:
        """int64 (B,), the patches that `encode` computes of each canvas in all batches."""
        return torch.cat([self.embeddings.count_patches(values, modality) for values, modality in batches])

    def _encode_batch(
        self, tokens: torch.Tensor, padding_mask: torch.Tensor | None, modality: str, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, M, D) -> hidden states (B, M, D) and pooled vectors (B, D)."""
        # A kernel of cuDNN is prepared for one shape. Padded batches have many.
        with self._dense_kernels(tokens) if padding_mask is None else nullcontext():
            hidden_states = self.encoder(tokens, padding_mask, modality, **kwargs)
        hidden_states = normalize_tokens(self.post_layernorm, hidden_states, modality, None)
        return hidden_states, self.head(hidden_states, padding_mask, modality=modality)

    def _dense_kernels(self, tokens: torch.Tensor) -> AbstractContextManager:
        """Context of the encoder, see `dense_kernels`."""
        # Checkpointing computes a block again outside the context, and must choose the same kernel.
        checkpointing = any(getattr(layer, "gradient_checkpointing", False) for layer in self.encoder.modules())
        if is_exporting() or checkpointing:
            return nullcontext()
        return dense_kernels(tokens.device, self.embeddings.compute_dtype())

    def _branch_of(self, batches: Sequence[tuple[torch.Tensor, str]]) -> BranchState | None:
        """Maps of the images of one pass. None without a branch."""
        if self.image_branch is None:
            return None
        channels = self.config.num_channels
        return BranchState(self.image_branch, [as_pixels(v, channels) if m == "image" else None for v, m in batches])

    def _encode_whole(
        self, batch: tuple[torch.Tensor, str], interpolate_pos_encoding: bool, **kwargs
    ) -> ClippoVisionOutput:
        """Output for one batch, padded to its longest canvas."""
        backend = "static" if is_exporting() else "whole"
        tokens, packed = self.embeddings([batch], interpolate_pos_encoding, backend=backend)
        group = packed.groups[0]
        mask = None if group.mask is None else group.mask[:, 0, 0] == 0  # bool (B, M)
        tokens = tokens[0].unflatten(0, (-1, group.width))
        hidden_states, pooled = self._encode_batch(tokens, mask, batch[1], branch=self._branch_of([batch]), **kwargs)
        return self._output(packed.parts[0], hidden_states.flatten(0, 1), pooled)

    def _output(
        self, part: Part, hidden_states: torch.Tensor, pooled: torch.Tensor, pooled_only: bool = False
    ) -> ClippoVisionOutput:
        """Output for one part of a packed sequence: hidden states (tokens, D) and pooled vectors (canvases, D)."""
        if part.restore is not None:
            pooled = pooled[part.restore.to(pooled.device)]
        if pooled_only:
            return ClippoVisionOutput(pooler_output=pooled)
        if part.place is not None:
            place = part.place.to(hidden_states.device)
            if part.real is not None:
                real = part.real.to(place.device)
                place, hidden_states = place[real], hidden_states[real]
            rows = part.canvases * part.patches
            hidden_states = hidden_states.new_zeros(rows, hidden_states.shape[-1]).index_copy(0, place, hidden_states)
        hidden_states = hidden_states.unflatten(0, (-1, part.patches))  # (B, N, D)
        if part.place is None and part.kept is not None:
            hidden_states = hidden_states.masked_fill(~part.kept.unsqueeze(-1), 0)
        return ClippoVisionOutput(last_hidden_state=hidden_states, pooler_output=pooled, kept_patches=part.kept)


__all__ = ["ClippoPreTrainedModel", "ClippoVisionModel", "ClippoVisionOutput"]
