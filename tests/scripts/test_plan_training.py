"""The planner's command line."""

import runpy

import pytest

from ..conftest import ROOT

main = runpy.run_path(str(ROOT / "scripts" / "plan_training.py"))["main"]


def test_a_table_for_several_sizes(capsys):
    main(["--preset", "Ti/16", "--global_batch", "4096", "8192", "--gpus", "8", "64", "--text_patches", "28"])
    output = capsys.readouterr().out
    assert "6 M parameters, 196 patches. Measured" in output and "Assumed, not measured: 40% of 989" in output
    assert [line.split(" | ")[:3] for line in output.splitlines()[-4:]] == [
        ["| 4,096", "8", "512"],
        ["| 4,096", "64", "64"],
        ["| 8,192", "8", "1,024"],
        ["| 8,192", "64", "128"],
    ]


def test_errors_are_one_line():
    with pytest.raises(SystemExit, match="error: global_batch=10240 does not divide among gpus=7"):
        main(["--gpus", "7"])
    with pytest.raises(SystemExit, match="error: Unknown preset 'XL/16'"):
        main(["--preset", "XL/16"])
