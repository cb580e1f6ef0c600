"""One run at a time writes to an output folder. The lock ends with the process that holds it."""

import os
import signal
import subprocess
import sys
import time

import pytest
from transformers import TrainingArguments

from clippo.training.run_lock import LOCK_FILE, RunInProgressError, run_lock

from ...conftest import ROOT

# Holds the lock of a folder until it is killed, with a worker that lives longer.
HOLDER = """
import multiprocessing, sys, time
from transformers import TrainingArguments
from clippo.training.run_lock import run_lock
with run_lock(TrainingArguments(sys.argv[1], use_cpu=True)):
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(20,)).start()
    print("held", flush=True)
    time.sleep(60)
"""


def arguments(folder) -> TrainingArguments:
    return TrainingArguments(str(folder), use_cpu=True)


def test_a_second_run_in_the_same_process(tmp_path):
    with run_lock(arguments(tmp_path)):
        with pytest.raises(RunInProgressError, match=rf"is in use by process {os.getpid()} on .* since 20"):
            with run_lock(arguments(tmp_path)):
                pass
        with run_lock(arguments(tmp_path / "other")):
            pass
    with run_lock(arguments(tmp_path)):  # an error released it as well
        pass


def test_a_run_that_failed_releases_it(tmp_path):
    with pytest.raises(ZeroDivisionError), run_lock(arguments(tmp_path)):
        raise ZeroDivisionError
    with run_lock(arguments(tmp_path)):
        assert (tmp_path / LOCK_FILE).is_file()


def test_another_process_is_named_and_its_death_releases_the_lock(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunInProgressError, match=rf"is in use by process {holder.pid} on .* since 20"):
            with run_lock(arguments(tmp_path)):
                pass
        holder.kill()
        holder.wait()
        started = time.monotonic()
        with run_lock(arguments(tmp_path)):  # although its worker still has the file open
            assert time.monotonic() - started < 5
    finally:
        os.killpg(holder.pid, signal.SIGKILL)
