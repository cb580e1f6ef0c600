"""Consecutive runs become one history and one figure."""

import json

import numpy as np
import pytest
from PIL import Image

from clippo.visualization.curves import draw_curves, read_history


def write_state(folder, entries, global_step):
    folder.mkdir()
    state = {"log_history": entries, "global_step": global_step}
    (folder / "trainer_state.json").write_text(json.dumps(state))
    return folder


@pytest.fixture
def runs(tmp_path):
    first = write_state(tmp_path / "first", [{"step": 10, "loss": 5.0}, {"step": 20, "loss": 4.0}], 20)
    evaluated = [{"step": 5, "loss": 3.0, "pairs_per_second": 100.0}, {"step": 5, "eval_text_to_image_R@1": 0.1}]
    return [first, write_state(tmp_path / "second", evaluated, 5)]


def test_steps_count_on(runs):
    assert [entry["step"] for entry in read_history(runs)] == [10, 20, 25, 25]


def test_a_picture_is_drawn(runs, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    draw_curves(runs, tmp_path / "curves.png")
    draw_curves(runs[:1], tmp_path / "first.png")
    counts = []
    for name in ("curves.png", "first.png"):
        with Image.open(tmp_path / name) as image:
            pixels = np.asarray(image.convert("RGB"))
        # Matplotlib's first colour is the line; grey 0.6 marks the end of a run.
        counts.append([(pixels == colour).all(-1).sum() for colour in ((31, 119, 180), (153, 153, 153))])
    (both_line, both_end), (first_line, first_end) = counts
    assert both_line > 100 and first_line > 100 and both_end > 100 + first_end


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No trainer_state\.json"):
        read_history([tmp_path])


def test_a_run_that_logged_nothing(tmp_path):
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    with pytest.raises(ValueError, match="Nothing to draw"):
        draw_curves([write_state(tmp_path / "run", [{"step": 1, "train_runtime": 2.0}], 1)], tmp_path / "curves.png")
