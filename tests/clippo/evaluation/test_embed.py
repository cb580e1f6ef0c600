"""`clippo embed`: vectors of any model, resumed after a stop, computed again after a change, refused when stale."""

import json
import subprocess
import sys

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetModel, ViTConfig, ViTImageProcessor, ViTModel

import clippo
from clippo.data.vectors import Vectors
from clippo.evaluation.command import run_command
from clippo.evaluation.embed import main
from clippo.evaluation.encoder import Encoder
from clippo.evaluation.vector_models import VectorModel, match_weights

from ...conftest import ROOT
from ...tiny import save_tiny, tiny_model, tiny_processor

ROWS = 10
SMALL = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32)


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(number).integers(0, 256, (20, 24, 3), np.uint8))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A Parquet file of ten pictures with two columns of captions."""
    rows = {
        "image": [picture(i) for i in range(ROWS)],
        "en": [f"picture {i}" for i in range(ROWS)],
        "th": [f"ภาพ {i}" for i in range(ROWS)],
        "name": [f"p{i}" for i in range(ROWS)],
    }
    file = tmp_path_factory.mktemp("photos") / "photos.parquet"
    datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()).to_parquet(str(file))
    return str(file)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    """A tiny ViT of transformers without the pooler, with its image processor."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    ViTModel(ViTConfig(**SMALL, patch_size=16), add_pooling_layer=True).save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


def embed(model, data, output, *options) -> Vectors:
    main(["--model", model, "--data", data, "--output", str(output), "--device", "cpu", "--progress", "no", *options])
    return Vectors(output)


@pytest.fixture
def counted(monkeypatch):
    """Numbers of images in the batches that a model of another library reads."""
    calls, original = [], VectorModel.get_image_features

    def count(self, **inputs):
        calls.append(len(inputs["pixel_values"]))
        return original(self, **inputs)

    monkeypatch.setattr(VectorModel, "get_image_features", count)
    return calls


class TestModels:
    def test_a_clippo(self, photos, tmp_path):
        folder = save_tiny(tmp_path / "model")
        vectors = embed(folder, photos, tmp_path / "v", "--vector_dtype", "float32")
        model, processor = clippo.ClippoModel.from_pretrained(folder), clippo.ClippoProcessor.from_pretrained(folder)
        with torch.no_grad():
            expected = model.get_image_features(**processor(images=[picture(3)], return_tensors="pt")).pooler_output
        expected = torch.nn.functional.normalize(expected[0], dim=0)
        torch.testing.assert_close(vectors.get(3), expected, atol=1e-5, rtol=0)
        assert len(vectors) == ROWS and vectors.about.width == 24 and vectors.about.model == folder

    def test_a_vit_gives_its_pooled_output(self, photos, vit, tmp_path):
        vectors = embed(vit, photos, tmp_path / "v", "--vector_dtype", "float32", "--key", "name")
        pixels = ViTImageProcessor.from_pretrained(vit)(images=[picture(7)], return_tensors="pt")["pixel_values"]
        with torch.no_grad():
            expected = ViTModel.from_pretrained(vit)(pixels).pooler_output[0]
        torch.testing.assert_close(vectors.get(7), torch.nn.functional.normalize(expected, dim=0), atol=1e-5, rtol=0)
        assert vectors.row_of_key("p7") == 7 and vectors.row_of_key("p70") is None

    def test_clip_and_a_convolutional_network(self, photos, tmp_path):
        torch.manual_seed(0)
        tower = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
        clip = CLIPConfig(
            text_config={**tower, "vocab_size": 9}, vision_config={**tower, "image_size": 32}, projection_dim=12
        )
        CLIPModel(clip).save_pretrained(tmp_path / "clip")
        network = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        ResNetModel(network).save_pretrained(tmp_path / "resnet")
        for name, width in (("clip", 12), ("resnet", 16)):
            ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(tmp_path / name)
            assert embed(str(tmp_path / name), photos, tmp_path / f"{name}_v").vectors.shape == (ROWS, width)

    def test_a_head_without_weights_is_refused(self, photos, tmp_path):
        ViTModel(ViTConfig(**SMALL, patch_size=16), add_pooling_layer=False).save_pretrained(tmp_path / "headless")
        with pytest.raises(SystemExit, match=r"has no weights for pooler.* its vectors would be random"):
            embed(str(tmp_path / "headless"), photos, tmp_path / "v")

    def test_texts_of_a_clippo(self, photos, tmp_path):
        folder = save_tiny(tmp_path / "model")
        vectors = embed(folder, photos, tmp_path / "v", "--texts", "en")
        assert vectors.vectors.shape == (ROWS, 24) and vectors.about.kind == "texts"
        vectors.check_rows(datasets.load_dataset("parquet", data_files=photos, split="train"), "photos")

    def test_timm(self, photos, tmp_path):
        timm = pytest.importorskip("timm")
        model = timm.create_model("test_efficientnet")
        torch.save({f"other_{name}": tensor for name, tensor in model.state_dict().items()}, tmp_path / "w.pth")
        options = ("--weights", str(tmp_path / "w.pth"), "--size", "64", "--crop", "1")
        vectors = embed("timm:test_efficientnet", photos, tmp_path / "v", *options)
        assert len(vectors.vectors) == ROWS and vectors.about.model == "timm:test_efficientnet"

    def test_weights_of_another_port_match_by_their_order(self):
        model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
        other = {f"layer_{i}": tensor + 1 for i, tensor in enumerate(model.state_dict().values())}
        matched = match_weights(other, model, "w.pth")
        assert all(torch.equal(matched[name], tensor + 1) for name, tensor in model.state_dict().items())
        with pytest.raises(ValueError, match=r"w.pth is not a file of this model: 0.weight is not layer_1"):
            match_weights({"layer_1": other["layer_1"], **other}, model, "w.pth")
        with pytest.raises(ValueError, match="3 tensors, not 4"):
            match_weights(dict(list(other.items())[:3]), model, "w.pth")


