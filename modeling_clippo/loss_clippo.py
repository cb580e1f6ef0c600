"""Contrastive loss over the global batch.

Softmax (CLIP, CLIPPO) and sigmoid (SigLIP, arXiv 2303.15343, section 3.2). Each process scores its own texts against
the images of all processes in row tiles. A tile is discarded after it is reduced, and computed again in the backward
pass, so the N x N matrix is never stored. The memory kept for backward is linear in the batch.

    scores = scale * texts @ images.T + bias                                  # (N, N)
    softmax: (cross_entropy(scores) + cross_entropy(scores.T)) / 2
    sigmoid: -log_sigmoid(labels * scores).sum() / N                          # labels: 1 on the diagonal, else -1

Axes: W processes, n own rows, N rows of all processes, K texts an image, E embedding width, b rows of a tile.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.utils.generic import maybe_autocast

LOSS_TYPES = ("softmax", "sigmoid")
TILE_NUMBERS = 2**22  # default number of scores in a tile: 16 MiB in float32


class ContrastiveLoss(NamedTuple):
    """Output of `contrastive_loss`."""

    loss: torch.Tensor  # scalar; its average over the processes is the mean over the rows of all processes
    loss_per_pair: torch.Tensor  # (K*n,) detached, the mean of both directions
    hit_per_pair: torch.Tensor  # (K*n,) detached, the share of the two directions in which the partner ranks first


# PyTorch 2.13 renamed these functions and warns about the old names; older releases have only the old ones.
_all_gather = getattr(dist, "all_gather_single", None) or getattr(dist, "all_gather_into_tensor", None)
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or getattr(dist, "reduce_scatter_tensor", None)


class Shares(NamedTuple):
    """Rows of the global batch on each process."""

    rows: tuple[int, ...]  # of each process
    rank: int

    @property
    def total(self) -> int:
        """N"""
        return sum(self.rows)

    @property
    def start(self) -> int:
        """Index of the first own row among all rows."""
        return sum(self.rows[: self.rank])

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        """(n, E) of every process -> (N, E). Shorter batches are sent padded to the longest."""
        if len(self.rows) == 1:
            return own
        longest = max(self.rows)
        everybody = own.new_empty(len(self.rows) * longest, own.shape[1])
        _all_gather(everybody, F.pad(own, (0, 0, 0, longest - len(own))))
        if self.total == len(everybody):
            return everybody
        parts = everybody.split(longest)
        return torch.cat([part[:count] for part, count in zip(parts, self.rows, strict=True)])

    def sum_to_owner(self, everybody: torch.Tensor) -> torch.Tensor:
        """(N, E) of every process -> own (n, E), summed over the processes."""
        if len(self.rows) == 1:
            return everybody
        longest = max(self.rows)
        if self.total != longest * len(self.rows):
            parts = everybody.split(self.rows)
            everybody = torch.cat([F.pad(part, (0, 0, 0, longest - len(part))) for part in parts])
        own = everybody.new_empty(longest, everybody.shape[1])
        _reduce_scatter(own, everybody)
        return own[: self.rows[self.rank]]

    def reduce(self, values: torch.Tensor, operation) -> torch.Tensor:
        """Reduce values of the same shape over the processes, in place."""
        if len(self.rows) > 1:
            dist.all_reduce(values, operation)
        return values


def _agree(images: torch.Tensor, texts: torch.Tensor, gather: bool) -> tuple[Shares, int]:
    """Exchange the numbers of rows, and compute K. All processes return or raise the same."""
    counts, rank = [(len(images), len(texts))], 0
    if gather and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        rank, world = dist.get_rank(), dist.get_world_size()
        everybody = torch.empty(world, 2, dtype=torch.int64, device=images.device)
        _all_gather(everybody, torch.tensor(counts, device=images.device))
        counts = everybody.tolist()
    total, all_texts = (sum(column) for column in zip(*counts, strict=True))
    sets = all_texts // max(total, 1)
    for process, (rows, of_texts) in enumerate(counts):
        if sets == 0 or of_texts != sets * rows:
            where = f" on process {process}" if len(counts) > 1 else ""
            raise ValueError(
                f"The contrastive loss pairs row with row, but got {rows} images and {of_texts} texts{where}; pass as "
                "many texts as images, or the same multiple of them on every process."
            )
    return Shares(tuple(rows for rows, _ in counts), rank), sets


def gather_rows(own: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Gather the rows of all processes, without a gradient.

    Args:
        own: (n, E), in the same dtype on every process.

    Returns:
        (N, E), and the weight of this process: W * n / N, by which the mean over its rows counts in an average over W
        processes.
    """
    shares, _ = _agree(own, own, True)
    return shares.gather(own.detach().contiguous()), len(own) * len(shares.rows) / shares.total


