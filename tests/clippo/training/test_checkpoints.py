"""Checkpoints are whole or absent. A run resumes from the newest whole one and names those passed over."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments, set_seed

import clippo
from clippo.training.checkpoints import (
    FILE_LIST,
    STAGING,
    ChangedRunError,
    IncompleteCheckpointError,
    newest_whole_checkpoint,
    why_incomplete,
)
from clippo.training.finetuning import FineTuningTrainer
from clippo.training.trainer import ContrastiveTrainer

from ...processes import run_processes
from ...tiny import tiny_config


def collate(rows: list[dict]) -> dict:
    pixels = torch.stack([torch.full((3, 32, 32), row["level"]) for row in rows])
    return {"pixel_values": pixels, "labels": torch.tensor([row["label"] for row in rows])}


def collate_pairs(rows: list[dict]) -> dict:
    pixels = collate(rows)["pixel_values"]
    return {"pixel_values": pixels, "text_pixel_values": pixels.sin(), "return_loss": True}


ROWS = [{"level": i / 8 - 1, "label": i % 2} for i in range(16)]


def make(folder, pairs: bool = False, rows=ROWS, settings=None, **options):
    defaults = dict(
        output_dir=str(folder), use_cpu=True, report_to=[], disable_tqdm=True, max_steps=6, save_steps=2,
        logging_steps=1, learning_rate=1e-3, per_device_train_batch_size=4, remove_unused_columns=False,
    )  # fmt: skip
    args = TrainingArguments(**{**defaults, **options})
    set_seed(args.seed)
    config = tiny_config(image_size=32, num_hidden_layers=1, attention_dropout=0.1)
    if pairs:
        model = clippo.ClippoModel(config)
        return ContrastiveTrainer(model, args, train_dataset=rows, data_collator=collate_pairs, settings=settings)
    model = clippo.ClippoForImageClassification(config)
    return FineTuningTrainer(
        model, args, train_dataset=rows, eval_dataset=rows, data_collator=collate, settings=settings
    )


def train(trainer, resume_anyway: bool = False):
    trainer.train(resume_from_checkpoint=trainer.find_checkpoint(resume_anyway))
    return {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}


def steps(folder) -> list[int]:
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in Path(folder).glob("checkpoint-*"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder and weights of a whole run of six steps with checkpoints 2, 4 and 6."""
    folder = tmp_path_factory.mktemp("run")
    return folder, train(make(folder))


@pytest.fixture
def copy(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "copy")
    return tmp_path / "copy"


def test_a_checkpoint_lists_its_files(run):
    folder, _ = run
    assert steps(folder) == [2, 4, 6] and not (folder / STAGING).exists()
    names = json.loads((folder / "checkpoint-2" / FILE_LIST).read_text())
    files = {"model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"}
    assert {*files, "fingerprint.json", "config.json"} <= set(names)
    assert why_incomplete(folder / "checkpoint-2") is None


PARTS = ["save_model", "_save_optimizer_and_scheduler", "_save_rng_state", "_complete"]


@pytest.mark.parametrize(
    ("part", "pairs"), [*((part, False) for part in PARTS), ("_save_optimizer_and_scheduler", True)]
)
def test_an_interrupted_save_leaves_nothing_in_the_way(tmp_path, monkeypatch, part, pairs):
    """The same command resumes after a save that failed before or after any of its parts, to the same weights."""
    weights = train(make(tmp_path / "whole", pairs))
    for when in ("before", "after"):
        folder = tmp_path / when
        with monkeypatch.context() as patch:
            original = getattr(ContrastiveTrainer if pairs else FineTuningTrainer, part)

            def full_disk(self, *args, original=original, when=when, **kwargs):
                if self.state.global_step == 4 and when == "after":
                    original(self, *args, **kwargs)
                if self.state.global_step == 4:
                    raise OSError(28, "No space left on device")
                return original(self, *args, **kwargs)

            patch.setattr(ContrastiveTrainer if pairs else FineTuningTrainer, part, full_disk)
            with pytest.raises(OSError, match="No space left"):
                train(make(folder, pairs))
        assert steps(folder) == [2] and not (folder / STAGING).exists()
        resumed = train(make(folder, pairs))
        assert steps(folder) == [2, 4, 6]
        for name, expected in weights.items():
            assert torch.equal(resumed[name], expected), name


