"""Several processes on this machine, talking over gloo."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

# Head of a program in which clippo cannot be imported.
HIDE_CLIPPO = """
import sys
class Hidden:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "clippo":
            raise ModuleNotFoundError("No module named 'clippo'", name=name)
sys.meta_path.insert(0, Hidden)
"""


def run_processes(work: Callable[..., Any], world: int, folder: Path, *args) -> list[Any]:
    """Results of `work(rank, *args)` in each of `world` processes; it must be a function of a module."""
    folder.mkdir(parents=True, exist_ok=True)
    # The server imports our code once, and its children are there at once.
    mp.get_context("forkserver").set_forkserver_preload(["clippo", "torch.distributed.fsdp"])
    # gloo may abort when a process ends, its work done: what it left decides.
    with contextlib.suppress(mp.ProcessExitedException):
        mp.start_processes(_process, (work, world, folder, args), nprocs=world, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


def _process(rank: int, work: Callable[..., Any], world: int, folder: Path, args: tuple) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'rendezvous'}", rank=rank, world_size=world)
    torch.save(work(rank, *args), folder / f"{rank}.pt")
    dist.barrier()  # the first process to end must find the results of all
    dist.destroy_process_group()
