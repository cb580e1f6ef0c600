"""Meters against known answers on a clock that the test moves; the count of skipped rows and its limit."""

import pytest
import torch
from transformers import TrainerState, TrainingArguments

from clippo.training.meters import SkippedRows, TrainingMeters, peak_flops
from clippo.training.trainer import images_first


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def alone(sums):
    return sums


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def meters(clock):
    meters = TrainingMeters(clock)
    meters.update(torch.ones(4), torch.zeros(4), 4)
    meters.read(alone, 1, None)  # the first window is start-up
    return meters


def test_known_answers(meters, clock):
    with meters.waiting():
        clock.now += 1.0
    meters.update(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 0.5, 0.0]), image_rows=2, skipped=3, flops=4e9)
    meters.update(torch.tensor([3.0, 3.0, 8.0]), torch.tensor([0.0, 0.0, 0.0]), image_rows=2, skipped=1, flops=4e9)
    with meters.excluded():
        clock.now += 50.0
    clock.now += 3.0
    assert meters.read(alone, 1, 4e9) == {
        "in_batch_R@1": 0.25,
        "pairs": 6,
        "skipped": 4,
        "image_text_loss": 2.25,
        "text_text_loss": 7.0,
        "pairs_per_second": 1.5,
        "data_wait": 0.25,
        "mfu": 0.5,
    }


def test_the_next_window_starts_empty(meters, clock):
    clock.now += 2.0
    meters.update(torch.ones(4), torch.ones(4), 4)
    first = meters.read(alone, 1, None)
    assert first == {"in_batch_R@1": 1.0, "pairs": 4, "skipped": 0, "pairs_per_second": 2.0, "data_wait": 0.0}
    clock.now += 8.0
    meters.update(torch.ones(4), torch.zeros(4), 4)
    assert meters.read(alone, 1, None)["pairs_per_second"] == 0.5
    assert meters.read(alone, 1, None) == {}


def test_several_processes_are_one_job(meters, clock):
    """Two equal processes have twice the pairs in the same time and the waiting share of one."""
    with meters.waiting():
        clock.now += 1.0
    clock.now += 1.0
    meters.update(torch.ones(4), torch.ones(4), 4, flops=3.0)
    read = meters.read(lambda sums: 2 * sums, 2, 3.0)
    assert (read["pairs"], read["pairs_per_second"], read["data_wait"], read["mfu"]) == (8, 4.0, 0.5, 0.5)


def test_start_up_is_no_throughput(clock):
    meters = TrainingMeters(clock)
    clock.now += 60.0
    meters.update(torch.ones(4), torch.zeros(4), 4)
    assert meters.read(alone, 1, 1.0) == {"in_batch_R@1": 0.0, "pairs": 4, "skipped": 0}


def test_the_peak_of_a_cpu_is_not_known():
    assert peak_flops(torch.device("cpu")) is None


def test_too_many_skipped_rows_end_the_run():
    rows = SkippedRows(max_skipped=0.1, grace=5)
    rows.add(used=1, skipped=5)  # within the grace
    rows.add(used=94, skipped=4)
    with pytest.raises(RuntimeError, match=r"12 of 107 rows could not be used, more than max_skipped=0\.1"):
        rows.add(used=0, skipped=3)
    with pytest.raises(ValueError, match="max_skipped=5 is not a share"):
        SkippedRows(5)


def test_the_count_goes_on_after_a_restart(tmp_path):
    before = SkippedRows(0.5)
    before.add(used=90, skipped=10)
    TrainerState(stateful_callbacks=[before]).save_to_json(str(tmp_path / "state.json"))
    after = SkippedRows(0.5)
    state = TrainerState.load_from_json(str(tmp_path / "state.json"))
    after.on_train_begin(TrainingArguments(output_dir=str(tmp_path), use_cpu=True), state, None)
    after.add(used=1, skipped=1)
    assert (after.used, after.skipped) == (91, 11)


def test_values_of_image_pairs_come_first_in_several_sets_of_texts():
    """Two sets of texts for two images and a first sentence: rows 2 and 5 are text against text."""
    ordered = images_first(torch.tensor([0.0, 1.0, 20.0, 3.0, 4.0, 50.0]), images=2, rows=3)
    assert ordered.tolist() == [0.0, 1.0, 3.0, 4.0, 20.0, 50.0]
    assert images_first(torch.tensor([7.0, 8.0]), images=0, rows=2).tolist() == [7.0, 8.0]
