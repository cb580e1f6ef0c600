"""Fingerprint of a run: its data, its settings and the library versions, recorded in every checkpoint."""

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from functools import singledispatch
from glob import glob
from importlib import metadata
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from transformers import TrainingArguments

from clippo.data import PairMixture, PairStream, SourcePairs
from clippo.emoji import EmojiPairs

FILE = "fingerprint.json"
# TrainingArguments that change the weights. max_steps, logging, evaluation, saving and places may change freely.
SETTINGS = (
    "seed", "data_seed", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "weight_decay",
    "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "lr_scheduler_type", "lr_scheduler_kwargs",
    "warmup_steps", "optim", "optim_args", "label_smoothing_factor", "bf16", "fp16", "dataloader_drop_last",
    "train_sampling_strategy", "ignore_data_skip",
)  # fmt: skip
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "numpy")
PLACES = ("path", "vectors")  # fields of a source that name a folder, which may be moved
ROWS = 512  # rows that a content hash reads, evenly spaced
BLOCK, BLOCKS = 2**16, 64  # bytes that a content hash reads at a time, and number of times over all files


def make_fingerprint(
    args: TrainingArguments, dataset: Any, settings: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Returns the fingerprint of a run as plain JSON values.

    Args:
        args: Arguments of the run; those in `SETTINGS` and the number of processes are recorded.
        dataset: Training set.
        settings: Further settings that change the weights.

    Returns:
        "settings", "data" (for each source path, rows, bytes and a content hash) and "versions".
    """
    every = args.to_dict()  # enumerations as their values
    fingerprint = {
        "settings": {name: every[name] for name in SETTINGS if name in every}
        | {"world_size": args.world_size, **(settings or {})},
        "data": describe_data(dataset),
        "versions": {name: metadata.version(name) for name in PACKAGES} | {"python": platform.python_version()},
    }
    if isinstance(dataset, PairStream):  # workers divide the shards among them
        fingerprint["settings"]["dataloader_num_workers"] = args.dataloader_num_workers
    return json.loads(json.dumps(fingerprint, default=str))


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Returns the differences of two fingerprints, one phrase each; paths may differ.

    Example:
        >>> from clippo.training.fingerprint import differences
        >>> differences({"settings": {"seed": 0, "bf16": True}}, {"settings": {"seed": 1, "bf16": True}})
        ['settings.seed was 0, is now 1']
    """
    old, new = _flat(before), _flat(now)
    names = [name for name in {**old, **new} if not name.endswith(".path")]
    return [
        f"{name} was {_shown(old, name)}, is now {_shown(new, name)}"
        for name in names
        if old.get(name) != new.get(name) or (name in old) != (name in new)
    ]


def without_places(sources: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the fields of sources without the folders they are in, which may be moved between two runs.

    Args:
        sources: Sources of a recipe.

    Example:
        >>> from clippo.training.fingerprint import without_places
        >>> without_places([{"path": "data/train.parquet", "weight": 2}])
        [{'weight': 2}]
    """
    return [{name: value for name, value in source.items() if name not in PLACES} for source in sources]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _shown(flat: Mapping[str, Any], name: str) -> str:
    return json.dumps(flat[name], ensure_ascii=False) if name in flat else "absent"


@singledispatch
def describe_data(dataset: Any) -> dict[str, Any]:
    """Returns path, rows, bytes and content hash of every source of a training set, as far as it has them."""
    rows = dataset if isinstance(dataset, Sequence) else getattr(dataset, "rows", None)
    if isinstance(rows, datasets.Dataset):
        return describe_data(rows)
    if isinstance(rows, Sequence):
        return {"rows": len(rows), "hash": _sampled_hash(rows)}
    return {"rows": len(dataset)} if hasattr(dataset, "__len__") else {}


@describe_data.register
def _(dataset: PairMixture) -> dict[str, Any]:
    return {name: describe_data(source) for name, source in zip(dataset.names, dataset.sources, strict=True)}


@describe_data.register
def _(dataset: SourcePairs) -> dict[str, Any]:
    vectors = {} if dataset.vectors is None else {"vectors": dataset.vectors.vectors.about.fingerprint}
    return {"path": dataset.spec.path, **vectors, **describe_data(dataset.rows)}


@describe_data.register
def _(dataset: datasets.Dataset) -> dict[str, Any]:
    rows = dataset.with_format(None)
    for column, feature in rows.features.items():
        if isinstance(feature, datasets.Image):
            rows = rows.cast_column(column, datasets.Image(decode=False))
    return {"rows": len(rows), "bytes": rows.data.nbytes, "hash": _sampled_hash(rows)}


def _sampled_hash(rows: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for row in np.unique(np.linspace(0, len(rows) - 1, min(ROWS, len(rows)), dtype=int)):
        digest.update(repr(rows[int(row)]).encode())
    return digest.hexdigest()


@describe_data.register
def _(dataset: EmojiPairs) -> dict[str, Any]:
    return {"rows": len(dataset), **describe_files(sorted(Path(dataset.folder).glob("*.parquet")))}


@describe_data.register
def _(dataset: PairStream) -> dict[str, Any]:
    return {spec.name: {"path": spec.path, **describe_files(local_files(spec.path))} for spec in dataset.specs}


def local_files(path: str) -> list[Path]:
    """Returns the files of a local path, glob or folder, also with ":split" at its end; none for a name on the hub."""
    found = sorted(glob(path, recursive=True)) or sorted(glob(path.rpartition(":")[0], recursive=True))
    files = []
    for place in map(Path, found):
        files += [place] if place.is_file() else sorted(file for file in place.rglob("*") if file.is_file())
    return files


def describe_files(files: Sequence[Path]) -> dict[str, Any]:
    """Returns number, bytes and a content hash of files.

    The hash has all names and sizes, and evenly spaced blocks of evenly spaced files.
    """
    digest, sizes = hashlib.blake2b(digest_size=16), [path.stat().st_size for path in files]
    digest.update(repr([(path.name, size) for path, size in zip(files, sizes, strict=True)]).encode())
    blocks = max(2, BLOCKS // max(1, len(files)))
    for number in np.unique(np.linspace(0, len(files) - 1, min(ROWS, len(files)), dtype=int)):
        size = sizes[number]
        with files[number].open("rb") as file:
            for start in np.unique(np.linspace(0, max(0, size - BLOCK), blocks, dtype=int)):
                file.seek(int(start))
                digest.update(file.read(BLOCK))
    return {"files": len(files), "bytes": sum(sizes), "hash": digest.hexdigest()} if files else {}
