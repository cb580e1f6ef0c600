"""A missing model is reported in one sentence, by every command that loads one."""

import pytest

from clippo.model_files import find_model
from clippo.tasks.glue import finetune as glue
from clippo.tasks.vqa import finetune as vqa

from ..tiny import save_tiny


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder with one model, which is the working directory's `runs`."""
    save_tiny(tmp_path / "runs" / "glue_model")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_a_model_that_exists(runs):
    assert find_model("runs/glue_model") == "runs/glue_model"
    assert find_model(runs / "glue_model") == str(runs / "glue_model")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("runs/glue_modell", r"There is no folder runs/glue_modell below .*; the nearest is runs/glue_model\.$"),
        ("./runs/other", r"There is no folder ./runs/other; check the path\.$"),
        ("runs/other/deeper", r"There is no folder runs/other/deeper; check the path\.$"),
        ("~/model", "There is no folder ~/model; check the path"),
        ("nobody/nothing", "There is no folder nobody/nothing below .*, and the hub has no such model or cannot be"),
        ("runs", r"The folder runs has no config.json; give one of runs/glue_model\.$"),
        ("", "There is no folder|has no config.json"),
    ],
)
def test_a_model_that_is_missing(runs, name, message):
    with pytest.raises(FileNotFoundError, match=message):
        find_model(name)


def test_commands_end_with_that_sentence(runs):
    with pytest.raises(SystemExit, match=r"^error: There is no folder runs/nothing below"):
        glue.main(["--model", "runs/nothing", "--output_dir", "out", "--use_cpu"])
    line = ["--init_from", "runs/nothing", "--train", "x.parquet", "--validation", "x.parquet", "--output_dir", "out"]
    with pytest.raises(SystemExit, match=r"^error: There is no folder runs/nothing below"):
        vqa.main([*line, "--use_cpu"])
