"""Runs code in a process of its own under a memory limit."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRELUDE = """
import resource
import clippo, clippo.processing, datasets

with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + {megabytes} * 2**20,) * 2)

"""


def run_limited(code: str, megabytes: int, timeout: float = 120) -> str:
    """Runs code after `import clippo`, with that much memory beside what the imports take.

    Args:
        code: Python source. It must print "done" last.
        megabytes: Memory that the code may take.
        timeout: Seconds until the process counts as hung.

    Returns:
        The lines that the code printed before "done".
    """
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE.format(megabytes=megabytes) + code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert result.returncode == 0 and result.stdout.endswith("done\n"), result.stdout + result.stderr
    return result.stdout.removesuffix("done\n")
