"""What a contrastive loss keeps for backward, how much memory its step takes and how long, side by side in one run.

* whole matrix: B x B scores, cross-entropy along rows and columns; on one process;
* local loss, the way open_clip computes it: one process of eight scores its own rows against the gathered rows of
  all, images against texts and texts against images;
* sigmoid in chunks, the way open_clip's chunked SigLIP loss does: one chunk of texts after the other, all of them left
  to autograd.

All three are written here from their formulas. Ours stands beside each, with the same embeddings: for the local loss it
is the share of one process of eight too, with the gathered rows at hand and nobody to reduce with, so neither column
has the time of the network in it.

"kept" counts every storage that autograd saves once, embeddings included. "peak" is how much the resident memory of a
process grows, in its first forward and backward, beyond what making the embeddings took. Times are CPU seconds of one
thread for the second, the best of several interleaved rounds. A way whose peak would not fit below --limit-gib (four
times its peak at half the batch) is left out.

Run: python benchmarks/contrastive_loss.py [--width 768] [--batches 2048 4096 8192 16384] [--rounds 2]
"""

import argparse
import multiprocessing
import resource
import time
from functools import partial

import torch
from torch.nn import functional as F

from clippo.modeling_clippo.loss_clippo import TILE_NUMBERS, Shares, _TiledLoss, contrastive_loss

WORLD = 8
MIB = 2**20


def whole_matrix(images, texts, scale, bias):
    scores, own = images @ texts.T * scale, torch.arange(len(images))
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def local_loss(images, texts, scale, bias):
    rows = len(images) // WORLD  # the first process's
    own = torch.arange(rows)
    by_image = F.cross_entropy(images[:rows] @ texts.T * scale, own)
    by_text = F.cross_entropy(texts[:rows] @ images.T * scale, own)
    return (by_image + by_text) / 2


def sigmoid_in_chunks(images, texts, scale, bias, chunks=8):
    loss, start = 0, 0
    for part in texts.chunk(chunks):
        scores = images @ part.T * scale + bias
        sign = -torch.ones_like(scores)
        sign.diagonal(-start).fill_(1)
        loss = loss - F.logsigmoid(sign * scores).sum() / len(images)
        start += len(part)
    return loss


def ours(images, texts, scale, bias, kind):
    return contrastive_loss(images, texts, scale, bias, kind).loss


class AlreadyGathered(Shares):
    """The share of one process, without the others: same work, same memory."""

    def gather(self, own):
        return self.everybody

    def sum_to_owner(self, everybody):
        return everybody[: self.rows[0]]

    def reduce(self, values, operation):
        return values


def our_share(images, texts, scale, bias):
    rows = len(images) // WORLD
    shares = AlreadyGathered((rows,) * WORLD, 0)
    shares.everybody = images.detach()
    tile_rows = max(1, TILE_NUMBERS // len(images))
    return _TiledLoss.apply(texts[:rows], images[:rows], scale, None, shares, 1, False, tile_rows)[0]


GROUPS = [
    ("softmax, one process", "whole matrix", whole_matrix, partial(ours, kind="softmax")),
    (f"softmax, one process of {WORLD}", "local loss", local_loss, our_share),
    ("sigmoid, one process", "in chunks", sigmoid_in_chunks, partial(ours, kind="sigmoid")),
]


def measure(way, batch: int, width: int) -> dict[str, float]:
    """Two steps, the first for the memory in bytes, the second for the CPU seconds; and the loss."""
    generator = torch.Generator().manual_seed(0)
    images, texts = (
        F.normalize(torch.randn(batch, width, generator=generator), dim=-1).requires_grad_() for _ in range(2)
    )
    scale, bias = torch.tensor([10.0], requires_grad=True), torch.tensor([-10.0], requires_grad=True)
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = way(images, texts, scale, bias)
    loss.backward()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before

    images.grad = texts.grad = scale.grad = bias.grad = None
    start = time.process_time()
    way(images, texts, scale, bias).backward()
    seconds = time.process_time() - start
    return {"kept": sum(storages.values()), "peak": peak, "seconds": seconds, "loss": loss.item()}


def in_a_child(way, batch: int, width: int) -> dict[str, float]:
    """`measure` in a process of its own, so that the peak is that of this way alone."""
    context = multiprocessing.get_context("fork")  # so the ways need no pickling; nothing has run here yet
    receive, send = context.Pipe(duplex=False)

    def work():
        torch.set_num_threads(1)
        send.send(measure(way, batch, width))

    child = context.Process(target=work)
    child.start()
    send.close()
    try:
        return receive.recv()
    except EOFError as error:
        raise RuntimeError(f"A batch of {batch} ended its process; is there enough memory?") from error
    finally:
        child.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=768, help="E, of the embeddings")
    parser.add_argument("--batches", type=int, nargs="+", default=[2048, 4096, 8192, 16384])
    parser.add_argument("--rounds", type=int, default=2, help="timed rounds; the best counts")
    parser.add_argument("--limit-gib", type=float, default=6.0, help="memory that no way may exceed")
    args = parser.parse_args()

    print(f"E = {args.width}, float32, one thread; kept and peak in MiB, forward and backward in seconds\n")
    print("| loss | B | other way | kept | peak | seconds | ours: kept | peak | seconds | kept, times less | faster |")
    print("|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for title, name, other, mine in GROUPS:
        expected = {}  # batch -> peak
        for batch in sorted(args.batches):
            fits = expected.get(batch, 0) < args.limit_gib * 2**30
            ways = {"ours": mine, **({name: other} if fits else {})}
            best = {}
            for _ in range(args.rounds):
                for way, function in ways.items():
                    result = in_a_child(function, batch, args.width)
                    if way not in best or result["seconds"] < best[way]["seconds"]:
                        best[way] = result
            o = best["ours"]
            cells = f"{o['kept'] / MIB:,.1f} | {o['peak'] / MIB:,.0f} | {o['seconds']:.2f}"
            if not fits:
                print(f"| {title} | {batch} | {name} | | over the limit | | {cells} | | |", flush=True)
                continue
            t = best[name]
            expected[2 * batch] = 4 * t["peak"]
            if mine is not our_share and abs(t["loss"] - o["loss"]) > 1e-4 * abs(t["loss"]):
                raise RuntimeError(f"{title}, B = {batch}: {name} says {t['loss']}, ours {o['loss']}.")
            print(
                f"| {title} | {batch} | {name} | {t['kept'] / MIB:,.1f} | {t['peak'] / MIB:,.0f} | {t['seconds']:.2f} "
                f"| {cells} | {t['kept'] / o['kept']:.1f}x | {t['seconds'] / o['seconds']:.2f}x |",
                flush=True,
            )


if __name__ == "__main__":
    main()
