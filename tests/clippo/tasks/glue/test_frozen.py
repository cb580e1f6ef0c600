"""Linear models on frozen vectors: features of pairs, scores on tasks that the vectors decide, the command."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset

from clippo.tasks.glue.frozen import describe, frozen_scores, main


class Digits:
    """Encoder of texts that are numbers: a unit vector in the direction of the number."""

    def texts(self, texts):
        angles = torch.tensor([float(text) for text in texts])
        return torch.stack([angles.cos(), angles.sin()], 1)


def rows(count, seed, label):
    first, second = np.random.default_rng(seed).uniform(0, 3, (2, count))
    return {"text": [str(a) for a in first], "text_pair": [str(b) for b in second], "label": label(first, second)}


def test_features_of_pairs():
    features = describe(Digits(), Dataset.from_dict({"text": ["0"], "text_pair": ["1"]}))
    a, b = np.array([1, 0]), np.array([np.cos(1), np.sin(1)])
    np.testing.assert_allclose(features[0], [*(a * b), *abs(a - b), a @ b, *a, *b], rtol=1e-6)
    assert describe(Digits(), Dataset.from_dict({"text": ["0", "1"]})).shape == (2, 2)


def test_scores_of_what_the_vectors_decide():
    near = lambda a, b: (abs(a - b) < 0.8).astype(int).tolist()  # noqa: E731
    splits = {name: Dataset.from_dict(rows(300, seed, near)) for seed, name in enumerate(("train", "validation"))}
    assert frozen_scores(Digits(), "mrpc", splits)["accuracy"] > 0.9
    cosine = lambda a, b: np.cos(a - b).tolist()  # noqa: E731
    splits = {name: Dataset.from_dict(rows(300, seed, cosine)) for seed, name in enumerate(("train", "validation"))}
    assert frozen_scores(Digits(), "stsb", splits)["pearson"] > 0.99


def test_command(save_tiny, tmp_path, capsys):
    folder = tmp_path / "data" / "sst2"
    folder.mkdir(parents=True)
    for split in ("train", "validation"):
        texts = [f"{'good' if i % 2 else 'bad'} film {i}" for i in range(24)]
        Dataset.from_dict({"sentence": texts, "label": [i % 2 for i in range(24)]}).to_parquet(
            folder / f"{split}.parquet"
        )
    options = ["--data_dir", str(folder.parent), "--output_dir", str(tmp_path / "out"), "--cache_dir", ""]
    main(["--model", save_tiny(image_size=32), "--tasks", "sst2", "--seeds", "0", "1", "--progress", "false", *options])
    (row,) = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert set(row) == {"task", "metric", "frozen", "spread", "majority", "bag_of_words"} and row["majority"] == 0.5
    assert "sst2" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="error: There is no"):
        main(["--model", str(tmp_path / "none"), *options])