def test_what_a_killed_save_left_is_deleted(copy):
    (copy / STAGING / "checkpoint-8").mkdir(parents=True)
    (copy / STAGING / "checkpoint-8" / "model.safetensors").write_bytes(b"half")
    assert make(copy).find_checkpoint().endswith("checkpoint-6")
    assert not (copy / STAGING).exists()


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        ("optimizer.pt", "remove", "optimizer.pt is missing"),
        ("scheduler.pt", "remove", "scheduler.pt is missing"),
        ("rng_state.pth", "remove", "rng_state.pth is missing"),
        ("trainer_state.json", "remove", "trainer_state.json is missing"),
        ("trainer_state.json", "cut", "trainer_state.json "),
        ("model.safetensors", "remove", "model.safetensors is missing"),
        ("model.safetensors", "cut", "model.safetensors "),
        ("optimizer.pt", "cut", "optimizer.pt "),
    ],
)
@pytest.mark.parametrize("listed", [True, False])
def test_a_damaged_checkpoint_is_passed_over_by_name(copy, caplog, file, damage, reason, listed):
    """With the list of its files, and without it as the stock Trainer saves."""
    folder = copy / "checkpoint-6"
    if damage == "remove":
        (folder / file).unlink()
    else:
        (folder / file).write_bytes((folder / file).read_bytes()[:-9])
    if not listed:
        (folder / FILE_LIST).unlink()
    assert newest_whole_checkpoint(copy) == str(copy / "checkpoint-4")
    assert f"checkpoint-6 is incomplete ({reason}" in caplog.text and "resuming from checkpoint-4" in caplog.text


def test_a_damaged_checkpoint_is_written_again(run, copy):
    (copy / "checkpoint-6" / "optimizer.pt").unlink()
    weights = train(make(copy))
    assert all(torch.equal(weights[name], expected) for name, expected in run[1].items())
    assert why_incomplete(copy / "checkpoint-6") is None and steps(copy) == [2, 4, 6]
    with pytest.raises(IncompleteCheckpointError, match=r"checkpoint-9 is incomplete \(it is not a folder\)"):
        make(copy, resume_from_checkpoint=str(copy / "checkpoint-9")).find_checkpoint()


def test_a_stray_empty_folder(copy, caplog):
    (copy / "checkpoint-999").mkdir()
    assert newest_whole_checkpoint(copy) == str(copy / "checkpoint-6")
    assert "checkpoint-999 is incomplete (trainer_state.json is missing); resuming from checkpoint-6" in caplog.text
    for step in (2, 4, 6):
        shutil.rmtree(copy / f"checkpoint-{step}")
    assert newest_whole_checkpoint(copy) is None
    assert "starting from the beginning" in caplog.text


def test_the_only_checkpoint_is_damaged(copy):
    """It was whole once, so a start from the beginning would lose its training silently."""
    for step in (2, 4):
        shutil.rmtree(copy / f"checkpoint-{step}")
    (copy / "checkpoint-6" / "optimizer.pt").unlink()
    with pytest.raises(
        IncompleteCheckpointError, match=r"\(optimizer\.pt is missing\) and no other checkpoint is whole"
    ):
        make(copy).find_checkpoint()
    with pytest.raises(IncompleteCheckpointError, match="choose another checkpoint"):
        make(copy, resume_from_checkpoint=str(copy / "checkpoint-6")).find_checkpoint()


def test_what_may_be_asked_for(copy, tmp_path):
    assert make(copy, resume_from_checkpoint=str(copy / "checkpoint-2")).find_checkpoint().endswith("checkpoint-2")
    assert make(copy, resume_from_checkpoint="true").find_checkpoint().endswith("checkpoint-6")
    assert make(copy, resume_from_checkpoint="false").find_checkpoint() is None
    assert make(tmp_path / "new").find_checkpoint() is None
    with pytest.raises(IncompleteCheckpointError, match="no whole checkpoint in"):
        make(tmp_path / "new", resume_from_checkpoint="true").find_checkpoint()


