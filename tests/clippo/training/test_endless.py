"""Epochs without a gap: one run of the loader, its workers alive, the same keys; resumed runs exact."""

import os
from itertools import islice

import pytest
import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.data_loader import BatchSamplerShard, DataLoaderShard
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from clippo.data.sampling import EndlessKeys, KeyedDataset, KeyedSampler, as_key
from clippo.training.endless import EndlessLoader, make_endless


class Rows(KeyedDataset):
    """Seven rows; an item says which process made it."""

    def __len__(self):
        return 7

    def __getitem__(self, key):
        return {"row": as_key(key).row, "seed": as_key(key).seed, "pid": os.getpid()}


def loader_of(sampler, workers=0):
    loader = DataLoader(Rows(), batch_size=3, sampler=sampler, drop_last=True, num_workers=workers)
    return Accelerator(cpu=True).prepare(loader)


def rows_of(batches):
    return [batch["row"].tolist() for batch in batches]


def one_epoch_at_a_time(epochs):
    """Batches of a loader that ends with each epoch."""
    sampler = Rows().train_sampler(3, seed=4)
    batches = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        batches += rows_of(DataLoader(Rows(), batch_size=3, sampler=sampler, drop_last=True))
    return batches


def test_no_gap_the_workers_stay_and_the_keys_are_the_same():
    loader = make_endless(loader_of(EndlessKeys(Rows().train_sampler(3, seed=4)), workers=2))
    assert type(loader) is EndlessLoader and len(loader) == 2
    batches = []
    for epoch in range(5):
        loader.set_epoch(epoch)
        batches += list(loader)
    assert rows_of(batches) == one_epoch_at_a_time(5)
    workers = {pid for batch in batches for pid in batch["pid"].tolist()}
    assert len(workers) == 2 and os.getpid() not in workers, "the two workers of the first epoch make the last one too"
    loader.stop()


def test_the_next_epoch_is_fetched_before_this_one_ends():
    asked = []

    class Watched(Rows):
        def __getitem__(self, key):
            asked.append(key.row)
            return super().__getitem__(key)

    sampler = EndlessKeys(Rows().train_sampler(3, seed=4))
    loader = Accelerator(cpu=True).prepare(DataLoader(Watched(), batch_size=3, sampler=sampler, drop_last=True))
    assert len(list(make_endless(loader))) == 2
    assert len(asked) > 6


def test_a_run_that_skips_to_another_epoch_begins_there():
    loader = make_endless(loader_of(EndlessKeys(Rows().train_sampler(3, seed=4))))
    expected = one_epoch_at_a_time(6)
    loader.set_epoch(4)
    assert rows_of(loader) == expected[8:10]
    loader.set_epoch(1)
    assert rows_of(loader) == expected[2:4]
    next(iter(loader))  # an epoch that is broken off
    loader.set_epoch(3)
    assert rows_of(loader) == expected[6:8]


def test_batches_of_the_resumed_epoch_are_skipped_as_before():
    loader = make_endless(loader_of(EndlessKeys(Rows().train_sampler(3, seed=4))))
    rest = skip_first_batches(loader, 1)
    rest.set_epoch(2)
    assert rows_of(islice(rest, 1)) == one_epoch_at_a_time(3)[5:6]


def test_a_run_draws_nothing_from_the_global_generator():
    loader = make_endless(loader_of(EndlessKeys(Rows().train_sampler(3, seed=4))))
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_other_loaders_are_left_alone():
    plain = loader_of(SequentialSampler(range(7)))
    assert make_endless(plain) is plain and type(plain) is DataLoaderShard


@settings(max_examples=20, deadline=None)
@given(st.integers(4, 20), st.integers(1, 4), st.integers(1, 2), st.integers(0, 3))
def test_endless_keys_are_those_of_the_epochs(length, batch_size, processes, first):
    if length < batch_size * processes:
        return
    sampler = KeyedSampler([length], [batch_size], ["rows"], seed=2, processes=processes)
    expected = []
    for epoch in range(first, first + 3):
        sampler.set_epoch(epoch)
        expected += list(sampler)
    keys = EndlessKeys(KeyedSampler([length], [batch_size], ["rows"], seed=2, processes=processes))
    keys.set_epoch(first)
    assert list(islice(keys, len(expected))) == expected


@pytest.mark.parametrize("rank", [0, 1])
def test_processes_share_endless_keys(rank):
    def keys():
        return KeyedSampler([9], [2], ["rows"], seed=2, processes=2)

    endless = BatchSamplerShard(BatchSampler(EndlessKeys(keys()), 2, drop_last=True), 2, rank, even_batches=False)
    expected, sampler = [], keys()
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected += list(BatchSamplerShard(BatchSampler(sampler, 2, drop_last=True), 2, rank, even_batches=False))
    assert list(islice(endless, len(expected))) == expected
