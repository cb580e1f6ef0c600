"""Pretraining on cached vectors: the loss curve of images, checks of the origin, resumption."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from transformers import TrainingArguments

import clippo
from clippo.data import PairMixture, SourceSpec
from clippo.data.vectors import Vectors
from clippo.evaluation.embed import main as embed
from clippo.training.given_vectors import given_items
from clippo.training.pretraining import main
from clippo.training.projection import ProjectionFit

from ...tiny import SHAPE, save_tiny

ROWS = 16


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIPPO, pictures with captions, and the vectors of the pictures by that model."""
    folder = tmp_path_factory.mktemp("given")
    random = np.random.default_rng(0)
    rows = {
        "image": [Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)) for _ in range(ROWS)],
        "th": [f"ภาพ {i}" for i in range(ROWS)],
    }
    photos = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
    photos.to_parquet(str(folder / "photos.parquet"))
    save_tiny(folder / "model", skip_blank_patches=True)
    words = ["--model", str(folder / "model"), "--data", str(folder / "photos.parquet"), "--device", "cpu"]
    embed([*words, "--output", str(folder / "vectors"), "--vector_dtype", "float32", "--progress", "no"])
    return folder


def recipe(folder, output, kind="vectors", model=None, **options) -> str:
    """Recipe of three steps from the weights of the folder."""
    source = {"path": str(folder / "photos.parquet"), "kind": kind, "caption_columns": "th"}
    if kind == "vectors":
        source["vectors"] = str(folder / "vectors")
        lit = {"image_tower": str(folder / "model"), "project_images": False, "projection_dim": 24}
    else:
        lit = {"image_tower": "locked"}
    values = {
        "init_from": str(folder / "model"),
        "config_overrides": {**lit, **(model or {})},
        "sources": [source],
        "output_dir": str(output),
        "max_steps": 3,
        "per_device_train_batch_size": 8,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "use_cpu": True,
        "report_to": "none",
        "disable_tqdm": True,
        **options,
    }
    path = output.parent / f"{output.name}.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


def losses(output) -> list[float]:
    state = json.loads((output / "trainer_state.json").read_text())
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry]


def test_cached_and_read_images_give_the_same_curve(folder, tmp_path):
    main([recipe(folder, tmp_path / "cached")])
    main([recipe(folder, tmp_path / "locked", "image_text")])
    cached, locked = losses(tmp_path / "cached"), losses(tmp_path / "locked")
    assert len(cached) == 3 and cached == pytest.approx(locked, abs=1e-4)
    assert cached[2] < cached[0]
    trained = clippo.ClippoModel.from_pretrained(tmp_path / "cached")
    assert trained.config.image_tower == str(folder / "model") and trained.image_model is None


def test_half_precision_moves_the_curve_by_its_rounding(folder, tmp_path):
    words = ["--model", str(folder / "model"), "--data", str(folder / "photos.parquet"), "--device", "cpu"]
    embed([*words, "--output", str(tmp_path / "half"), "--progress", "no"])
    difference = Vectors(tmp_path / "half").vectors.float() - Vectors(folder / "vectors").vectors
    assert 0 < difference.abs().max() < 3e-4


class TestFaults:
    @pytest.mark.parametrize(
        ("model", "options", "message"),
        [
            ({"image_tower": "another/model"}, {}, "were made by '.*model', and the model reads for image_tower='ano"),
            ({"projection_dim": 32}, {}, "are 24 numbers wide, and projection_dim is 32; set it to 24"),
            ({}, {"flip": True}, "Vectors were made of images as they are: leave out flip"),
        ],
    )
    def test_origin_and_width(self, folder, tmp_path, model, options, message):
        with pytest.raises(ValueError, match=message):
            main([recipe(folder, tmp_path / "run", model=model, **options)])

    def test_a_model_for_given_vectors_does_not_train_on_images(self, folder, tmp_path):
        path = recipe(folder, tmp_path / "run", "image_text", model={"image_tower": "a/b", "image_embed_dim": 7})
        with pytest.raises(ValueError, match=r"compares texts with vectors of 'a/b' .*sources of kind vectors"):
            main([path])

    def test_images_beside_vectors(self, folder, tmp_path):
        path = recipe(folder, tmp_path / "run")
        values = yaml.safe_load(Path(path).read_text())
        values["sources"][0]["weight"] = 0.5
        photos = {"path": values["sources"][0]["path"], "caption_columns": "th", "weight": 0.5, "name": "photos"}
        values["sources"].append(photos)
        Path(path).write_text(yaml.safe_dump(values))
        with pytest.raises(ValueError, match="has vectors and photos has images; train on one kind at a time"):
            main([path])

    def test_a_projection_needs_another_tower(self, folder, tmp_path):
        path = recipe(folder, tmp_path / "run", "image_text", model={"image_tower": "shared", "projection_dim": 48})
        with pytest.raises(ValueError, match=r"projection_dim=48 .the model has 24., which the weights of"):
            main([path])


