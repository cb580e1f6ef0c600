"""Incomplete and damaged checkpoints are passed over by name; no run goes on from half a state."""

import shutil

import pytest

PARTS = ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json", "rng_state.pth"]


@pytest.fixture(scope="module")
def stopped(driver, commands, tmp_path_factory):
    """Function: name of a command -> output folder of a run that was killed in step 5, with checkpoints 2 and 4."""
    made = {}

    def copy(name, target):
        if name not in made:
            made[name] = tmp_path_factory.mktemp("stopped") / name
            assert driver.run(commands[name], made[name], {"kind": "step", "number": 5}).status == -9
            assert commands[name].checkpoints(made[name]) == ["checkpoint-2", "checkpoint-4"]
        shutil.copytree(made[name], target)
        return target

    return copy


@pytest.mark.parametrize("name", ["pretrain", "vqa", "glue"])
def test_a_stray_empty_folder_is_passed_over(driver, commands, uninterrupted, stopped, tmp_path, name):
    command, folder = commands[name], stopped(name, tmp_path / "run")
    (folder / command.run / "checkpoint-999").mkdir()
    outcome = driver.run(command, folder)
    assert outcome.status == 0, outcome.output[-2000:]
    assert "checkpoint-999" in outcome.output and "checkpoint-4" in outcome.output
    assert command.weights(folder) == command.weights(uninterrupted(name)[1])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_part_is_missing_or_truncated(driver, commands, uninterrupted, stopped, tmp_path, part, damage):
    command, folder = commands["pretrain"], stopped("pretrain", tmp_path / "run")
    file = folder / "checkpoint-4" / part
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    outcome = driver.run(command, folder)
    assert outcome.status == 0, outcome.output[-2000:]
    assert "checkpoint-4" in outcome.output and part in outcome.output and "checkpoint-2" in outcome.output
    assert command.weights(folder) == command.weights(uninterrupted("pretrain")[1])


@pytest.mark.parametrize("part", PARTS)
def test_a_checkpoint_that_was_asked_for_is_not_replaced(driver, commands, stopped, tmp_path, part):
    command, folder = commands["pretrain"], stopped("pretrain", tmp_path / "run")
    (folder / "checkpoint-4" / part).unlink()
    outcome = driver.run(command, folder, options=["--resume_from_checkpoint", folder / "checkpoint-4"])
    assert outcome.status == 1 and part in outcome.output.splitlines()[-1]


def test_all_checkpoints_are_damaged(driver, commands, stopped, tmp_path):
    """A kill cannot do this, so the run does not silently begin again."""
    command, folder = commands["pretrain"], stopped("pretrain", tmp_path / "run")
    for checkpoint in ("checkpoint-2", "checkpoint-4"):
        (folder / checkpoint / "optimizer.pt").unlink()
    outcome = driver.run(command, folder)
    last = outcome.output.splitlines()[-1]
    assert outcome.status == 1 and "optimizer.pt is missing" in last and "no other checkpoint is whole" in last
