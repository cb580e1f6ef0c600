"""Image vectors of a model with two towers, or of another model altogether (LiT, arXiv 2111.07991).

`config.image_tower` says where image vectors come from:

    "shared"      the one tower that reads texts too (CLIPPO)
    "separate"    `image_model`, a tower of the same shape, trained
    "locked"      the same, frozen together with its projection
    any other     the name of a model whose vectors are given as `image_embeds`

Source: big_vision `models/proj/image_text/two_towers.py`.
"""

import torch
from torch import nn

from .configuration_clippo import ClippoConfig
from .initialization_clippo import lecun_normal
from .tower_clippo import ClippoPreTrainedModel, ClippoVisionModel

HUB_OPTIONS = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")


def check_text_pairs(images: torch.Tensor | None, first_texts: torch.Tensor, texts: torch.Tensor | None) -> None:
    """Check that every image and first sentence has equally many texts.

    Args:
        images: (B_i, ...) or None.
        first_texts: (B_f, ...).
        texts: (K * (B_i + B_f), ...), K sets of the partners of both.

    Raises:
        ValueError: There are more or fewer texts, or none.
    """
    rows = (0 if images is None else len(images)) + len(first_texts)
    if texts is None or not len(texts) or len(texts) % rows:
        raise ValueError(
            f"first_text_pixel_values has {len(first_texts)} rows beside {rows - len(first_texts)} images, so "
            f"text_pixel_values needs {rows} or a multiple, in each set captions first and second sentences after "
            f"them; it has "
            f"{0 if texts is None else len(texts)}."
        )


class ImageSide:
    """Part of `ClippoModel`: the layers of the image side, their lock, and checks of given vectors.

    Example:
        >>> import clippo
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=32, image_tower="locked")
        >>> model = clippo.ClippoModel(config)
        >>> [tower.post_layernorm.weight.requires_grad for tower in (model.image_model, model.vision_model)]
        [False, True]
    """

    config: ClippoConfig

    def _add_image_side(self, config: ClippoConfig) -> None:
        """Make `image_model` and `image_projection`, each None where the config has no such layer."""
        self.image_model = ClippoVisionModel._from_config(config) if config.has_image_model else None
        width = config.hidden_size if config.has_image_model else config.image_embed_dim
        projected = config.image_tower != "shared" and config.project_images
        self.image_projection = nn.Linear(width, config.projection_dim) if projected else None
        self.lock_image_tower()

    def lock_image_tower(self) -> None:
        """Freeze the image tower and its projection where the config says "locked".

        Frozen parameters have no gradient, so optimizers and gradient clipping do not see them.
        """
        if self.config.image_tower == "locked":
            for module in self._locked_modules():
                module.requires_grad_(False)

    def _locked_modules(self) -> list[nn.Module]:
        return [module for module in (self.image_model, self.image_projection) if module is not None]

    def train(self, mode: bool = True):
        """As in PyTorch. A locked tower stays in evaluation mode, so that it has no dropout."""
        super().train(mode)
        if self.config.image_tower == "locked":
            for module in self._locked_modules():
                module.eval()
        return self

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As in the base class; a locked tower is frozen again."""
        loaded = super().from_pretrained(*args, **kwargs)
        (loaded[0] if isinstance(loaded, tuple) else loaded).lock_image_tower()
        return loaded

    def _init_projection(self, projection: nn.Linear | None, zeros) -> None:
        """Apply the official initialisation to a projection, if there is one."""
        if projection is not None:
            lecun_normal(projection.weight)
            zeros(projection.bias)

    def image_tower_module(self) -> ClippoVisionModel:
        """Return the tower that reads images.

        Raises:
            ValueError: Another model makes the image vectors.
        """
        if self.config.image_tower_is_foreign:
            name = self.config.image_tower
            raise ValueError(
                f"This model reads texts only: the image vectors come from {name!r} (config.image_tower). Make them "
                f"with `clippo embed --model {name}`, and pass them as image_embeds."
            )
        return self.vision_model if self.image_model is None else self.image_model

    def project_image_features(self, pooled: torch.Tensor) -> torch.Tensor:
        """Pooled vectors (B, D) of the image tower -> image vectors (B, E), not normalised."""
        if not self.config.project_images:
            return pooled
        return (self.projection if self.image_model is None else self.image_projection)(pooled)

    def given_image_features(self, image_embeds: torch.Tensor) -> torch.Tensor:
        """Check given vectors, and project them where the config has a projection for them.

        Args:
            image_embeds: (B, E), or (B, image_embed_dim) where they are projected.

        Returns:
            (B, E), without a gradient for the given vectors.

        Raises:
            ValueError: The tensor is not a batch of vectors of the right width.
        """
        projected = self.config.image_tower_is_foreign and self.image_projection is not None
        width = self.config.image_embed_dim if projected else self.config.projection_dim
        if image_embeds.ndim != 2 or not image_embeds.is_floating_point():
            raise ValueError(
                f"image_embeds of shape {tuple(image_embeds.shape)} and type {image_embeds.dtype} are not vectors; "
                "pass floating-point numbers (images, width)."
            )
        if image_embeds.shape[1] != width:
            field = "image_embed_dim" if projected else "projection_dim"
            raise ValueError(
                f"image_embeds are {image_embeds.shape[1]} numbers wide, and this model compares texts with vectors of "
                f"{width} (config.{field}); pass vectors of the image tower {self.config.image_tower!r}."
            )
        image_embeds = image_embeds.detach()
        return self.image_projection(image_embeds.to(self.image_projection.weight.dtype)) if projected else image_embeds


class _ImageTower(ClippoPreTrainedModel):
    """The image tower of a saved folder."""

    _keys_to_ignore_on_load_unexpected = [r".*"]

    def __init__(self, config: ClippoConfig):
        super().__init__(config)
        self.image_model = ClippoVisionModel._from_config(config)
        self.post_init()


class ImageTowerLoader:
    """Part of a head that reads images: it takes the image tower of a folder that has two.

    Example:
        >>> import clippo
        >>> issubclass(clippo.ClippoForImageClassification, ImageTowerLoader)
        True
    """

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, tower: str = "image", **kwargs):
        """As in the base class.

        Args:
            pretrained_model_name_or_path: Folder or hub name.
            args: As in transformers.
            tower: "image" or "text": the tower to take from a folder with one for images and one for texts.
            kwargs: As in transformers.

        Raises:
            ValueError: The tower is not known.
        """
        if tower not in ("image", "text"):
            raise ValueError(f"tower={tower!r} is not known; choose 'image' or 'text'.")
        hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        source = pretrained_model_name_or_path
        saved = {} if source is None else ClippoConfig.get_config_dict(source, **hub)[0]
        two = saved.get("image_tower") in ("separate", "locked") and "ClippoModel" in (saved.get("architectures") or ())
        loaded = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        if two and tower == "image":
            images = _ImageTower.from_pretrained(pretrained_model_name_or_path, **hub)
            model.vision_model.load_state_dict(images.image_model.state_dict())
        model.config.image_tower, model.config.project_images = "shared", True  # the head has one tower
        model.config.image_embed_dim = None
        return loaded


__all__ = ["ImageSide", "ImageTowerLoader"]
