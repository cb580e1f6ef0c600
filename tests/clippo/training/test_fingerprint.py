"""The fingerprint of a run changes with the content of its data, not with their place."""

import datasets
import pytest
from transformers import TrainingArguments

from clippo.data import PairMixture, PairStream, SourceSpec
from clippo.training.fingerprint import describe_data, describe_files, differences, local_files, make_fingerprint

TEXTS = [[f"one {i}", f"two {i}"] for i in range(60)]


def write(folder, texts=TEXTS):
    folder.mkdir(exist_ok=True)
    datasets.Dataset.from_dict({"captions": texts}).to_parquet(str(folder / "train.parquet"))
    return str(folder / "train*.parquet")


def spec(path: str, **fields) -> SourceSpec:
    return SourceSpec(path, "text_text", name="captions", caption_columns="captions", **fields)


@pytest.mark.parametrize("streaming", [False, True])
def test_data(tmp_path, streaming):
    def describe(name: str, texts=TEXTS):
        specs = [spec(write(tmp_path / name, texts), streaming=streaming)]
        return describe_data(PairStream(specs, 4, 0) if streaming else PairMixture.from_specs(specs))

    before = {"data": describe("a")}
    assert differences(before, {"data": describe("moved")}) == []
    changed = {
        "shorter": (TEXTS[:50], "files" if streaming else "rows"),
        "reordered": (TEXTS[::-1], "hash"),
        "other": ([["x", "y"], *TEXTS[1:]], "hash"),
    }
    for name, (texts, field) in changed.items():
        found = differences(before, {"data": describe(name, texts)})
        assert any(line.startswith(("data.captions.hash was", f"data.captions.{field} was")) for line in found), name


def test_files_are_sampled_to_their_ends(tmp_path):
    def describe(*contents: bytes):
        files = []
        for i, content in enumerate(contents):
            files.append(tmp_path / f"{i}.tar")
            files[-1].write_bytes(content)
        return describe_files(files)

    large = bytes(10**6)
    before = describe(large, b"small")
    assert before == describe(large, b"small") and before["files"] == 2 and before["bytes"] == 10**6 + 5
    for contents in ((large[:-1] + b"x", b"small"), (large, b"smaLl"), (b"x" + large[1:], b"small"), (large,)):
        assert describe(*contents)["hash"] != before["hash"]
    assert describe_files([]) == {}


def test_local_files(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "a" / "deep")
    files = [tmp_path / "a" / "deep" / "train.parquet", tmp_path / "a" / "train.parquet"]
    folder = str(tmp_path / "a")
    assert local_files(folder) == local_files(f"{folder}:train") == files
    assert sorted(local_files(f"{folder}/**/*.parquet")) == files and local_files(f"{folder}/*.parquet") == files[1:]
    assert local_files("owner/name") == local_files("owner/name:train[:100]") == []


def test_settings_and_versions(tmp_path):
    args = TrainingArguments(str(tmp_path), use_cpu=True, lr_scheduler_kwargs={"min_lr": 1e-4})
    before = make_fingerprint(args, [1, 2, 3], {"model": {"preset": "Ti/16", "init_from": None}})
    assert before["settings"]["lr_scheduler_kwargs"] == {"min_lr": 1e-4} and before["settings"]["world_size"] == 1
    assert set(before["versions"]) == {"torch", "transformers", "accelerate", "datasets", "numpy", "python"}
    other = TrainingArguments(str(tmp_path / "elsewhere"), use_cpu=True, max_steps=7, logging_steps=3, save_steps=9)
    now = make_fingerprint(other, [1, 2, 3], {"model": {"preset": "Ti/16", "init_from": "runs/a"}})
    assert differences(before, now) == [
        "settings.lr_scheduler_kwargs.min_lr was 0.0001, is now absent",
        'settings.model.init_from was null, is now "runs/a"',
        "settings.lr_scheduler_kwargs was absent, is now null",
    ]
