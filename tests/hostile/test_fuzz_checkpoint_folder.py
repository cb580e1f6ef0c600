"""Fuzz target for model folders: a changed folder opens or is refused clearly. It never crashes, hangs or runs code."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from ..conftest import ROOT
from ..tiny import save_tiny

SHAPE = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, projection_dim=8)
JSON_FILES = ["config.json", "tokenizer_config.json", "processor_config.json"]
BINARY_FILES = ["model.safetensors", "font.zip"]
KINDS = ["model", "processor"]


class Loader:
    """The process of `loader.py`."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("loader.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )

    def load(self, folder: Path, kind: str, seconds: int = 20, megabytes: int = 2000) -> dict[str, str]:
        request = {"folder": str(folder), "kind": kind, "seconds": seconds, "megabytes": megabytes}
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def loader():
    made = Loader()
    yield made
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A saved model without its code, which AutoModel would not read anyway."""
    made = tmp_path_factory.mktemp("model")
    save_tiny(made, **SHAPE, image_size=32)
    for file in made.glob("*.py"):
        file.unlink()
    return made


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Function: copies a folder to a place that is used again and again."""
    place = tmp_path_factory.mktemp("case") / "case"

    def made(folder: Path) -> Path:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder, place)
        return place

    return made


# ------------------------------------------------------------------------------------------------------- changes

numbers = st.sampled_from([0, -1, 1, 3, 255, 10**6, 2**31, 2**63, 10**30, 0.5, -0.5, 1e300, float("nan"), float("inf")])
words = st.sampled_from(["", "x", "../../x", "gelu", "float64", "é\0", "ClippoModel", "LlamaModel"]) | st.text(
    max_size=5
)
scalars = st.none() | st.booleans() | numbers | words
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=2))


def paths_in(value, prefix=()):
    """Paths of all entries of a JSON value."""
    for key in value if isinstance(value, dict) else range(len(value)):
        yield (*prefix, key)
        if isinstance(value[key], dict | list):
            yield from paths_in(value[key], (*prefix, key))


def change_json(file: Path, draw) -> None:
    """Replaces, removes or adds entries of a JSON file."""
    content = json.loads(file.read_text(encoding="utf-8"))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(list(paths_in(content))))
        holder = content
        for key in path[:-1]:
            holder = holder[key]
        action = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if action == "remove":
            del holder[path[-1]]
        elif action == "add" and isinstance(holder, dict):
            holder[draw(words)] = draw(values)
        else:
            holder[path[-1]] = draw(values)
    note(f"{file.name}: {json.dumps(content)}")
    file.write_text(json.dumps(content), encoding="utf-8")


def change_bytes(file: Path, draw) -> None:
    """Cuts a file, flips bytes of it, or replaces a part by other bytes."""
    content = bytearray(file.read_bytes())
    action = draw(st.sampled_from(["cut", "flip", "replace", "header"]))
    place = int(draw(st.floats(0, 1)) * (len(content) - 1))
    if action == "cut":
        del content[place:]
    elif action == "flip":
        for _ in range(draw(st.integers(1, 20))):
            content[int(draw(st.floats(0, 1)) * (len(content) - 1))] ^= draw(st.integers(1, 255))
    elif action == "replace":
        content[place : place + 16] = draw(st.binary(max_size=64))
    else:  # the length of the header in safetensors, the signature of other files
        content[:8] = draw(st.integers(0, 2**64 - 1)).to_bytes(8, "little")
    note(f"{file.name}: {action} at {place}, {len(content)} bytes")
    file.write_bytes(content)


def check(loader: Loader, folder: Path, copy, data) -> None:
    case = copy(folder)
    name = data.draw(st.sampled_from(JSON_FILES + BINARY_FILES))
    if name in JSON_FILES and data.draw(st.integers(0, 4)):
        change_json(case / name, data.draw)
    else:
        change_bytes(case / name, data.draw)
    for kind in KINDS:
        answer = loader.load(case, kind)
        assert answer["end"] in ("loaded", "refused", "foreign"), (kind, answer)


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_folders_open_or_are_refused(loader, folder, copy, data):
    check(loader, folder, copy, data)


@pytest.mark.slow
@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_many_changed_folders(loader, folder, copy, data):
    check(loader, folder, copy, data)


# ------------------------------------------------------------------------------------------------------- foreign code


@pytest.fixture
def hostile(folder, tmp_path):
    """A folder whose every way to code writes a file, and that file."""
    marker, case = tmp_path / "code_ran", tmp_path / "hostile"
    shutil.copytree(folder, case)
    line = f"open({str(marker)!r}, 'w')\n"
    (case / "evil.py").write_text(line + "class Evil:\n    pass\n")
    for name in ("configuration_clippo", "modeling_clippo", "processing_clippo", "pipeline_clippo"):
        (case / f"{name}.py").write_text(line)
    for name in JSON_FILES:
        content = json.loads((case / name).read_text())
        keys = content.get("auto_map") or {"AutoProcessor": "", "AutoTokenizer": "", "AutoImageProcessor": ""}
        content["auto_map"] = dict.fromkeys(keys, "evil.Evil")
        if name == "config.json":
            content["custom_pipelines"] = {
                "zero-shot-image-classification": {"impl": "evil.Evil", "pt": ["AutoModel"], "type": "multimodal"}
            }
        (case / name).write_text(json.dumps(content))
    return case, marker


@pytest.mark.parametrize("kind", ["model", "processor", "pipeline"])
def test_code_of_a_folder_does_not_run_without_trust(loader, hostile, kind):
    case, marker = hostile
    answer = loader.load(case, kind)
    assert answer["end"] in ("loaded", "refused"), answer
    assert not marker.exists()


class Pickled:
    """An object that opens a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_pickles_do_not_run(loader, hostile, name):
    case, marker = hostile
    (case / "model.safetensors").unlink()
    (case / name).write_bytes(pickle.dumps(Pickled(marker)))
    assert loader.load(case, "model")["end"] in ("refused", "foreign")
    assert not marker.exists()


def test_an_index_of_weights_stays_in_its_folder(loader, folder, copy):
    case = copy(folder)
    outside = case.parent / "outside.safetensors"
    (case / "model.safetensors").rename(outside)
    index = {"metadata": {"total_size": 1}, "weight_map": {"logit_scale": "../outside.safetensors"}}
    (case / "model.safetensors.index.json").write_text(json.dumps(index))
    answer = loader.load(case, "model")
    outside.unlink()
    assert answer["end"] in ("loaded", "refused", "foreign"), answer
