"""The order of keys: exact shares in every batch, whole passes, the same for any number of processes."""

from collections import Counter

import pytest
from accelerate.data_loader import BatchSamplerShard
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler

from clippo.data.sampling import KeyedSampler, rows_per_batch

NAMES = ["photos", "books", "speeches"]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=3), st.integers(20, 300))
def test_shares_add_up_and_are_within_a_row(parts, batch_size):
    weights = [part / sum(parts) for part in parts]
    names = NAMES[: len(parts)]
    if min(weights) * batch_size < 1:
        return
    counts = rows_per_batch(weights, names, batch_size)
    assert sum(counts) == batch_size
    assert all(abs(count - weight * batch_size) < 1 for count, weight in zip(counts, weights, strict=True))


def test_shares_that_cannot_be():
    with pytest.raises(ValueError, match=r"sum to 1, got 1\.2 \(photos 0\.7, books 0\.5\)"):
        rows_per_batch([0.7, 0.5], NAMES[:2], 10)
    with pytest.raises(ValueError, match=r"books has a weight of 0\.01.*make the batch 100 or larger"):
        rows_per_batch([0.99, 0.01], NAMES[:2], 10)
    with pytest.raises(ValueError, match="books has 5 rows, but a batch takes 3 of them on each of 2 processes"):
        KeyedSampler([100, 5], [3, 3], NAMES[:2], seed=0, processes=2)


@settings(max_examples=30)
@given(st.integers(8, 60), st.integers(4, 60), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))
def test_every_block_has_its_shares_and_no_row_twice(first, second, a, b, epoch):
    sampler = KeyedSampler([first, second], [a, b], NAMES[:2], seed=5)
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(keys) == len(sampler)
    for start in range(0, len(keys), a + b):
        block = keys[start : start + a + b]
        assert Counter(key.source for key in block) == {0: a, 1: b}
        assert len({(key.source, key.row) for key in block}) == a + b
    read = Counter(key.row for key in keys if key.source == 0)
    assert set(read.values()) == {1} and len(read) == first // a * a, "an epoch reads the first source once"


def test_a_small_source_goes_on_where_it_stopped():
    sampler = KeyedSampler([40, 10], [4, 2], NAMES[:2], seed=0)
    rows = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        rows += [key.row for key in sampler if key.source == 1]
    passes = [rows[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(one) == list(range(10)) for one in passes), "whole passes, over the end of an epoch too"
    assert passes[0] != passes[1]


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_see_together_what_one_would(processes):
    """Through Accelerate's own sharding: step by step the same keys, over epochs in which the sources wrap."""
    lengths, counts = [50, 17], [3, 1]
    alone = KeyedSampler(lengths, [processes * count for count in counts], NAMES[:2], seed=1)
    shared = KeyedSampler(lengths, counts, NAMES[:2], seed=1, processes=processes)
    for epoch in range(3):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        batches = BatchSampler(alone, 4 * processes, drop_last=True)
        parts = [
            list(BatchSamplerShard(BatchSampler(shared, 4, drop_last=True), processes, rank, even_batches=False))
            for rank in range(processes)
        ]
        assert len(batches) == len(parts[0]) == len(parts[-1]) > 0
        for batch, *of_ranks in zip(batches, *parts, strict=True):
            assert sorted(batch) == sorted(key for part in of_ranks for key in part)