class TestRuns:
    def test_a_second_run_computes_nothing(self, photos, vit, tmp_path, counted):
        first = embed(vit, photos, tmp_path).vectors.clone()
        assert sum(counted) == ROWS
        assert torch.equal(embed(vit, photos, tmp_path).vectors, first) and sum(counted) == ROWS

    def test_other_names_and_keys_are_written_without_computing(self, photos, vit, tmp_path, counted):
        first = embed(vit, photos, tmp_path).vectors.clone()
        named = embed(vit, photos, tmp_path, "--name", "some/model", "--key", "name")
        assert sum(counted) == ROWS and torch.equal(named.vectors, first)
        assert named.about.model == "some/model" and named.row_of_key("p7") == 7

    def test_a_killed_run_resumes(self, photos, vit, tmp_path, counted, monkeypatch):
        expected = embed(vit, photos, tmp_path / "whole").vectors
        counted.clear()
        original = VectorModel.get_image_features

        def killed(self, **inputs):
            if len(counted) == 3:
                raise KeyboardInterrupt
            return original(self, **inputs)

        options = ("--part_size", "2", "--batch_size", "2")
        with monkeypatch.context() as patch:
            patch.setattr(VectorModel, "get_image_features", killed)
            with pytest.raises(KeyboardInterrupt):
                embed(vit, photos, tmp_path / "cut", *options)
        with pytest.raises(FileNotFoundError, match="it was stopped before its end, so run it again"):
            Vectors(tmp_path / "cut")
        counted.clear()
        vectors = embed(vit, photos, tmp_path / "cut", *options).vectors
        assert counted == [2, 2] and torch.allclose(vectors, expected, atol=1e-3)
        assert not (tmp_path / "cut" / "parts").exists()

    def test_one_pixel_of_preprocessing_computes_again(self, photos, vit, tmp_path, counted):
        before = embed(vit, photos, tmp_path / "v").about.fingerprint
        processor = ViTImageProcessor.from_pretrained(vit)
        processor.image_mean = [0.5, 0.5, 0.501]
        ViTModel.from_pretrained(vit).save_pretrained(tmp_path / "other")
        processor.save_pretrained(tmp_path / "other")
        counted.clear()
        after = embed(str(tmp_path / "other"), photos, tmp_path / "v")
        assert sum(counted) == ROWS and after.about.fingerprint != before

    @pytest.mark.slow
    def test_two_processes_write_what_one_writes(self, photos, vit, tmp_path):
        expected = embed(vit, photos, tmp_path / "one", "--part_size", "3").vectors
        words = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "-m", "clippo"]
        words += ["embed", "--model", vit, "--data", photos, "--output", str(tmp_path / "two"), "--part_size", "3"]
        subprocess.run([*words, "--device", "cpu"], cwd=ROOT, check=True, capture_output=True, timeout=300)
        assert torch.equal(Vectors(tmp_path / "two").vectors, expected)

    def test_broken_images_have_no_vector(self, vit, tmp_path, capsys):
        folder = tmp_path / "folder"
        folder.mkdir()
        for i in range(3):
            picture(i).save(folder / f"{i}.png")
        (folder / "1.png").write_bytes(b"not an image")
        vectors = embed(vit, str(folder), tmp_path / "v")
        assert vectors.get(1) is None and vectors.get(2) is not None and len(vectors) == 3
        assert [key.rpartition("/")[2] for key in vectors.keys] == ["0.png", "1.png", "2.png"]
        assert "row 1 has no vector: broken image" in capsys.readouterr().err

    def test_nan_vectors_are_refused(self, photos, vit, tmp_path):
        model = ViTModel.from_pretrained(vit)
        model.pooler.dense.bias.data[0] = torch.nan
        model.save_pretrained(tmp_path / "nan")
        ViTImageProcessor.from_pretrained(vit).save_pretrained(tmp_path / "nan")
        with pytest.raises(SystemExit, match="10 embeddings are not finite; the first belongs to image 0"):
            embed(str(tmp_path / "nan"), photos, tmp_path / "v")


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--size", "32"], "size would have no effect on .* models of timm"),
            (["--vector_dtype", "int8"], "vector_dtype='int8' is not known; write one of float16, float32"),
            (["--image", "image", "--texts", "en"], "two columns; embed one of them"),
            (["--image", "photo"], "No column photo in"),
            (["--texts", "en"], "The model reads no texts"),
        ],
    )
    def test_refusals(self, photos, vit, tmp_path, options, message):
        with pytest.raises(SystemExit, match=f"error: .*{message}"):
            embed(vit, photos, tmp_path, *options)

    def test_a_library_that_is_missing(self, photos, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "timm", None)
        with pytest.raises(SystemExit, match=r"timm is not installed; run pip install 'clippo\[timm\]'"):
            embed("timm:resnet18", photos, tmp_path)

    def test_the_limit_reads_the_first_rows(self, photos, vit, tmp_path):
        assert len(embed(vit, photos, tmp_path, "--limit", "4")) == 4
        about = json.loads((tmp_path / "vectors.json").read_text())
        assert about["rows"] == 4 and about["data"] == photos


