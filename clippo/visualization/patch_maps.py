"""Maps of patch relevance on the canvas."""

import torch

from clippo.modeling_clippo.pixels_clippo import size_in_pixels


def on_canvas(
    relevance: torch.Tensor, kept: torch.Tensor | None, pixel_values: torch.Tensor, patch_size: int
) -> torch.Tensor:
    """Puts the relevance of tokens at the places of their patches.

    Args:
        relevance: (B, M), one value a token: the kept patches in reading order, then padding.
        kept: bool (B, N), `kept_patches` of the tower output. None if every patch is a token.
        pixel_values: Batch that the tower got, in any format.
        patch_size: Side of a patch in pixels.

    Returns:
        (B, rows, columns), 0 where a patch was skipped.
    """
    rows = size_in_pixels(pixel_values)[0] // patch_size
    if kept is None:
        return relevance.unflatten(1, (rows, -1))
    maps = relevance.new_zeros(kept.shape)  # (B, N)
    maps[kept.to(maps.device)] = relevance[token_mask(kept, relevance.shape[1]).to(relevance.device)]
    return maps.unflatten(1, (rows, -1))


def token_mask(kept: torch.Tensor, tokens: int) -> torch.Tensor:
    """Returns bool (B, tokens), True for the tokens of kept patches and False for padding.

    Args:
        kept: bool (B, N), `kept_patches` of the tower output.
        tokens: Number of tokens M.
    """
    return torch.arange(tokens, device=kept.device) < kept.sum(1, keepdim=True)
