"""Memory and time of contrastive losses, side by side in one run.

* whole matrix: B x B scores and cross-entropy along rows and columns, on one process.
* local loss, as in open_clip: one process of eight scores its own rows against the gathered rows of all, images against
  texts and texts against images.
* sigmoid in chunks, as in open_clip's chunked SigLIP loss: one chunk of texts after the other, all of them saved by
  autograd.

All three are written here from their formulas and compared with clippo's loss on the same embeddings. For the local
loss, clippo's loss computes the share of one process of eight too. Its gathered rows are given and nothing is reduced,
so neither column includes the network.

"kept" counts every storage that autograd saves once, embeddings included. "peak" is the growth of a process's resident
memory in its first forward and backward pass, without the embeddings. Times are CPU seconds of one thread for the
second pass, the best of several interleaved rounds. A loss is omitted where four times its peak at half the batch
exceeds --limit_gib.

Run: python benchmarks/time_contrastive_loss.py [--width 768] [--batches 2048 4096 8192 16384] [--rounds 2]
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


def clippo_loss(images, texts, scale, bias, kind):
    return contrastive_loss(images, texts, scale, bias, kind).loss


class AlreadyGathered(Shares):
    """Share of one process without the others: the same work and memory."""

    def gather(self, own):
        return self.everybody

    def sum_to_owner(self, everybody):
        return everybody[: self.rows[0]]

    def reduce(self, values, operation):
        return values


def clippo_share(images, texts, scale, bias):
    rows = len(images) // WORLD
    shares = AlreadyGathered((rows,) * WORLD, 0)
    shares.everybody = images.detach()
    tile_rows = max(1, TILE_NUMBERS // len(images))
    return _TiledLoss.apply(texts[:rows], images[:rows], scale, None, shares, 1, False, tile_rows)[0]


GROUPS = [
    ("softmax, one process", "whole matrix", whole_matrix, partial(clippo_loss, kind="softmax")),
    (f"softmax, one process of {WORLD}", "local loss", local_loss, clippo_share),
    ("sigmoid, one process", "in chunks", sigmoid_in_chunks, partial(clippo_loss, kind="sigmoid")),
]


def measure(way, batch: int, width: int) -> dict[str, float]:
    """Measures memory in bytes in one step and CPU seconds in a second step."""
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
    """Runs `measure` in a child process, so that the peak belongs to this loss alone."""
    context = multiprocessing.get_context("fork")  # needs no pickling; no thread runs yet
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


def best_of(ways: dict, batch: int, width: int, rounds: int) -> dict[str, dict[str, float]]:
    """Returns the fastest measurement of each loss over interleaved rounds."""
    best = {}
    for _ in range(rounds):
        for way, function in ways.items():
            result = in_a_child(function, batch, width)
            if way not in best or result["seconds"] < best[way]["seconds"]:
                best[way] = result
    return best


def compare(title: str, name: str, other, mine, args: argparse.Namespace) -> None:
    """Prints one row per batch size."""
    expected = {}  # batch -> peak
    for batch in sorted(args.batches):
        fits = expected.get(batch, 0) < args.limit_gib * 2**30
        best = best_of({"clippo": mine, **({name: other} if fits else {})}, batch, args.width, args.rounds)
        c, o = best["clippo"], best.get(name)
        cells = f"{c['kept'] / MIB:,.1f} | {c['peak'] / MIB:,.0f} | {c['seconds']:.2f}"
        if o is None:
            print(f"| {title} | {batch} | {name} | | over the limit | | {cells} | | |", flush=True)
            continue
        expected[2 * batch] = 4 * o["peak"]
        if mine is not clippo_share and abs(o["loss"] - c["loss"]) > 1e-4 * abs(o["loss"]):
            raise RuntimeError(f"{title}, B = {batch}: {name} gives {o['loss']}, clippo {c['loss']}.")
        print(
            f"| {title} | {batch} | {name} | {o['kept'] / MIB:,.1f} | {o['peak'] / MIB:,.0f} | {o['seconds']:.2f} "
            f"| {cells} | {o['kept'] / c['kept']:.1f}x | {o['seconds'] / c['seconds']:.2f}x |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=768, help="Width E of the embeddings.")
    parser.add_argument("--batches", type=int, nargs="+", default=[2048, 4096, 8192, 16384], help="Pairs B.")
    parser.add_argument("--rounds", type=int, default=2, help="Timed rounds; the best counts.")
    parser.add_argument("--limit_gib", type=float, default=6.0, help="Largest memory of a loss, in GiB.")
    args = parser.parse_args()

    print(f"E = {args.width}, float32, one thread; kept and peak in MiB, forward and backward in seconds\n")
    print("| loss | B | compared with | kept | peak | seconds | clippo: kept | peak | seconds | kept | speed |")
    print("|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for group in GROUPS:
        compare(*group, args)


if __name__ == "__main__":
    main()