class TestEncoder:
    """Evaluation of a model that reads for another image tower."""

    def test_images_are_found_by_their_content(self, photos, vit, tmp_path):
        vectors = embed(vit, photos, tmp_path / "v")
        model = tiny_model(image_tower=vit, project_images=False, projection_dim=32)
        encoder = Encoder(model, tiny_processor(), vectors=vectors)
        cells = datasets.load_dataset("parquet", data_files=photos, split="train")
        cells = cells.cast_column("image", datasets.Image(decode=False))["image"]
        images = encoder.images([cells[4], {"bytes": b"another", "path": None}, cells[2]])
        assert images.kept == [0, 2] and "no vector in" in images.broken[1]
        expected = torch.stack([vectors.get(4), vectors.get(2)]).float()
        torch.testing.assert_close(images.vectors, torch.nn.functional.normalize(expected), atol=1e-6, rtol=0)
        with pytest.raises(ValueError, match="None of the 1 images has a vector in"):
            encoder.images([b"another"])

    def test_vectors_of_another_model(self, photos, vit, tmp_path):
        vectors = embed(vit, photos, tmp_path / "v")
        model = tiny_model(image_tower="another/model", project_images=False, projection_dim=32)
        with pytest.raises(ValueError, match=r"were made by '.*', and the model reads for image_tower='another/model'"):
            Encoder(model, tiny_processor(), vectors=vectors).images([b"x"])

    def test_the_command(self, photos, vit, tmp_path):
        embed(vit, photos, tmp_path / "v")
        folder = save_tiny(tmp_path / "m", image_tower=vit, project_images=False, projection_dim=32)
        words = ["retrieval", "--model", folder, "--data", photos, "--captions", "th=th", "--vectors"]
        words += [str(tmp_path / "v"), "--cache_dir", "", "--output_dir", str(tmp_path / "out"), "--device", "cpu"]
        (report,) = run_command(words)
        assert "th" in report.to_markdown()