def _tiles(rows: int, sets: int, start: int, height: int) -> list[tuple[int, slice, int]]:
    """Tiles of one process: k, the slice of the texts, and the offset of the diagonal with their partners."""
    tiles = []
    for k in range(sets):
        for first in range(0, rows, height):
            last = min(first + height, rows)
            tiles.append((k, slice(k * rows + first, k * rows + last), start + first))
    return tiles


def _score(texts: torch.Tensor, images: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(b, E), (N, E) -> (b, N)"""
    scores = (texts * scale) @ images.T
    return scores if bias is None else scores.add_(bias)


class _TiledLoss(torch.autograd.Function):
    """Loss and meters from tiles of b texts against N images.

    A tile serves both directions: its rows compare a text with all images, its columns compare the images with its
    texts. The sums along the columns run over all tiles of all processes. They are carried from tile to tile and
    reduced over the processes at the end, which sends a few numbers a column instead of a second gather.

    Backward returns the gradient of W times the mean over all rows, which data parallelism averages. It assumes that
    every process backpropagates the same multiple of its loss.
    """

    @staticmethod
    def forward(ctx, texts, own_images, scale, bias, shares: Shares, sets: int, sigmoid: bool, tile_rows: int):
        images = shares.gather(own_images)  # (N, E)
        tiles = _tiles(len(own_images), sets, shares.start, tile_rows)
        partner, row_rival, row_sum = (texts.new_empty(len(texts)) for _ in range(3))  # (K*n,)
        column_rival = images.new_full((sets, len(images)), -torch.inf)
        column_sum = images.new_full((sets, len(images)), 0.0 if sigmoid else -torch.inf)
        for k, rows, offset in tiles:
            scores = _score(texts[rows], images, scale, bias if sigmoid else None)  # (b, N)
            own = scores.diagonal(offset)  # a view on the scores of the partners
            partner[rows] = own
            own.fill_(-torch.inf)
            row_rival[rows] = scores.amax(1)
            column_rival[k] = torch.maximum(column_rival[k], scores.amax(0))
            if sigmoid:
                own.copy_(-partner[rows])
                costs = F.logsigmoid(scores.neg_()).neg_()
                row_sum[rows] = costs.sum(1)
                column_sum[k] += costs.sum(0)
            else:
                own.copy_(partner[rows])
                row_sum[rows] = scores.logsumexp(1)
                column_sum[k] = torch.logaddexp(column_sum[k], scores.logsumexp(0))

        if sigmoid:
            shares.reduce(column_rival, dist.ReduceOp.MAX)
            shares.reduce(column_sum, dist.ReduceOp.SUM)
        else:
            column_rival, largest = shares.reduce(torch.stack([column_rival, column_sum]), dist.ReduceOp.MAX)
            column_sum = shares.reduce((column_sum - largest).exp(), dist.ReduceOp.SUM).log() + largest

        our_columns = slice(shares.start, shares.start + len(own_images))
        loss_per_pair = (row_sum + column_sum[:, our_columns].flatten()) / 2  # (K*n,)
        if not sigmoid:
            loss_per_pair = loss_per_pair - partner
        # A tie counts as a miss, so that an encoder which maps everything to one point has no hits.
        found = (partner > row_rival, partner > column_rival[:, our_columns].flatten())
        hit_per_pair = (found[0].to(partner.dtype) + found[1].to(partner.dtype)) / 2
        loss = loss_per_pair.sum() * (len(shares.rows) / (shares.total * sets))

        ctx.save_for_backward(texts, images, scale, bias, *(() if sigmoid else (row_sum, column_sum)))
        ctx.shares, ctx.sets, ctx.sigmoid, ctx.tiles = shares, sets, sigmoid, tiles
        ctx.mark_non_differentiable(loss_per_pair, hit_per_pair)
        return loss, loss_per_pair, hit_per_pair

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss, *_):
        texts, images, scale, bias, *sums = ctx.saved_tensors
        shares = ctx.shares
        with maybe_autocast(texts.device.type, enabled=False):  # backward may run under autocast
            grad_texts, grad_images = torch.empty_like(texts), torch.zeros_like(images)
            grad_bias = None if bias is None else torch.zeros_like(bias)
            for k, rows, offset in ctx.tiles:
                scores = _score(texts[rows], images, scale, bias if ctx.sigmoid else None)  # (b, N)
                if ctx.sigmoid:
                    scores.diagonal(offset).neg_()
                    slope = scores.sigmoid_()
                    slope.diagonal(offset).neg_()
                    grad_bias += slope.sum()
                else:
                    row_sum, column_sum = sums
                    slope = (scores - row_sum[rows, None]).exp_()  # softmax of every text
                    slope += scores.sub_(column_sum[k]).exp_()  # softmax of every image
                    slope *= 0.5
                    slope.diagonal(offset).sub_(1)
                grad_texts[rows] = slope @ images
                grad_images.addmm_(slope.T, texts[rows])
            factor = grad_loss * (len(shares.rows) / (shares.total * ctx.sets))
            grad_scale = (grad_texts * texts).sum().reshape(scale.shape) * factor
            grad_texts *= scale * factor
            grad_images = shares.sum_to_owner(grad_images.mul_(scale * factor))
            grad_bias = None if bias is None else grad_bias * factor
        return grad_texts, grad_images, grad_scale, grad_bias, None, None, None, None


def contrastive_loss(
    image_embeds: torch.Tensor,
    text_embeds: torch.Tensor,
    logit_scale: torch.Tensor,
    logit_bias: torch.Tensor | None = None,
    loss_type: str = "softmax",
    gather: bool = False,
    tile_rows: int | None = None,
) -> ContrastiveLoss:
    """Compute the contrastive loss, in which row i of one side is the partner of row i of the other.

    softmax: the mean over rows of half the image-to-text and half the text-to-image cross-entropy.
    sigmoid: the mean over rows of the sum over columns of -log sigmoid(z (t x.y + b)), z = 1 for partners and -1
    otherwise.

    The computation is in float32, or in float64 if the embeddings are, also under autocast.

    Args:
        image_embeds: (n, E) unit vectors.
        text_embeds: (n, E) unit vectors, or K sets of them below each other, (K*n, E). Texts of one set are not
            negatives of another; the loss is the mean over the sets.
        logit_scale: (1,) t, the multiplier of the cosines, already exponentiated.
        logit_bias: (1,) b. It does not change the softmax loss and has a gradient of zero there.
        loss_type: "softmax" or "sigmoid".
        gather: Use the rows of all processes of the default group. All processes must then call this function and
            backpropagate the same multiple of the loss. They may have different numbers of rows. Each process is
            weighted by its rows, so that the average over processes of losses and gradients, which DDP and FSDP2
            compute, is the global one. The row counts are exchanged in a small collective that the host waits for.
        tile_rows: b, the texts scored at a time. None keeps a tile at about `TILE_NUMBERS` numbers. It changes memory
            and speed only.

    Raises:
        ValueError: The number of texts is not a multiple of the images on a process (raised on all of them); the
            loss_type is not known; sigmoid has no bias; tile_rows is below 1.

    Example:
        >>> import torch
        >>> from clippo.modeling_clippo.loss_clippo import contrastive_loss
        >>> vectors = torch.eye(4)
        >>> contrastive_loss(vectors, vectors, torch.tensor([100.0])).hit_per_pair.tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    if loss_type not in LOSS_TYPES:
        raise ValueError(f"loss_type={loss_type!r} is not known; choose one of {', '.join(LOSS_TYPES)}.")
    if loss_type == "sigmoid" and logit_bias is None:
        raise ValueError(
            "The sigmoid loss needs logit_bias, because nearly all pairs are negative; pass one, such as -10."
        )
    if tile_rows is not None and tile_rows < 1:
        raise ValueError(f"tile_rows={tile_rows} scores no text; pass 1 or more, or None.")
    shares, sets = _agree(image_embeds, text_embeds, gather)
    tile_rows = tile_rows or max(1, TILE_NUMBERS // shares.total)
    dtype = torch.float64 if image_embeds.dtype == torch.float64 else torch.float32
    bias = None if logit_bias is None else logit_bias.to(dtype)
    with maybe_autocast(image_embeds.device.type, enabled=False):
        parts = _TiledLoss.apply(
            text_embeds.to(dtype),
            image_embeds.to(dtype),
            logit_scale.to(dtype),
            bias,
            shares,
            sets,
            loss_type == "sigmoid",
            tile_rows,
        )
    return ContrastiveLoss(*parts)
