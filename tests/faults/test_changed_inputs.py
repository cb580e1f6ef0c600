"""A resumed run names inputs that changed since its checkpoint, and stops."""

import shutil

import pytest

from .conftest import WRITERS, make_command

CHANGES = {
    "seed": ["--seed", 3],
    "batch_size": ["--per_device_train_batch_size", 8],
    "learning_rate": ["--learning_rate", 0.02],
    "flip": ["--flip", "false"],
}
COMMANDS = ["pretrain", "vqa", "glue"]


@pytest.fixture
def stopped(driver, tmp_path):
    """Function: name of a command -> the command with data of its own, and the output folder of its killed run."""

    def run(name):
        command = make_command(name, tmp_path / "data")
        assert driver.run(command, tmp_path / "run", {"kind": "step", "number": 5}).status == -9
        return command, tmp_path / "run"

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_the_data_changed(driver, stopped, name):
    command, folder = stopped(name)
    content = command.data.read_bytes()
    for order in (range(15, -1, -1), range(12)):  # reordered, shortened
        WRITERS[name](command.data, order)
        outcome = driver.run(command, folder)
        assert outcome.status == 1 and "data" in outcome.output.splitlines()[-1], outcome.output[-2000:]
    command.data.write_bytes(content)
    assert driver.run(command, folder).status == 0


@pytest.mark.parametrize("change", CHANGES)
def test_the_recipe_changed(driver, stopped, change):
    command, folder = stopped("pretrain")
    outcome = driver.run(command, folder, options=CHANGES[change])
    assert outcome.status == 1 and change in outcome.output.splitlines()[-1], outcome.output[-2000:]


@pytest.mark.parametrize("name", ["vqa", "glue"])
def test_the_recipe_of_fine_tuning_changed(driver, stopped, name):
    command, folder = stopped(name)
    copy = folder.with_name("copy")
    for options in (CHANGES["learning_rate"], CHANGES["batch_size"]):
        shutil.copytree(folder, copy)
        outcome = driver.run(command, copy, options=options)
        assert outcome.status == 1, outcome.output[-2000:]
        shutil.rmtree(copy)
