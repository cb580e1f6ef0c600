"""Freed memory is kept between steps on a CPU."""

import subprocess
import sys

import pytest
import torch

from clippo.training.memory import CHOICES, keep_freed_memory

# Faults of the last of eight rounds, each with six tensors of 20 MB more than the system gets back at once.
PROGRAM = """
import resource, sys, torch
from clippo.training.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory(torch.device("cpu"))
for turn in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    tensors = [torch.zeros(13_000_000 + 1000 * i) for i in range(6)]
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    run = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(run.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_a_step_after_the_first_ones_pays_no_page_faults(monkeypatch):
    for name in CHOICES:
        monkeypatch.delenv(name, raising=False)
    if not keep_freed_memory(torch.device("cpu")):
        pytest.skip("another C library than glibc")
    assert faults("keep") < 0.05 * faults("return")


def test_a_choice_of_the_user_stands(monkeypatch):
    monkeypatch.setenv("LD_PRELOAD", "")  # an empty value is no choice
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=1000000")
    assert not keep_freed_memory(torch.device("cpu"))
