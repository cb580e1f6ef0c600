"""Checks of the fields of ClippoConfig. Each error names the value, the rule and the remedy."""

import difflib
import math

from transformers.activations import ACT2FN

# Smallest and largest value of the fields that set the size of a tensor. The largest ones are far above any model in
# use; they turn a damaged or hostile config into an error before memory is allocated.
BOUNDS = {
    "hidden_size": (1, 2**16),
    "intermediate_size": (1, 2**18),
    "num_hidden_layers": (1, 2**10),
    "num_fusion_layers": (0, 2**10),
    "num_attention_heads": (1, 2**10),
    "patch_size": (1, 2**10),
    "num_channels": (1, 2**10),
    "projection_dim": (1, 2**16),
    "num_experts": (0, 2**12),
    "num_modality_layers": (0, 2**10),
    "num_decoder_layers": (0, 2**10),
    "decoder_vocab_size": (1, 2**20),
    "decoder_max_length": (1, 2**16),
}
IMAGE_TOWERS = ("shared", "separate", "locked")
ROUTER_COEFFICIENTS = ("importance", "load", "z", "local_entropy", "global_entropy")
MAX_PATCHES = 2**16  # of a canvas; 4096 x 4096 pixels with patches of 16


class ConfigChecks:
    """Validators of `ClippoConfig`. Its decorator `strict` calls every method whose name starts with `validate_`.

    Example:
        >>> import clippo
        >>> clippo.ClippoConfig(loss_type="softmaxx")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        huggingface_hub.errors.StrictDataclassClassValidationError: Class validation error for validator ...
    """

    def validate_sizes(self):
        """Check that the sizes are positive and that their tensors can exist."""
        for name, (smallest, largest) in BOUNDS.items():
            value = getattr(self, name)
            if not smallest <= value <= largest:
                raise ValueError(f"{name}={value} is not possible; give a number from {smallest} to {largest}.")
        rows, columns = self.patch_grid
        if rows * columns > MAX_PATCHES:
            raise ValueError(
                f"image_size={self.image_size} with patch_size={self.patch_size} has {rows * columns} patches; at most "
                f"{MAX_PATCHES} are possible. Give a smaller canvas or larger patches."
            )

    def validate_numbers(self):
        """Check that probabilities, scales and the activation are usable."""
        for name in ("attention_dropout", "classifier_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} is not a dropout; give a number from 0 to below 1.")
        if not (self.layer_norm_eps > 0 and math.isfinite(self.layer_norm_eps)):
            raise ValueError(f"layer_norm_eps={self.layer_norm_eps} is not positive; the official value is 1e-6.")
        if not (self.initializer_range >= 0 and math.isfinite(self.initializer_range)):
            raise ValueError(f"initializer_range={self.initializer_range} is not a standard deviation; give 0 or more.")
        for name in ("logit_scale_init_value", "logit_bias_init_value", "logit_scale_max"):
            if not abs(getattr(self, name) or 0) < 3e38:  # near the largest float32; false for NaN
                raise ValueError(
                    f"{name}={getattr(self, name)} is not finite or too large; give a finite float32 number."
                )
        if self.hidden_act not in ACT2FN:
            raise ValueError(f"hidden_act={self.hidden_act!r} is not an activation; choose one of {', '.join(ACT2FN)}.")

    def validate_canvas(self):
        """Check that the canvas consists of whole patches; the official VALID convolution would drop the rest."""
        sides = [self.image_size] if isinstance(self.image_size, int) else list(self.image_size)
        if not isinstance(self.image_size, int) and len(sides) != 2:
            raise ValueError(f"image_size={self.image_size} is not a canvas; give one side, or [height, width].")
        for side in sides:
            if self.patch_size < 1 or side < 1 or side % self.patch_size:
                raise ValueError(
                    f"image_size={self.image_size} is not a multiple of patch_size={self.patch_size}; "
                    "choose a canvas of whole patches."
                )

    def validate_heads(self):
        """Check that every attention head has the same number of channels."""
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is not divisible by num_attention_heads={self.num_attention_heads}."
            )

    def validate_classifier(self):
        """Check the fields of the classification heads."""
        if self.num_text_canvases not in (1, 2):
            raise ValueError(
                f"num_text_canvases={self.num_text_canvases} is not known; choose 1 (a text) or 2 (a pair)."
            )
        if self.classifier_hidden_size is not None and self.classifier_hidden_size < 1:
            raise ValueError(
                f"classifier_hidden_size={self.classifier_hidden_size} is not positive; give a width, or None for a "
                "linear head."
            )

    def validate_fusion(self):
        """Check the shape of given grids, which need joint blocks that read them."""
        shape = self.image_grid_shape
        if shape is None:
            return
        if not self.num_fusion_layers:
            raise ValueError(
                f"image_grid_shape={list(shape)} needs num_fusion_layers of 1 or more, which read the grid."
            )
        if len(shape) != 3 or min(shape) < 1 or shape[0] * shape[1] > MAX_PATCHES or shape[2] > 2**16:
            raise ValueError(f"image_grid_shape={list(shape)} is not a grid; give [rows, columns, channels].")

    def validate_positions(self):
        """Check the initial positions; sines and cosines of two axes need a width that 4 divides."""
        if self.position_embedding_init not in ("normal", "sincos2d"):
            raise ValueError(
                f"position_embedding_init={self.position_embedding_init!r} is not known; choose 'normal' or 'sincos2d'."
            )
        if self.position_embedding_init == "sincos2d" and self.hidden_size % 4:
            raise ValueError(
                f"position_embedding_init='sincos2d' needs a hidden_size that 4 divides, got {self.hidden_size}."
            )

    def validate_image_tower(self):
        """Check that the image vectors have an origin and the width of the text vectors."""
        name, width = self.image_tower, self.image_embed_dim
        similar = difflib.get_close_matches(name.lower(), IMAGE_TOWERS, n=1, cutoff=0.8)
        if not name.strip() or (similar and name not in IMAGE_TOWERS):
            hint = f"did you mean {similar[0]!r}?" if similar else "leave it out for the shared tower."
            raise ValueError(
                f"image_tower={name!r} is neither one of {', '.join(IMAGE_TOWERS)} nor the name of a model; {hint}"
            )
        if width is not None and (not self.image_tower_is_foreign or not self.project_images):
            raise ValueError(
                f"image_embed_dim={width} is the width of given vectors that are projected, which image_tower={name!r} "
                f"and project_images={self.project_images} have not; leave it out."
            )
        if width is not None and not 1 <= width <= BOUNDS["projection_dim"][1]:
            raise ValueError(f"image_embed_dim={width} is not a width; give that of the vectors.")
        if width is None and self.image_tower_is_foreign and self.project_images:
            raise ValueError(
                f"The vectors of image_tower={name!r} are given: set project_images=False and projection_dim to their "
                "width, or image_embed_dim to their width for a projection."
            )
        if not self.project_images and not self.image_tower_is_foreign and self.projection_dim != self.hidden_size:
            raise ValueError(
                f"project_images=False leaves image vectors {self.hidden_size} wide (hidden_size), and texts are "
                f"projected to projection_dim={self.projection_dim}; set both to the same number."
            )

    def validate_loss(self):
        """Check that the loss is known and has the parameters that it needs."""
        if self.loss_type not in ("softmax", "sigmoid"):
            raise ValueError(f"loss_type={self.loss_type!r} is not known; choose 'softmax' or 'sigmoid'.")
        if self.loss_type == "sigmoid" and self.logit_bias_init_value is None:
            raise ValueError(
                "loss_type='sigmoid' needs a bias, because nearly all pairs are negative; set logit_bias_init_value "
                "(SigLIP: -10)."
            )
        if self.logit_scale_max is not None and not self.logit_scale_max > 0:
            raise ValueError(
                f"logit_scale_max={self.logit_scale_max} is not positive; give a positive number, or None."
            )

    def validate_experts(self):
        """Check number and places of the experts."""
        if not self.num_experts:
            if self.expert_layers is not None:
                raise ValueError(
                    f"expert_layers={list(self.expert_layers)} without experts; set num_experts or leave it out."
                )
            return
        if not 1 <= self.num_experts_per_tok <= self.num_experts:
            raise ValueError(
                f"num_experts_per_tok={self.num_experts_per_tok} of num_experts={self.num_experts} is not possible; "
                f"give a number from 1 to {self.num_experts}."
            )
        first, last = self.num_modality_layers, self.num_hidden_layers - 1
        wrong = [block for block in self.expert_layers or () if not first <= block <= last]
        if wrong or not self.expert_blocks:
            raise ValueError(
                f"expert_layers={self.expert_layers} names no block or one that cannot have experts; the blocks that "
                f"images and texts share are {first} to {last}."
            )
        if self.expert_capacity_factor is not None and not 0 < self.expert_capacity_factor < math.inf:
            raise ValueError(
                f"expert_capacity_factor={self.expert_capacity_factor} is not positive; give 1.0 or more, or None for "
                "experts without a limit."
            )

    def validate_modalities(self):
        """Check the parameters that images and texts do not share."""
        if self.num_modality_layers and self.num_modality_layers > self.num_hidden_layers:
            raise ValueError(
                f"num_modality_layers={self.num_modality_layers} of {self.num_hidden_layers} blocks is not possible; "
                f"give a number from 0 to {self.num_hidden_layers}."
            )
        if self.image_stem not in ("patch", "conv"):
            raise ValueError(f"image_stem={self.image_stem!r} is not known; choose 'patch' or 'conv'.")
        branch = list(self.image_branch_layers)
        if branch != sorted({block for block in branch if 0 <= block < self.num_hidden_layers}):
            raise ValueError(
                f"image_branch_layers={branch} must be different numbers of blocks, rising, from 0 to "
                f"{self.num_hidden_layers - 1}."
            )
        stages = max(len(branch), 5 if self.image_stem == "conv" else 0)
        side = self.patch_size
        if stages and (side & (side - 1) or not 2 <= side <= 32 or self.hidden_size % 2**stages):
            raise ValueError(
                f"patch_size={side} and hidden_size={self.hidden_size} do not fit convolutions in {stages} steps; use "
                f"a patch of 2, 4, 8, 16 or 32 pixels and a width that {2**stages} divides."
            )
        own = self.modality_norms or self.num_modality_layers or stages
        if own and self.image_tower != "shared":
            raise ValueError(
                f"image_tower={self.image_tower!r} shares nothing with texts, so modality_norms, num_modality_layers, "
                "image_stem and image_branch_layers have no effect; leave them out."
            )

    def validate_router(self):
        """Check noise, weights and thresholds of the router losses."""
        if not 0 <= self.router_noise_std < math.inf:
            raise ValueError(f"router_noise_std={self.router_noise_std} is negative or not finite; V-MoE uses 1.0.")
        for name in ROUTER_COEFFICIENTS:
            value = getattr(self, f"router_{name}_coef")
            pair = [value, value] if isinstance(value, int | float) else list(value)
            if len(pair) != 2 or ("entropy" not in name and pair[0] is not value):
                raise ValueError(f"router_{name}_coef={value} must be a number, or [images, texts] for an entropy.")
            if not all(0 <= weight < math.inf for weight in pair):
                raise ValueError(f"router_{name}_coef={value} is negative or not finite; give 0 or more.")
        if self.router_load_coef and not self.router_noise_std:
            raise ValueError("router_load_coef needs noise in the router; set router_noise_std (V-MoE: 1.0).")
        for name in ("router_min_image_experts", "router_min_text_experts"):
            value = getattr(self, name)
            if not 0 <= value <= self.num_experts:
                raise ValueError(
                    f"{name}={value} sets a threshold above ln {self.num_experts}, the largest entropy of "
                    f"num_experts={self.num_experts}; give a number from 0 to {self.num_experts}."
                )


__all__ = ["ConfigChecks"]
