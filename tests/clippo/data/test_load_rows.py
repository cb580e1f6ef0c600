"""One notation opens files, folders, saved data sets, image folders and names on the hub."""

import datasets
import pytest
from PIL import Image

from clippo.data import load_rows, sources
from clippo.data.sources import has_splits

SPLITS = {"train": ["a", "b"], "validation": ["c"]}


@pytest.fixture
def folder(tmp_path):
    for split, texts in SPLITS.items():
        datasets.Dataset.from_dict({"text": texts, "n": range(len(texts))}).to_parquet(tmp_path / f"{split}-0.parquet")
    return tmp_path


@pytest.mark.parametrize("streaming", [False, True])
def test_files_folders_and_saved_data_sets(folder, tmp_path_factory, streaming):
    saved = tmp_path_factory.mktemp("saved")
    datasets.DatasetDict(
        {split: datasets.Dataset.from_dict({"text": texts}) for split, texts in SPLITS.items()}
    ).save_to_disk(saved)

    def texts(*args):
        rows = load_rows(*args, columns=["text"], streaming=streaming)
        assert rows.column_names == ["text"]
        return [row["text"] for row in rows]

    assert texts(folder / "train-0.parquet") == texts(f"{folder}/tr*.parquet") == ["a", "b"]
    for path in (folder, saved):
        assert texts(path) == texts(path, "train") == texts(f"{path}:train") == ["a", "b"]
        assert texts(path, "validation") == texts(f"{path}:validation") == ["c"]


def test_parts_of_a_file_without_a_split(tmp_path):
    for shard in "21":
        datasets.Dataset.from_dict({"text": [shard]}).to_parquet(tmp_path / f"0000{shard}.parquet")
    assert load_rows(tmp_path)["text"][:] == ["1", "2"]
    with pytest.raises(FileNotFoundError, match=r"no test\* file in .* it has 00001.parquet, 00002.parquet"):
        load_rows(tmp_path, "test")


def test_splits_that_are_not_clear(folder):
    datasets.Dataset.from_dict({"text": ["x"]}).to_parquet(folder / "train.parquet")
    with pytest.raises(ValueError, match=r"train-0.parquet, train.parquet .* could all be the split train"):
        load_rows(folder)
    with pytest.raises(FileNotFoundError, match=r"no dev\* file in"):
        load_rows(folder, "dev")
    with pytest.raises(ValueError, match="split would have no effect on local files"):
        load_rows(folder / "train.parquet", "train")


def test_images_stay_undecoded(tmp_path):
    for name in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (tmp_path / name).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / name / "a.png")
    rows = load_rows(tmp_path, "test")
    assert len(rows) == 2 and set(rows[0]["image"]) == {"bytes", "path"}
    assert rows.features["label"].names == ["cat", "dog"]
    assert len(load_rows(tmp_path / "train")) == 2


def test_text_that_looks_like_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n1,0\n2,1\n")
    assert load_rows(tmp_path / "a.csv", texts=["text"])[:] == {"text": ["1", "2"], "label": [0, 1]}


def test_names_on_the_hub(monkeypatch):
    opened = []
    rows = datasets.Dataset.from_dict({"text": ["a"]})
    monkeypatch.setattr(sources, "load_dataset", lambda *args, **options: opened.append((args, options)) or rows)
    load_rows("owner/name")
    load_rows("owner/name:validation")
    load_rows("owner/name", "test", "en", streaming=True)
    assert opened == [
        (("owner/name", None), {"split": "train", "streaming": False}),
        (("owner/name", None), {"split": "validation", "streaming": False}),
        (("owner/name", "en"), {"split": "test", "streaming": True}),
    ]


def test_what_has_splits(folder, tmp_path_factory):
    images = tmp_path_factory.mktemp("images")
    (images / "cat").mkdir()
    assert [has_splits(path) for path in (folder, "owner/name")] == [True, True]
    assert [has_splits(path) for path in (folder / "train-0.parquet", "data/*.csv", images)] == [False] * 3
    (images / "test").mkdir()
    assert has_splits(images)
