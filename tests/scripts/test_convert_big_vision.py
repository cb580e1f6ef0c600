"""The command line of the converter: once as a process of its own, then as a function, which is quicker."""

from pathlib import Path

import numpy as np
import pytest

from clippo.conversion.command import main_convert

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "convert_big_vision.py"
TINY = ROOT / "tests" / "goldens" / "tiny_params.npz"


def test_there_and_back(run_script, tmp_path, capsys):
    folder, back = tmp_path / "folder", tmp_path / "back.npz"
    there = run_script(SCRIPT.name, "--checkpoint", TINY, "--output_dir", folder, "--font", "default")
    assert there.returncode == 0, there.stderr
    assert "MAP head" in there.stdout and "152,801" in there.stdout and f"Wrote {folder}" in there.stdout
    assert "45 of the 147 reference strings render differently" in there.stderr
    files = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "processor_config.json", "tokenizer_config.json", "font.zip"} <= files

    main_convert(["--model", str(folder), "--to_npz", str(back), "--layout", "bare"])
    assert "Wrote 55 tensors" in capsys.readouterr().out
    with np.load(TINY) as expected, np.load(back) as actual:
        assert sorted(actual.files) == sorted(expected.files)
        for key in expected.files:
            assert actual[key].dtype == expected[key].dtype
            np.testing.assert_array_equal(actual[key], expected[key])


def test_resolution_dtype_and_the_font_folder_of_the_environment(shared, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("CLIPPO_FONTS", str(shared("fonts")))
    arguments = [
        "--checkpoint",
        str(TINY),
        "--output_dir",
        str(tmp_path),
        "--resolution",
        "96",
        "128",
        "--dtype",
        "float16",
    ]
    main_convert(arguments)
    assert "equal after rounding to float16" in capsys.readouterr().out
    assert '"image_size": [\n    96,\n    128\n  ]' in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output_dir", "x"], "pass --checkpoint with --output_dir (.npz to folder) or --model with --to_npz (back)"),
        (["--to_npz", "x", "--checkpoint", "y", "--output_dir", "z"], "pass --checkpoint with --output_dir"),
        (
            ["--output_dir", "x", "--checkpoint", "clippo_l16"],
            "'clippo_l16' is neither a file nor a released",
        ),
        (["--output_dir", "x", "--checkpoint", __file__], "is not an .npz archive or was cut short"),
        (["--to_npz", "x", "--model", str(ROOT / "tests")], "it has no config.json"),
    ],
)
def test_errors_are_one_sentence(arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main_convert(arguments)
    assert stopped.value.code.startswith("error: ") and message in stopped.value.code
    assert "\n" not in stopped.value.code
