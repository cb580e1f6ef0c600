"""Convolutions on the image side: a stem in place of the patch projection, and a parallel branch (MS-CLIP-S).

The stem computes the tokens of an image in steps of two pixels and replaces projection and first block. The branch
reads the image once more, and its maps join the tokens before some blocks:

    tokens = LayerNorm(depthwise(tokens) + adapter(map))        there is no residual around it

MS-CLIP-S normalises with BatchNorm. Its statistics mix the samples of a batch, which breaks GradCache and makes
training differ from evaluation. `ClippoChannelNorm` takes its place here: a LayerNorm over the channels of a position.

Source: MS-CLIP (arXiv 2207.12661). Its class token has no counterpart here.

Axes: B images, C channels of a map, H W pixels, h w patches, P patch side, D width.
"""

from collections.abc import Callable

import torch
from torch import nn

from .modality_clippo import add_nothing
from .packing_clippo import PackedSequence

STEM_BLOCKS = 4  # residual blocks of the stem, from D/16 to D

Norm = Callable[[int], nn.Module]  # number of channels -> module


class ClippoChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each position, (B, C, H, W) -> (B, C, H, W). It does not mix samples."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(maps.movedim(1, -1)).movedim(-1, 1)


def channel_norm(config) -> Norm:
    """Make the norm of stem and branch."""
    return lambda channels: ClippoChannelNorm(channels, eps=config.layer_norm_eps)


def convolution(inputs: int, outputs: int, size: int, stride: int = 1, depthwise: bool = False) -> nn.Conv2d:
    """A convolution without bias. A kernel that is larger than its stride is padded, so that it keeps the grid."""
    padding = size // 2 if size > stride else 0
    groups = outputs if depthwise else 1
    return nn.Conv2d(inputs, outputs, size, stride, padding, groups=groups, bias=False)


def halvings(patch_size: int, stages: int) -> list[int]:
    """Strides of `stages` convolutions whose product is the patch: 2 as often as needed, then 1."""
    return [2 if 2 ** (i + 1) <= patch_size else 1 for i in range(stages)]


class ClippoStemBlock(nn.Module):
    """ReLU(norm(conv 3x3) + norm(conv 1x1)), both with the stride."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm):
        super().__init__()
        self.conv, self.norm = convolution(inputs, outputs, 3, stride), norm(outputs)
        self.shortcut, self.shortcut_norm = convolution(inputs, outputs, 1, stride), norm(outputs)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)"""
        return (self.norm(self.conv(maps)) + self.shortcut_norm(self.shortcut(maps))).relu()


