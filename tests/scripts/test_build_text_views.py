"""The script cuts every text column that a file has, and says which it has when there is none."""

import functools

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest


@pytest.fixture
def run(run_script):
    return functools.partial(run_script, "build_text_views.py")


def test_columns_of_differing_files(run, tmp_path):
    parquet.write_table(pa.table({"sentence": ["one two three"], "label": [1]}), tmp_path / "single.parquet")
    pairs = pa.table({"question1": ["four five"], "question2": ["six seven"]})
    parquet.write_table(pairs, tmp_path / "pairs.parquet")
    columns = ["--text_columns", "sentence", "question1", "question2", "--words", 2, "--views", 3]
    done = run("--files", tmp_path / "single.parquet", tmp_path / "pairs.parquet", "--output_dir", tmp_path, *columns)
    assert done.returncode == 0, done.stderr
    assert "3 phrases in 3 views" in done.stdout
    views = parquet.read_table(tmp_path / "train.parquet")["views"].to_pylist()
    for row, phrase in zip(views, ("one two", "four five", "six seven"), strict=True):
        assert len(row) == 3
        assert all(set(view.split()) <= set(phrase.split()) for view in row)


def test_a_file_without_text_is_named(run, tmp_path):
    parquet.write_table(pa.table({"label": [1]}), tmp_path / "labels.parquet")
    done = run("--files", tmp_path / "labels.parquet", "--output_dir", tmp_path / "out")
    assert done.returncode == 1
    assert "labels.parquet has none of the columns text; name others with --text_columns. It has label." in done.stderr
    assert not (tmp_path / "out").exists()
