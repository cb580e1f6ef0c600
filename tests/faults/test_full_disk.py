"""A save that fails because the disk is full ends the run, and the same command resumes when there is room again."""

import pytest

FULL = [
    {"kind": "event", "number": 1, "save": 2},
    {"kind": "event", "number": 9, "save": 2},
    {"kind": "half", "file": "model.safetensors", "save": 2},
    {"kind": "half", "file": "optimizer.pt", "save": 2},
    {"kind": "half", "file": "trainer_state.json", "save": 2},
]


@pytest.mark.parametrize("fault", FULL, ids=lambda fault: f"{fault['kind']}-{fault.get('file', fault.get('number'))}")
def test_a_full_disk(driver, commands, uninterrupted, tmp_path, fault):
    command, (_, folder) = commands["pretrain"], uninterrupted("pretrain")
    outcome = driver.run(command, tmp_path / "run", {**fault, "action": "full"})
    assert outcome.status == 1 and "No space left on device" in outcome.output
    assert command.checkpoints(tmp_path / "run")[0] == "checkpoint-2"
    outcome = driver.run(command, tmp_path / "run")
    assert outcome.status == 0, outcome.output[-2000:]
    assert command.weights(tmp_path / "run") == command.weights(folder)


@pytest.mark.parametrize("name", ["vqa", "glue"])
def test_a_full_disk_in_fine_tuning(driver, commands, uninterrupted, tmp_path, name):
    command, (_, folder) = commands[name], uninterrupted(name)
    fault = {"kind": "half", "file": "optimizer.pt", "save": 2, "action": "full"}
    assert driver.run(command, tmp_path / "run", fault).status == 1
    outcome = driver.run(command, tmp_path / "run")
    assert outcome.status == 0, outcome.output[-2000:]
    assert command.weights(tmp_path / "run") == command.weights(folder)
