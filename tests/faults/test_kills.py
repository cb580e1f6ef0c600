"""A run killed at any point is finished by the same command, with weights bit-identical to an uninterrupted run."""

import random

import pytest

COMMANDS = ["pretrain", "vqa", "glue"]
FILES = ["model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"]


def names(folder) -> set[str]:
    """Every file and folder below an output folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def run_with_faults(driver, command, output_dir, faults) -> None:
    """Runs a command once for each fault, which must kill it, and once to its end."""
    for fault in faults:
        outcome = driver.run(command, output_dir, fault)
        assert outcome.status == -9, (fault, outcome.output[-2000:])
        assert outcome.inside_save == (fault["kind"] in ("event", "half")), fault
    outcome = driver.run(command, output_dir)
    assert outcome.status == 0, outcome.output[-2000:]


@pytest.mark.parametrize("name", COMMANDS)
def test_kills_inside_saves(driver, commands, uninterrupted, tmp_path, name):
    whole, folder = uninterrupted(name)
    points = [(2, 1), (whole.events // 2, 2), (whole.events - 1, 1), (whole.events, 1)]
    faults = [{"kind": "event", "number": number, "save": save} for number, save in points]
    run_with_faults(driver, commands[name], tmp_path / "run", faults)
    assert commands[name].weights(tmp_path / "run") == commands[name].weights(folder)
    assert names(tmp_path / "run") == names(folder)


def test_kills_in_the_middle_of_a_file(driver, commands, uninterrupted, tmp_path):
    _, folder = uninterrupted("pretrain")
    faults = [{"kind": "half", "file": file, "save": 1 + i % 2} for i, file in enumerate(FILES)]
    run_with_faults(driver, commands["pretrain"], tmp_path / "run", faults)
    assert commands["pretrain"].weights(tmp_path / "run") == commands["pretrain"].weights(folder)
    assert names(tmp_path / "run") == names(folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_kills_outside_of_saves(driver, commands, uninterrupted, tmp_path, name):
    whole, folder = uninterrupted(name)
    faults = [{"kind": "step", "number": number} for number in (1, 3, 7)]
    # A finished training leaves fewer operations, so the last ones are counted in a run of its own.
    run_with_faults(driver, commands[name], tmp_path / "run", faults)
    assert commands[name].weights(tmp_path / "run") == commands[name].weights(folder)
    outcome = driver.run(commands[name], tmp_path / "end", {"kind": "anywhere", "number": whole.every_event - 3})
    assert outcome.status == -9 and not outcome.inside_save
    outcome = driver.run(commands[name], tmp_path / "end")
    assert outcome.status == 0, outcome.output[-2000:]
    assert commands[name].weights(tmp_path / "end") == commands[name].weights(folder)


def random_fault(draw: random.Random, events: int, step: int) -> dict:
    """A fault within a few steps after `step`, inside a save in two of three cases."""
    kind = draw.choice(["event", "event", "half", "half", "step", "time"])
    if kind == "event":
        return {"kind": kind, "number": draw.randint(1, events), "save": draw.randint(1, 3)}
    if kind == "half":
        return {"kind": kind, "file": draw.choice(FILES), "save": draw.randint(1, 3)}
    if kind == "step":
        return {"kind": kind, "number": step + draw.randint(0, 3)}
    return {"kind": kind, "seconds": draw.uniform(0.1, 1.5)}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_thirty_kills(driver, commands, tmp_path, name):
    command, options = commands[name], ["--max_steps", 100, "--save_steps", 1, "--eval_steps", 1]
    whole = driver.run(command, tmp_path / "whole", options=options)
    assert whole.status == 0, whole.output[-2000:]
    draw, kills, inside = random.Random(0), 0, 0
    while kills < 30:
        checkpoints = command.checkpoints(tmp_path / "run")
        step = int(checkpoints[-1].rpartition("-")[2]) if checkpoints else 0
        assert step < 100, "the run ended before thirty kills"
        fault = random_fault(draw, whole.events, step)
        outcome = driver.run(command, tmp_path / "run", fault, options)
        assert outcome.status in (0, -9), (fault, outcome.output[-2000:])
        kills, inside = kills + (outcome.status == -9), inside + (outcome.status == -9 and outcome.inside_save)
    assert inside >= 10
    outcome = driver.run(command, tmp_path / "run", options=options)
    assert outcome.status == 0, outcome.output[-2000:]
    assert command.weights(tmp_path / "run") == command.weights(tmp_path / "whole")