def test_new_models_read_for_given_vectors(folder, tmp_path):
    """Without init_from: the config names the tower."""
    shape = {name: value for name, value in SHAPE.items() if name != "projection_dim"}
    path = recipe(folder, tmp_path / "run", model=shape, init_from=None, preset="Ti/16")
    main([path])
    model = clippo.ClippoModel.from_pretrained(tmp_path / "run")
    texts = clippo.ClippoTokenizer(canvas_size=64)(["ภาพ 1"], return_tensors="pt")
    scores = model(image_embeds=Vectors(folder / "vectors").vectors, **texts).logits_per_text
    assert scores.shape == (1, ROWS) and torch.isfinite(scores).all()


def test_a_fitted_projection_starts_ahead(folder, tmp_path, monkeypatch):
    """The tower is as before; the first loss is lower than that of a new projection."""
    shape = {name: value for name, value in SHAPE.items() if name != "projection_dim"}
    monkeypatch.setattr("clippo.training.projection.STEPS", 60)
    first = {}
    for texts in (0, 24):
        path = recipe(
            folder, tmp_path / f"run{texts}", model=shape, init_from=None, preset="Ti/16", fit_projection=texts
        )
        values = yaml.safe_load(Path(path).read_text())
        Path(path).write_text(yaml.safe_dump({**values, "learning_rate": 0.0}))
        main([path])
        first[texts] = losses(tmp_path / f"run{texts}")[0], clippo.ClippoModel.from_pretrained(tmp_path / f"run{texts}")
    assert first[24][0] < first[0][0] - 0.3
    towers = [model.vision_model.state_dict() for _, model in first.values()]
    assert all(torch.equal(towers[0][name], towers[1][name]) for name in towers[0])


def test_the_fit_folds_its_standardisation_into_the_projection():
    pooled = torch.randn(20, 8) * 3 + 5
    fit, projection = ProjectionFit(pooled, 4), torch.nn.Linear(8, 4)
    fit.write(projection)
    expected = fit.linear((pooled - fit.mean) / fit.deviation)
    torch.testing.assert_close(projection(pooled), expected, atol=1e-5, rtol=1e-5)


def test_the_fit_draws_other_captions_in_every_epoch(folder):
    rows = {"image": [picture(i) for i in range(4)], "en": [[f"{i} {k}" for k in range(50)] for i in range(4)]}
    file = str(folder / "many.parquet")
    datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()).to_parquet(file)
    words = ["--model", str(folder / "model"), "--data", file, "--device", "cpu", "--progress", "no"]
    embed([*words, "--output", str(folder / "many")])
    spec = SourceSpec(file, "vectors", vectors=str(folder / "many"), caption_columns="en")
    arguments = TrainingArguments(str(folder), per_device_train_batch_size=4, use_cpu=True)
    items = given_items(PairMixture.from_specs([spec]), 12, arguments)
    assert len({item["text"] for item in items}) > 8  # 4 if every epoch had the captions of the first
    for item in items:
        assert torch.equal(item["vector"], Vectors(folder / "many").get(int(item["text"].split()[0])))


def test_fitting_needs_vectors(folder, tmp_path):
    path = recipe(folder, tmp_path / "run", "image_text", fit_projection=8)
    with pytest.raises(ValueError, match="fit_projection=8 needs sources of kind vectors"):
        main([path])
