"""The contrastive losses: find the partner among everything the whole job sees in this step.

Softmax (CLIPPO's: big_vision `trainers/proj/image_text`) and sigmoid (SigLIP, arXiv 2303.15343, section 3.2), over the
rows of all processes. The matrix of scores is never kept. Each process holds its own texts against all images, a few
rows at a time, and forgets every tile once its sums are taken; backward computes the tiles again from the embeddings
and the sums. What is kept for backward is linear in the batch.

Axes: W processes, n own rows, N rows of all processes, K texts an image, E embedding width, b rows of a tile.
"""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.utils.generic import maybe_autocast

LOSS_TYPES = ("softmax", "sigmoid")
TILE_NUMBERS = 2**22  # scores that exist at a time, unless the caller says otherwise: 16 MiB in float32


class ContrastiveLoss(NamedTuple):
    """What `contrastive_loss` returns."""

    loss: torch.Tensor  # scalar: its average over the processes is the mean over all rows of all processes
    loss_per_pair: torch.Tensor  # (K*n,) detached, half of either direction
    hit_per_pair: torch.Tensor  # (K*n,) detached: the share of the two directions in which the partner came first


class Shares(NamedTuple):
    """How the rows of the global batch are spread over the processes."""

    rows: tuple[int, ...]  # of each process
    rank: int

    @property
    def total(self) -> int:
        """N"""
        return sum(self.rows)

    @property
    def start(self) -> int:
        """Where our rows begin among all rows."""
        return sum(self.rows[: self.rank])

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        """(n, E) of every process -> (N, E). Shorter batches travel padded to the longest."""
        if len(self.rows) == 1:
            return own
        longest = max(self.rows)
        everybody = own.new_empty(len(self.rows) * longest, own.shape[1])
        dist.all_gather_single(everybody, F.pad(own, (0, 0, 0, longest - len(own))))
        if self.total == len(everybody):
            return everybody
        parts = everybody.split(longest)
        return torch.cat([part[:count] for part, count in zip(parts, self.rows, strict=True)])

    def sum_to_owner(self, everybody: torch.Tensor) -> torch.Tensor:
        """(N, E) of every process -> our (n, E), summed over the processes."""
        if len(self.rows) == 1:
            return everybody
        longest = max(self.rows)
        if self.total != longest * len(self.rows):
            parts = everybody.split(self.rows)
            everybody = torch.cat([F.pad(part, (0, 0, 0, longest - len(part))) for part in parts])
        own = everybody.new_empty(longest, everybody.shape[1])
        dist.reduce_scatter_single(own, everybody)
        return own[: self.rows[self.rank]]

    def reduce(self, values: torch.Tensor, operation) -> torch.Tensor:
        """The same shape on every process, reduced over them in place."""
        if len(self.rows) > 1:
            dist.all_reduce(values, operation)
        return values


def _agree(images: torch.Tensor, texts: torch.Tensor, gather: bool) -> tuple[Shares, int]:
    """Who has how many rows, and K. Every process comes to the same conclusion, an error included."""
    counts, rank = [(len(images), len(texts))], 0
    if gather and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        rank, world = dist.get_rank(), dist.get_world_size()
        everybody = torch.empty(world, 2, dtype=torch.int64, device=images.device)
        dist.all_gather_single(everybody, torch.tensor(counts, device=images.device))
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


def _tiles(rows: int, sets: int, start: int, height: int) -> list[tuple[int, slice, int]]:
    """The tiles of one process: k, which texts, and the offset of the diagonal on which their partners lie."""
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

    A tile takes part in both directions at once: along its rows a text looks for its image, along its columns the
    images look for their texts. The sums along the columns run over all tiles of all processes, so they are carried
    from tile to tile and reduced over the processes at the end: a few numbers a column instead of a second gather.

    Backward returns the gradient of W times the mean over all rows, which data parallelism averages. It takes for
    granted that every process backpropagates the same multiple of its loss.
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
            own = scores.diagonal(offset)  # a view: the partners' scores
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
        # A tie counts against the partner: an encoder that maps everything to one point finds nothing.
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
        with maybe_autocast(texts.device.type, enabled=False):  # backward may run inside somebody's autocast
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
                    slope = (scores - row_sum[rows, None]).exp_()  # the softmax of every text
                    slope += scores.sub_(column_sum[k]).exp_()  # and of every image
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
    """Row i of one side belongs to row i of the other; everything else in the batch does not.

    softmax: the mean over rows of half the image-to-text and half the text-to-image cross-entropy.
    sigmoid: the mean over rows of the sum over columns of -log sigmoid(z (t x.y + b)), z = 1 for partners and -1
    otherwise.

    Computed in float32, or in float64 if the embeddings are, whatever autocast says.

    Args:
        image_embeds: (n, E) unit vectors.
        text_embeds: (n, E) unit vectors, or K sets of them below each other, (K*n, E). The sets are not each other's
            negatives; the loss is the mean over them.
        logit_scale: (1,) t, the multiplier of the cosines, already exponentiated.
        logit_bias: (1,) b. Softmax, which it cannot change, gives it a gradient of zero.
        loss_type: "softmax" or "sigmoid".
        gather: Score against the rows of all processes of the default group. All of them must then make this call, and
            backpropagate the same multiple of the loss. They may have different numbers of rows: a process weighs as
            much as it has rows, so that the average over processes of losses and gradients, which DDP and FSDP2 take,
            is the global one. Learning those numbers is a small collective that the host waits for.
        tile_rows: b, texts scored at a time. None keeps a tile at about `TILE_NUMBERS` numbers. Affects memory and
            speed only.

    Raises:
        ValueError: The texts are no multiple of the images, on any process (raised on all of them); unknown loss_type;
            sigmoid without a bias; tile_rows below 1.
    """
    if loss_type not in LOSS_TYPES:
        raise ValueError(f"loss_type={loss_type!r} is not known; choose one of {', '.join(LOSS_TYPES)}.")
    if loss_type == "sigmoid" and logit_bias is None:
        raise ValueError("The sigmoid loss needs logit_bias; without it nearly all pairs start on the wrong side.")
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
