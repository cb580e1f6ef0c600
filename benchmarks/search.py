"""Index and query synthetic vectors: seconds, memory and recall of the index with cells beside exact search.

Each step runs in a process of its own, so its peak memory is its own.

python benchmarks/search.py --rows 1000000 --width 256
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import faiss
import numpy as np
import torch

from clippo.data.vectors import About, Vectors
from clippo.search import SearchIndex
from clippo.search import index as index_module
from clippo.search.index import FILE

COUNT = 10  # hits of a query
SHARES = (0.003, 0.01, 0.03, 0.1)  # of the cells that a query reads


def synthetic(rows: int, width: int, noise: float) -> torch.Tensor:
    """float16 (rows, width) of unit length, in 2,000 clusters as embeddings of concepts are.

    With more noise a query's neighbours lie in more cells.
    """
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(2000, width, generator=generator)
    vectors = torch.empty(rows, width, dtype=torch.float16)
    for start in range(0, rows, 2**16):
        stop = min(rows, start + 2**16)
        own = centres[torch.randint(2000, (stop - start,), generator=generator)]
        own = own + noise * torch.randn(stop - start, width, generator=generator)
        vectors[start:stop] = torch.nn.functional.normalize(own, dim=1).half()
    return vectors


def write(folder: str, rows: int, width: int, queries: int, noise: float) -> float:
    """Write the folder that `clippo embed` would write, and the queries: stored vectors with noise."""
    vectors = synthetic(rows, width, noise)
    generator = torch.Generator().manual_seed(1)
    chosen = vectors[torch.randint(rows, (queries,), generator=generator)].float()
    chosen = torch.nn.functional.normalize(chosen + 0.02 * torch.randn(chosen.shape, generator=generator), dim=1)
    about = About("synthetic", "nothing", "image", "images", "a", rows, width, "float16")
    start = time.perf_counter()
    Vectors.write(folder, about, vectors, range(rows), [number.to_bytes(8, "little") for number in range(rows)])
    np.save(Path(folder) / "queries.npy", chosen.numpy())
    return time.perf_counter() - start


def build(folder: str, cells: float) -> tuple[float, float]:
    """Make the index with `cells` x sqrt(N) cells and write it: wall seconds and processor seconds."""
    index_module.CELLS = cells
    start, busy = time.perf_counter(), time.process_time()
    SearchIndex(folder)
    return time.perf_counter() - start, time.process_time() - busy


def ask(folder: str) -> tuple[float, float, np.ndarray]:
    """Seconds to open the index, processor seconds a query, and the rows found (Q, 10)."""
    start = time.perf_counter()
    index = SearchIndex(folder)
    opened = time.perf_counter() - start
    queries = np.load(Path(folder) / "queries.npy")
    start = time.process_time()
    found = [index.search(query[None], COUNT)[0] for query in queries]
    seconds = (time.process_time() - start) / len(queries)
    return opened, seconds, np.array([[hit.row for hit in hits] for hits in found])


def compare_all(folder: str) -> tuple[float, float, np.ndarray]:
    """The same from an index that compares every vector in float32."""
    vectors = Vectors(folder).vectors
    start = time.perf_counter()
    flat = faiss.IndexFlatIP(vectors.shape[1])
    for part in vectors.split(2**16):
        flat.add(part.float().numpy())
    built = time.perf_counter() - start
    return built, *ask_each(flat, np.load(Path(folder) / "queries.npy"))


def ask_each(index: faiss.Index, queries: np.ndarray) -> tuple[float, np.ndarray]:
    """Processor seconds a query, one query at a time, and the rows found (Q, 10)."""
    start = time.process_time()
    found = np.concatenate([index.search(query[None], COUNT)[1] for query in queries])
    return (time.process_time() - start) / len(queries), found


def probe(folder: str) -> list[tuple[float, float, np.ndarray]]:
    """Share of the cells, seconds a query and the rows found, for each of `SHARES`."""
    index, rows = faiss.read_index(str(Path(folder) / FILE)), []
    for share in SHARES if hasattr(index, "nlist") else ():
        index.nprobe = max(1, round(share * index.nlist))
        rows.append((share, *ask_each(index, np.load(Path(folder) / "queries.npy"))))
    return rows


def _task(pipe, function: Callable, arguments: tuple) -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    result = function(*arguments)
    pipe.send((result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20))


def alone(function: Callable, *arguments) -> tuple:
    """Result of a function in a process of its own with one thread, and the peak memory in GiB."""
    context = multiprocessing.get_context("fork")  # begins with the memory of the imports alone
    here, there = context.Pipe()
    process = context.Process(target=_task, args=(there, function, arguments))
    process.start()
    there.close()  # so that a process that dies ends the wait
    result = here.recv()
    process.join()
    return result


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Share of the exact nearest rows that were found."""
    return np.mean([len(set(own) & set(right)) / len(right) for own, right in zip(found, exact, strict=True)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--noise", type=float, default=0.7, help="Spread of a cluster; the centres have 1.")
    parser.add_argument("--cells", type=float, default=index_module.CELLS, help="Cells, times sqrt(rows).")
    parser.add_argument("--folder", help="Folder to keep, whose index is used if it exists.")
    args = parser.parse_args()
    with nullcontext(args.folder) if args.folder else tempfile.TemporaryDirectory() as folder:
        if not (Path(folder) / "queries.npy").exists():
            seconds, peak = alone(write, folder, args.rows, args.width, args.queries, args.noise)
            print(f"{args.rows:,} vectors of {args.width} written in {seconds:.1f} s, peak {peak:.2f} GiB", flush=True)
        (seconds, busy), peak = alone(build, folder, args.cells)
        size = (Path(folder) / FILE).stat().st_size / 2**30
        print(
            f"indexed in {seconds:.0f} s ({busy:.0f} s of one core), {size:.2f} GiB on disk, peak {peak:.2f} GiB",
            flush=True,
        )
        (opened, seconds, found), peak = alone(ask, folder)
        print(f"opened in {opened:.1f} s, a query: {1000 * seconds:.2f} ms, peak {peak:.2f} GiB", flush=True)
        (built, each, exact), flat = alone(compare_all, folder)
        print(f"exact: built in {built:.1f} s, a query: {1000 * each:.2f} ms, peak {flat:.2f} GiB", flush=True)
        print(f"of the exact {COUNT} nearest, found: {recall(found, exact):.1%}")
        for share, seconds, own in alone(probe, folder)[0]:
            print(f"  {share:6.1%} of the cells: {recall(own, exact):.1%}, {1000 * seconds:.2f} ms a query")


if __name__ == "__main__":
    main()
