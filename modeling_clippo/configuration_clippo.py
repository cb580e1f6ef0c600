"""ClippoConfig: the shape of one CLIPPO model."""

import math

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

# The size letters of big_vision's `vit.decode_variant`: width, depth, MLP width, heads.
SIZES = {
    "Ti": (192, 12, 768, 3),
    "S": (384, 12, 1536, 6),
    "B": (768, 12, 3072, 12),
    "L": (1024, 24, 4096, 16),
    "H": (1280, 32, 5120, 16),
}

# Which class a folder with remote code opens for each Auto class. transformers itself would remember only the one class
# that was saved; a CLIPPO checkpoint serves all of them, so every config carries the whole map.
AUTO_MAP = {
    "AutoConfig": "configuration_clippo.ClippoConfig",
    "AutoModel": "modeling_clippo.ClippoModel",
    "AutoModelForZeroShotImageClassification": "modeling_clippo.ClippoModel",
    "AutoModelForImageClassification": "modeling_clippo.ClippoForImageClassification",
    "AutoModelForSequenceClassification": "modeling_clippo.ClippoForSequenceClassification",
    "AutoModelForVisualQuestionAnswering": "modeling_clippo.ClippoForVisualQuestionAnswering",
}


@strict
class ClippoConfig(PreTrainedConfig):
    """Configuration of a CLIPPO model; the defaults are the released B/16 (93,474,817 parameters).

    There is one tower, so there is one flat config: no vision or text sub-config.

    Args:
        hidden_size: Width of the tokens.
        intermediate_size: Width of the MLP inside a block and inside the pooling head.
        num_hidden_layers: Number of pre-LN transformer blocks.
        num_attention_heads: Attention heads, of the blocks and of the pooling head alike.
        image_size: Side in pixels of the square canvas, or `[height, width]`. Photographs and rendered text share it.
        patch_size: Side in pixels of a square patch; divides both sides of the canvas.
        num_channels: Channels of the patch projection. One-channel canvases are repeated to this many.
        projection_dim: Width of the embedding that images and texts are compared in.
        hidden_act: Activation of the MLPs. The official model uses Flax's default, GELU in its tanh approximation.
        layer_norm_eps: Epsilon of every LayerNorm (Flax's default, not PyTorch's).
        attention_dropout: Dropout on attention weights while training; 0 officially.
        classifier_dropout: Dropout before every linear layer of the classification heads.
        classifier_hidden_size: Width of a hidden layer in the classification heads; None for a linear head.
        num_text_canvases: Canvases that `ClippoForSequenceClassification` reads as one input. 2: each text of a pair
            has a canvas of its own, as the tokenizer's `pair_layout="two_canvas"` draws them.
        logit_scale_init_value: Initial value of the learned log-temperature; `exp` of it multiplies the cosines.
        logit_scale_max: Bound of that multiplier, None for none as officially (CLIP uses 100). Above it the temperature
            gets no gradient.
        logit_bias_init_value: Initial value of a learned number added to the scaled cosines, None for no such
            parameter. The sigmoid loss needs one; SigLIP starts at -10, with a multiplier of 10.
        loss_type: Contrastive loss over the global batch, "softmax" (CLIPPO's) or "sigmoid" (SigLIP's).
        skip_blank_patches: Leave text patches without ink out of the attention and the pooling, so that a text costs
            what its ink costs. Off for the official checkpoints, which were trained on the blank patches too; on for
            new models, which begin with `from_preset`.
        position_embedding_init: What the learned positions of a new model begin as: "normal", the official random
            numbers, or "sincos2d", in which neighbours begin alike (ours; docs/guides/pretraining.md).
        initializer_range: Standard deviation of new classification heads.
        pad_token_id: Only there so that `Trainer`, which aligns it with the tokenizer, finds nothing to change.

    Source: big_vision `models/vit.py`, `models/proj/clippo/one_tower.py`, `configs/proj/clippo/train_clippo.py`.
    """

    model_type = "clippo"
    # What `Trainer.evaluate` must not gather over the whole set; text_embeds and image_embeds are left for the metrics.
    keys_to_ignore_at_inference = [
        "logits_per_image",
        "logits_per_text",
        "loss_per_pair",
        "hit_per_pair",
        "last_hidden_state",
        "pooler_output",
        "vision_model_output",
        "text_model_output",
        "hidden_states",
        "attentions",
    ]

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int | list[int] | tuple[int, int] = 224
    patch_size: int = 16
    num_channels: int = 3
    projection_dim: int = 768
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float | int = 1e-6
    attention_dropout: float | int = 0.0
    classifier_dropout: float | int = 0.0
    classifier_hidden_size: int | None = None
    num_text_canvases: int = 1
    logit_scale_init_value: float | int = math.log(10.0)
    logit_scale_max: float | int | None = None
    logit_bias_init_value: float | int | None = None
    loss_type: str = "softmax"
    skip_blank_patches: bool = False
    position_embedding_init: str = "normal"
    initializer_range: float | int = 0.02
    pad_token_id: int | None = 0

    def __post_init__(self, **kwargs):
        self.auto_map = {**AUTO_MAP, **(kwargs.pop("auto_map", None) or {})}
        super().__post_init__(**kwargs)

    def validate_canvas(self):
        """A canvas has whole patches only: the official VALID convolution would drop the rest without a word."""
        sides = [self.image_size] if isinstance(self.image_size, int) else list(self.image_size)
        if not isinstance(self.image_size, int) and len(sides) != 2:
            raise ValueError(f"image_size={self.image_size} is no canvas; give one side, or [height, width].")
        for side in sides:
            if self.patch_size < 1 or side < 1 or side % self.patch_size:
                raise ValueError(
                    f"image_size={self.image_size} is not a multiple of patch_size={self.patch_size}; "
                    "choose a canvas of whole patches."
                )

    def validate_heads(self):
        """Every attention head gets the same number of channels."""
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not divisible by num_attention_heads={self.num_attention_heads}."
            )

    def validate_classifier(self):
        """Head fields that no head can be built of."""
        if self.num_text_canvases not in (1, 2):
            raise ValueError(f"num_text_canvases={self.num_text_canvases} is not known; a text or a pair is 1 or 2.")
        if self.classifier_hidden_size is not None and self.classifier_hidden_size < 1:
            raise ValueError(f"classifier_hidden_size={self.classifier_hidden_size} is no width; None means linear.")

    def validate_positions(self):
        """The start of the positions is known, and the width splits into sines and cosines of two axes."""
        if self.position_embedding_init not in ("normal", "sincos2d"):
            raise ValueError(
                f"position_embedding_init={self.position_embedding_init!r} is not known; choose 'normal' or 'sincos2d'."
            )
        if self.position_embedding_init == "sincos2d" and self.hidden_size % 4:
            raise ValueError(
                f"position_embedding_init='sincos2d' needs a hidden_size that 4 divides, got {self.hidden_size}."
            )

    def validate_loss(self):
        """The loss exists and has the parameters it needs."""
        if self.loss_type not in ("softmax", "sigmoid"):
            raise ValueError(f"loss_type={self.loss_type!r} is not known; choose 'softmax' or 'sigmoid'.")
        if self.loss_type == "sigmoid" and self.logit_bias_init_value is None:
            raise ValueError(
                "loss_type='sigmoid' needs a bias, or nearly all pairs start on the wrong side; set "
                "logit_bias_init_value (SigLIP: -10)."
            )
        if self.logit_scale_max is not None and not self.logit_scale_max > 0:
            raise ValueError(f"logit_scale_max={self.logit_scale_max} leaves no scale; give a positive one, or None.")

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Height and width of the canvas in pixels."""
        size = self.image_size
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    @property
    def patch_grid(self) -> tuple[int, int]:
        """Rows and columns of patches on the canvas."""
        height, width = self.canvas_size
        return height // self.patch_size, width // self.patch_size

    @classmethod
    def from_preset(cls, name: str, **overrides) -> "ClippoConfig":
        """Config of a new model of a size known by its big_vision name, such as "B/16" or "Ti/32".

        Unlike `ClippoConfig()`, which is the released model, it skips blank patches (ours): a text then costs what its
        ink costs. `skip_blank_patches=False` trains as the paper does.

        Args:
            name: Size letter (Ti, S, B, L, H), a slash, the patch size in pixels.
            overrides: Any config field; wins over the preset.

        Raises:
            ValueError: The name is not of that form.
        """
        letter, _, patch = name.partition("/")
        if letter not in SIZES or not (patch.isascii() and patch.isdigit()):
            raise ValueError(f"Unknown preset {name!r}; write a size of {', '.join(SIZES)}, then '/patch', as 'B/16'.")
        width, depth, mlp, heads = SIZES[letter]
        shape = {
            "hidden_size": width,
            "num_hidden_layers": depth,
            "intermediate_size": mlp,
            "num_attention_heads": heads,
            "patch_size": int(patch),
            "skip_blank_patches": True,
        }
        return cls(**{**shape, **overrides})


__all__ = ["ClippoConfig"]
