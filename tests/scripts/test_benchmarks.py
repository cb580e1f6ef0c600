"""Benchmarks run, with models and batches too small for their numbers to mean anything."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TINY = "--width 64 --depth 1 --image_size 32"

# Shortened arguments, and a text that the output contains.
RUNS = {
    "train_step": (
        f"{TINY} --rounds 1 --batch_size 2 --peak_tflops 1 --models clippo clip",
        "stand-in for its attention kernels | ",
    ),
    "emoji_step": ("--images 4 --texts_per_image 2 --depth 1 --rounds 1 --profile", "texts/s"),
    "agreement": (f"{TINY}", "| bfloat16 | tiles | False |"),
    "experts_step": ("--preset Ti/16 --image_size 32 --batch_size 2 --rounds 1 --steps 1 --experts 2", "dense"),
    "time_contrastive_loss": ("--width 8 --batches 16 --rounds 1", "| softmax"),
    "question_on_grid": ("--preset Ti/16 --image_size 64 --repeats 1", "grid"),
    "search": ("--rows 3000 --width 8 --queries 5", "ms"),
}


@pytest.fixture
def _one_thread_again():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread_again")
@pytest.mark.parametrize("name", RUNS)
def test_benchmark_runs(name, monkeypatch, capsys):
    arguments, expected = RUNS[name]
    script = ROOT / "benchmarks" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), *arguments.split()])
    # Nothing of a benchmark may change the allocator of the test's process.
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    runpy.run_path(str(script), run_name="__main__")
    assert expected in capsys.readouterr().out
