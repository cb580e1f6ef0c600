"""Two runs in one output folder: the second one stops and names the first one, whose death frees the folder."""

import json
import os
import signal
import time

import pytest

from .conftest import Driver


@pytest.fixture
def second_driver(tmp_path):
    made = Driver(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("name", ["pretrain", "vqa", "glue"])
def test_the_second_run_says_who_holds_the_folder(driver, second_driver, commands, uninterrupted, tmp_path, name):
    command, folder, (_, whole) = commands[name], tmp_path / "run", uninterrupted(name)
    report = driver.folder / "log.txt.report"
    report.unlink(missing_ok=True)
    driver.start(command, folder, {"kind": "step", "number": 3, "action": "wait"})
    for _ in range(600):
        if report.exists():
            break
        time.sleep(0.1)
    holder = json.loads(report.read_text())["pid"]
    outcome = second_driver.run(command, folder)
    os.kill(holder, signal.SIGKILL)
    assert driver.wait().status == -9
    assert outcome.status == 1 and str(holder) in outcome.output.splitlines()[-1], outcome.output[-2000:]
    outcome = second_driver.run(command, folder)
    assert outcome.status == 0, outcome.output[-2000:]
    assert command.weights(folder) == command.weights(whole)