def test_rotation_and_the_best_model(tmp_path):
    """The best checkpoint is kept and loaded at the end, as by the stock Trainer."""
    options = dict(eval_strategy="steps", eval_steps=1, save_steps=1, save_total_limit=1, load_best_model_at_end=True)
    options |= dict(metric_for_best_model="loss", learning_rate=0.3, max_steps=5)
    trainer = make(tmp_path, **options)
    weights = train(trainer)
    losses = {log["step"]: log["eval_loss"] for log in trainer.state.log_history if "eval_loss" in log}
    best = min(losses, key=losses.get)
    assert best < 5, "the rate is so high that a later step is worse"
    assert steps(tmp_path) == [best]
    assert trainer.state.best_model_checkpoint == str(tmp_path / f"checkpoint-{best}")
    saved = clippo.ClippoForImageClassification.from_pretrained(tmp_path / f"checkpoint-{best}")
    for name, parameter in saved.named_parameters():
        assert torch.equal(parameter, weights[name]), name
    state = json.loads((tmp_path / f"checkpoint-{best}" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == str(tmp_path / f"checkpoint-{best}")


def test_a_run_that_keeps_weights_only(tmp_path, caplog):
    train(make(tmp_path, save_only_model=True, max_steps=2))
    trainer = make(tmp_path, save_only_model=True)
    assert trainer.find_checkpoint().endswith("checkpoint-2")
    assert "the optimizer starts without its state" in caplog.text
    with pytest.raises(IncompleteCheckpointError, match=r"optimizer\.pt is missing"):
        make(tmp_path).find_checkpoint()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rows=ROWS[:12]), "data.rows was 16, is now 12"),
        (dict(rows=ROWS[::-1]), "data.hash was"),
        (dict(seed=7), "settings.seed was 42, is now 7"),
        (dict(per_device_train_batch_size=2), "settings.per_device_train_batch_size was 4, is now 2"),
        (dict(settings={"model": {"preset": "Ti/16"}}), 'settings.model.preset was absent, is now "Ti/16"'),
    ],
)
def test_changed_inputs_stop_the_run(copy, caplog, change, message):
    with pytest.raises(ChangedRunError, match=message):
        make(copy, **change).find_checkpoint()
    assert make(copy, **change).find_checkpoint(resume_anyway=True).endswith("checkpoint-6")
    assert message in caplog.text


def test_what_may_change_freely(copy):
    trainer = make(copy, max_steps=9, save_steps=3, logging_steps=5, save_total_limit=1, run_name="other")
    assert trainer.find_checkpoint().endswith("checkpoint-6")
    train(trainer)
    assert steps(copy) == [9]


def test_other_versions_are_named(copy):
    file = copy / "checkpoint-6" / "fingerprint.json"
    old = json.loads(file.read_text())
    old["versions"]["torch"] = "1.0"
    file.write_text(json.dumps(old, indent=2))
    (copy / "checkpoint-6" / FILE_LIST).unlink()
    with pytest.raises(ChangedRunError, match=r'versions.torch was "1.0", is now "\d'):
        make(copy).find_checkpoint()


def test_a_checkpoint_of_an_older_version_resumes(copy, caplog):
    for name in (FILE_LIST, "fingerprint.json"):
        (copy / "checkpoint-6" / name).unlink()
    assert make(copy).find_checkpoint().endswith("checkpoint-6")
    assert "has no fingerprint" in caplog.text


def in_two_processes(rank: int, folder: str):
    import os

    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="localhost", MASTER_PORT="1")
    logging.disable(logging.WARNING)
    whole = train(make(folder, max_steps=4, per_device_train_batch_size=2, ddp_backend="gloo"))
    if rank == 0:
        assert steps(folder) == [2, 4]
        files = {path.name for path in Path(folder, "checkpoint-4").iterdir()}
        assert {"rng_state_0.pth", "rng_state_1.pth", FILE_LIST} <= files
        assert not Path(folder, STAGING).exists()
        (Path(folder) / "checkpoint-4" / "rng_state_1.pth").unlink()
    resumed = make(folder, max_steps=4, per_device_train_batch_size=2, ddp_backend="gloo")
    torch.distributed.barrier()
    checkpoint = resumed.find_checkpoint()
    assert checkpoint.endswith("checkpoint-2")
    resumed.train(resume_from_checkpoint=checkpoint)
    for name, parameter in resumed.model.named_parameters():
        assert torch.equal(parameter.detach(), whole[name]), name
    with pytest.raises(ChangedRunError, match=r"settings\.seed was 42, is now 1"):
        make(folder, seed=1, max_steps=4, per_device_train_batch_size=2, ddp_backend="gloo").find_checkpoint()


def test_two_processes_save_one_checkpoint(tmp_path):
    run_processes(in_two_processes, 2, tmp_path / "store", str(tmp_path / "out"))