class ClippoConvStem(nn.Module):
    """Convolutional stem: an image to a map with one vector for each patch.

    Args:
        channels: Channels of the pixels.
        width: D, which 16 divides.
        patch_size: P, a power of two from 2 to 32.
        norm: Number of channels -> norm.

    Example:
        >>> stem = ClippoConvStem(3, 64, 16, lambda channels: nn.GroupNorm(1, channels))
        >>> stem(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 64, 2, 2])
    """

    def __init__(self, channels: int, width: int, patch_size: int, norm: Norm):
        super().__init__()
        strides = halvings(patch_size, STEM_BLOCKS + 1)
        widths = [width >> i for i in range(STEM_BLOCKS, -1, -1)]  # D/16, D/8, D/4, D/2, D
        self.conv, self.norm = convolution(channels, widths[0], 3, strides[0]), norm(widths[0])
        self.blocks = nn.ModuleList(
            ClippoStemBlock(*sizes, stride, norm)
            for *sizes, stride in zip(widths[:-1], widths[1:], strides[1:], strict=True)
        )
        self.out = convolution(width, width, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) -> (B, D, h, w)"""
        maps = self.norm(self.conv(pixels)).relu()
        for block in self.blocks:
            maps = block(maps)
        return self.out(maps)


class ClippoBottleneck(nn.Module):
    """1x1, 3x3 with the stride, 1x1, and a projected shortcut. The middle has half of the output's width."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm):
        super().__init__()
        middle = outputs // 2
        self.conv1, self.norm1 = convolution(inputs, middle, 1), norm(middle)
        self.conv2, self.norm2 = convolution(middle, middle, 3, stride), norm(middle)
        self.conv3, self.norm3 = convolution(middle, outputs, 1), norm(outputs)
        self.shortcut, self.shortcut_norm = convolution(inputs, outputs, 1, stride), norm(outputs)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)"""
        inner = self.norm1(self.conv1(maps)).relu()
        inner = self.norm2(self.conv2(inner)).relu()
        return (self.norm3(self.conv3(inner)) + self.shortcut_norm(self.shortcut(maps))).relu()


class ClippoFusionAdapter(nn.Module):
    """Join a map of the branch with the tokens.

    Args:
        channels: C of the map.
        width: D.
        ratio: Side of the map divided by the side of the token grid.
        norm: Number of channels -> norm.
        eps: Epsilon of the LayerNorm.
    """

    def __init__(self, channels: int, width: int, ratio: int, norm: Norm, eps: float):
        super().__init__()
        self.pool, self.pool_norm = convolution(channels, channels, ratio, ratio, depthwise=True), norm(channels)
        self.project = convolution(channels, width, 1)
        self.mix, self.mix_norm = convolution(width, width, 3, depthwise=True), norm(width)
        self.layer_norm = nn.LayerNorm(width, eps=eps)

    def forward(self, tokens: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
        """(B, h*w, D) and (B, C, h*ratio, w*ratio) -> (B, h*w, D)"""
        adapted = self.project(self.pool_norm(self.pool(maps)))  # (B, D, h, w)
        grid = tokens.transpose(1, 2).unflatten(2, adapted.shape[2:])
        mixed = self.mix_norm(self.mix(grid)) + adapted
        return self.layer_norm(mixed.flatten(2).transpose(1, 2))


class ClippoImageBranch(nn.Module):
    """Parallel branch: one stage of convolutions and one adapter for each block of `image_branch_layers`.

    Args:
        channels: Channels of the pixels.
        width: D.
        patch_size: P, a power of two.
        layers: Blocks before which a map joins the tokens.
        norm: Number of channels -> norm.
        eps: Epsilon of the LayerNorms.

    Example:
        >>> branch = ClippoImageBranch(3, 64, 16, [0, 2], lambda channels: nn.GroupNorm(1, channels), 1e-6)
        >>> len(branch(torch.zeros(2, 3, 32, 32)))
        2
    """

    def __init__(self, channels: int, width: int, patch_size: int, layers: list[int], norm: Norm, eps: float):
        super().__init__()
        self.layers, self.patch_size = tuple(layers), patch_size
        strides = halvings(patch_size, len(layers))
        widths = [width >> i for i in range(len(layers) - 1, -1, -1)]  # ..., D/4, D/2, D
        self.conv, self.norm = convolution(channels, widths[0], 3, strides[0]), norm(widths[0])
        self.stages = nn.ModuleList(
            ClippoBottleneck(*sizes, stride, norm)
            for *sizes, stride in zip(widths[:-1], widths[1:], strides[1:], strict=True)
        )
        ratios = [patch_size >> sum(stride == 2 for stride in strides[: i + 1]) for i in range(len(layers))]
        self.adapters = nn.ModuleList(
            ClippoFusionAdapter(channels, width, ratio, norm, eps)
            for channels, ratio in zip(widths, ratios, strict=True)
        )

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """(B, channels, H, W) -> the map of each stage"""
        maps = [self.norm(self.conv(pixels)).relu()]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps


def image_branch(config) -> ClippoImageBranch | None:
    """Make the branch of a config. None without one."""
    if not config.image_branch_layers:
        return None
    sizes = (config.num_channels, config.hidden_size, config.patch_size)
    return ClippoImageBranch(*sizes, config.image_branch_layers, channel_norm(config), config.layer_norm_eps)


class BranchState:
    """Maps of all images of one pass, for the encoder.

    Args:
        branch: The branch.
        images: Pixels (B, channels, H, W) of each batch of images, or None in the place of a batch of texts.

    Example:
        >>> branch = ClippoImageBranch(3, 64, 16, [0, 2], lambda channels: nn.GroupNorm(1, channels), 1e-6)
        >>> state = BranchState(branch, [torch.zeros(2, 3, 32, 32), None])
        >>> len(state.maps), state.maps[1]
        (2, None)
    """

    def __init__(self, branch: ClippoImageBranch, images: list[torch.Tensor | None]):
        self.branch = branch
        weight = branch.conv.weight
        self.maps = [None if pixels is None else branch(pixels.to(weight.dtype)) for pixels in images]
        self.absent = branch.training and torch.is_grad_enabled() and all(pixels is None for pixels in images)

    def join(self, block: int, hidden_states: torch.Tensor, packed: PackedSequence | None) -> torch.Tensor:
        """Join the maps of a block's stage with the tokens of the images: (1, T, D) packed, or (B, T, D)."""
        if block not in self.branch.layers:
            return hidden_states
        stage = self.branch.layers.index(block)
        adapter = self.branch.adapters[stage]
        if self.absent:  # gradients of zero for data parallelism
            image = hidden_states.new_zeros(1, self.branch.conv.in_channels, *[self.branch.patch_size] * 2)
            maps = self.branch(image.to(self.branch.conv.weight.dtype))[stage]
            return add_nothing(hidden_states, adapter(hidden_states.new_zeros(1, 1, hidden_states.shape[-1]), maps))
        if packed is None:
            if self.maps[0] is None:
                return hidden_states
            return adapter(hidden_states, self.maps[0][stage]).to(hidden_states.dtype)
        parts = list(hidden_states.split([part.tokens for part in packed.parts], 1))
        for i, (part, maps) in enumerate(zip(packed.parts, self.maps, strict=True)):
            if maps is not None and part.canvases:
                tokens = parts[i][0].unflatten(0, (part.canvases, -1))  # (B, N, D)
                joined = adapter(tokens, maps[stage]).to(tokens.dtype)
                parts[i] = joined.flatten(0, 1).unsqueeze(0)
        return torch.cat(parts, 1)


__all__ = ["BranchState", "ClippoConvStem", "ClippoImageBranch", "channel_norm", "image_branch"]
