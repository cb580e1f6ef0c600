"""The token grid before pooling, as features for other models."""

import torch

from .pixels_clippo import check_format, size_in_pixels


class GridFeaturesMixin:
    """Adds `get_grid_features` to every model that has the tower.

    Example:
        >>> import clippo, torch
        >>> config = clippo.ClippoConfig.from_preset("Ti/16", num_hidden_layers=1, image_size=[32, 64])
        >>> clippo.ClippoModel(config).get_grid_features(torch.zeros(1, 3, 32, 64)).shape
        torch.Size([1, 2, 4, 192])
    """

    def get_grid_features(
        self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool = False, modality: str = "image"
    ) -> torch.Tensor:
        """Compute the tokens of each canvas after the last LayerNorm, in their places.

        These are the features that CLIP-ViL (arXiv 2107.06383) calls the grid: all patches, before pooling and without
        projection. The block before the last one is `hidden_states[-2]` of the tower's output, without a LayerNorm. To
        store a grid, move it to float16.

        Args:
            pixel_values: Images or rendered texts, see `ClippoVisionModel.forward`.
            interpolate_pos_encoding: Accept other canvas sizes by resampling the positions.
            modality: "image" or "text". Text patches that are skipped are zeros.

        Returns:
            (B, rows, columns, D).

        Raises:
            ValueError: The modality is not known; the pixel values are not accepted.
        """
        check_format(pixel_values, self.config.num_channels)
        rows, columns = (side // self.config.patch_size for side in size_in_pixels(pixel_values))
        two_towers = modality == "image" and hasattr(self, "image_tower_module")
        tower = self.image_tower_module() if two_towers else self.base_model
        output = tower(
            pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, modality=modality, return_dict=True
        )
        return output.last_hidden_state.unflatten(1, (rows, columns))


__all__ = ["GridFeaturesMixin"]
