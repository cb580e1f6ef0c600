"""Index and query synthetic vectors: seconds, memory and recall against exact cosines.

python benchmarks/search.py --rows 1000000 --width 256
"""

import argparse
import resource
import tempfile
import time

import numpy as np
import torch

from clippo.data.vectors import About, Vectors
from clippo.search import SearchIndex


def synthetic(rows: int, width: int) -> torch.Tensor:
    """float16 (rows, width) of unit length, in 2,000 clusters as embeddings of concepts are."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(2000, width, generator=generator)
    vectors = torch.empty(rows, width, dtype=torch.float16)
    for start in range(0, rows, 2**16):
        stop = min(rows, start + 2**16)
        own = centres[torch.randint(2000, (stop - start,), generator=generator)]
        own = own + 0.7 * torch.randn(stop - start, width, generator=generator)
        vectors[start:stop] = torch.nn.functional.normalize(own, dim=1).half()
    return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--queries", type=int, default=200)
    args = parser.parse_args()
    vectors = synthetic(args.rows, args.width)
    generator = torch.Generator().manual_seed(1)
    queries = vectors[torch.randint(args.rows, (args.queries,), generator=generator)].float()
    queries = torch.nn.functional.normalize(queries + 0.02 * torch.randn(queries.shape, generator=generator), dim=1)
    with tempfile.TemporaryDirectory() as folder:
        about = About("synthetic", "nothing", "image", "images", "a", args.rows, args.width, "float16")
        hashes = [number.to_bytes(8, "little") for number in range(args.rows)]
        Vectors.write(folder, about, vectors, list(range(args.rows)), hashes)
        start = time.perf_counter()
        SearchIndex(folder)
        print(f"{args.rows:,} vectors of {args.width}: indexed and written in {time.perf_counter() - start:.1f} s")
        start = time.perf_counter()
        index = SearchIndex(folder)
        print(f"opened in {time.perf_counter() - start:.1f} s")
        start = time.perf_counter()
        found = [index.search(query[None].numpy(), 10)[0] for query in queries]
        print(f"a query: {1000 * (time.perf_counter() - start) / args.queries:.1f} ms")
    best = np.concatenate([(queries @ part.float().T).numpy() for part in vectors.split(2**16)], axis=1)
    exact = [set(np.argpartition(-row, 10)[:10]) for row in best]
    shares = [len({hit.row for hit in hits} & right) / 10 for hits, right in zip(found, exact, strict=True)]
    print(f"of the exact ten nearest, found: {np.mean(shares):.1%}")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    main()
