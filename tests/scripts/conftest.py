"""Running the scripts as a user does."""

import os
import subprocess
import sys

import pytest

from ..conftest import ROOT


@pytest.fixture(scope="session")
def run_script():
    """Function running `scripts/NAME` with options in a process of its own; returns the `CompletedProcess`."""

    def run(name, *options):
        return subprocess.run(
            [sys.executable, ROOT / "scripts" / name, *map(str, options)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    return run
