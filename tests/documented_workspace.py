"""A folder with everything that the documented commands name, in miniature: data sets, models, an image."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PILImage
from transformers import ViTConfig, ViTImageProcessor, ViTModel

import clippo
from clippo.data.vectors import About, Vectors, row_hash
from clippo.pictograms import build_pictograms
from clippo.web.build import RUNTIME

from .clippo.emoji_miniature import build, cldr_folder  # noqa: F401
from .clippo.pictograms.fake_packages import write_packages
from .clippo.wordnet_miniature import write_wordnet
from .documented import ROOT
from .tiny import save_tiny

EMOJI_LANGUAGES = ("en", "de", "es", "fr", "pt", "id", "ru", "ar", "hi", "zh", "ja", "ko", "th", "el")
TATOEBA = (
    *("afr", "ara", "ben", "bul", "cmn", "deu", "ell", "est", "eus", "fin", "fra", "heb", "hin", "hun", "ind", "ita"),
    *("jav", "jpn", "kat", "kaz", "kor", "mal", "mar", "nld", "pes", "por", "rus", "spa", "swh", "tam", "tel", "tgl"),
    *("tha", "tur", "urd", "vie"),
)
WORDS = ("the", "old", "house", "stands", "beside", "a", "quiet", "river", "and", "nobody", "remembers", "when", "why")
GLUE = {
    "cola": ("sentence",),
    "sst2": ("sentence",),
    "mrpc": ("sentence1", "sentence2"),
    "stsb": ("sentence1", "sentence2"),
    "rte": ("sentence1", "sentence2"),
    "wnli": ("sentence1", "sentence2"),
    "qqp": ("question1", "question2"),
    "qnli": ("question", "sentence"),
    "mnli": ("premise", "hypothesis"),
}
TIMM = "timm:tf_efficientnet_lite0"
# A text model as recipes/text_pairs.yaml makes it, but small.
TEXT_MODEL = dict(image_size=224, num_channels=1, skip_blank_patches=True)


def sentence(seed: int, words: int = 8) -> str:
    """Random words of a small vocabulary."""
    return " ".join(np.random.default_rng(seed).choice(WORDS, words))


def picture(seed: int, side: int = 16) -> dict:
    """A PNG of noise, as a cell of an image column."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    stream = io.BytesIO()
    PILImage.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def write(path: Path, rows: list[dict], features: Features | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list(rows, features=features).to_parquet(path)


def write_captions(data: Path) -> None:
    """Flickr8k, and the pairs of the page on pretraining."""
    texts = {name: List(Value("string")) for name in ("captions", "captions_ar", "captions_de", "captions_nl")}
    texts |= {name: Value("string") for name in ("multi30k_de", "multi30k_fr", "multi30k_cs", "filename")}
    for number, split in enumerate(("train", "validation", "test")):
        rows = [
            {"image": picture(i + 100 * number)}
            | {
                name: [sentence(5 * i + k) for k in range(5)] if isinstance(kind, List) else f"{sentence(i)} {i}"
                for name, kind in texts.items()
            }
            for i in range(24)
        ]
        write(data / f"flickr8k/{split}-00000.parquet", rows, Features({"image": Image(), **texts}))
        pairs = [{"image": row["image"], "caption": row["captions"][0]} for row in rows]
        columns = Features({"image": Image(), "caption": Value("string")})
        write(data.parent / f"pairs/{split}.parquet", pairs, columns)


def write_vectors(folder: Path) -> None:
    """Random vectors of Flickr8k as a model of timm would write them, and a folder of photographs with captions."""
    for split in ("train", "validation", "test"):
        data = folder / f"data/flickr8k/{split}-00000.parquet"
        rows = Dataset.from_parquet(str(data)).cast_column("image", Image(decode=False))
        hashes, keys = [row_hash(cell, "images") for cell in rows["image"]], rows["filename"]
        about = About(TIMM, str(data), "image", "images", "miniature", len(rows), 1280, "float16")
        vectors = torch.nn.functional.normalize(torch.randn(len(rows), 1280)).half()
        Vectors.write(folder / "vectors/flickr8k" / split, about, vectors, range(len(rows)), hashes, keys)
    photos = folder / "photos"
    photos.mkdir()
    for i in range(8):
        (photos / f"{i}.png").write_bytes(picture(i)["bytes"])
    table = "\n".join(["file_name,en,th", *(f"{i}.png,{sentence(i)},ภาพ {i}" for i in range(8))])
    (photos / "metadata.csv").write_text(table + "\n", encoding="utf-8")
    torch.manual_seed(0)
    tower = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32)
    ViTModel(ViTConfig(**tower, patch_size=16)).save_pretrained(folder / "VIT")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder / "VIT")


def write_texts(data: Path) -> None:
    """Books, speeches, WikiText, phrases, GLUE, STS and translations."""
    documents = [{"text": ". ".join(sentence(i + k, 12).capitalize() for k in range(30)) + "."} for i in range(12)]
    for name in ("books/train", "books/validation", "speeches/train", "wikitext/validation", "wikitext/test"):
        write(data / f"{name}.parquet", documents)
    for name in ("seven", "three", "sixteen", "tasks"):
        views = [{"views": [sentence(i), sentence(i + 1)]} for i in range(300)]
        write(data / f"text_views/{name}/train.parquet", views)
    for task, columns in GLUE.items():
        kind = float if task == "stsb" else int
        rows = [{c: sentence(7 * i + k) for k, c in enumerate(columns)} | {"label": kind(i % 2)} for i in range(16)]
        splits = ("validation_matched", "validation_mismatched") if task == "mnli" else ("validation", "test")
        for split in ("train_subset" if task == "qqp" else "train", *splits):
            write(data / f"glue/{task}/{split}.parquet", rows)
    pairs = [{"sentence1": sentence(i), "sentence2": sentence(i + 1), "label": i / 4} for i in range(20)]
    write(data / "stsb_multi/test.parquet", [{"lang": lang, **row} for lang in ("de", "fr") for row in pairs])
    rows = [{"lang": lang, "sentence": sentence(i), "english": sentence(i + 9)} for lang in TATOEBA for i in range(3)]
    write(data / "tatoeba/test.parquet", rows)
    write(data / "thai.parquet", [{"en": sentence(i), "th": f"ภาพ {i}"} for i in range(24)])


def write_news(data: Path) -> None:
    """NTREX, with the number of rows of the original."""
    languages = ("eng", "deu", "fra", "ces", "rus", "ell", "arb", "hin", "kor", "zho_CN")
    write(data / "ntrex/test.parquet", [{name: sentence(i) for name in languages} for i in range(1997)])


def write_classes(data: Path) -> None:
    """CIFAR-10 and flowers."""
    three = ("train", "validation", "test")
    sets = (("cifar10", "img", ("train_10k", "test")), ("flowers", "image", three[::2]), ("flowers400", "image", three))
    for name, column, splits in sets:
        features = Features({column: Image(), "label": ClassLabel(names=["ant", "bee", "cat"])})
        for split in splits:
            rows = [{column: picture(i), "label": i % 3} for i in range(90)]
            write(data / f"{name}/{split}.parquet", rows, features)


def write_questions(data: Path) -> None:
    """Questions about images, grouped by image."""
    kinds = {"image": Image(), "questions": List(Value("string")), "answers": List(Value("string"))}
    for name in ("easy_vqa", "daquar"):
        for split in ("train", "test"):
            rows = [
                {"image": picture(i), "questions": ["is it red?", "what shape is it?"], "answers": ["yes", "circle"]}
                for i in range(16)
            ]
            write(data / f"{name}/{split}.parquet", rows, Features(kinds))
            (data.parent / "grids").mkdir(exist_ok=True)
            np.save(
                data.parent / f"grids/{split}.npy", np.random.default_rng(0).normal(size=(16, 2, 3, 8)).astype("f2")
            )
    labels = Features(
        {"image": Image(), "hypothesis": Value("string"), "label": ClassLabel(names=["no", "maybe", "yes"])}
    )
    for split in ("train", "validation"):
        rows = [{"image": picture(i), "hypothesis": sentence(i), "label": i % 3} for i in range(12)]
        write(data / f"snli_ve/{split}.parquet", rows, labels)


def write_models(folder: Path) -> None:
    """Folders that the commands take as models."""
    for name in ("MODEL", "FOLDER", "my-model", "runs/flickr8k", "models/clippo_b16_100c4", "clippo-b16"):
        save_tiny(folder / name, processor={"overflow": "ignore"}, skip_blank_patches=True)
    (folder / "runs/flowers/finetuned").mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(ROOT / "checkpoints/clippo-emoji" / name, folder / "runs/flowers/finetuned")
    for name in ("runs/text_pairs", "runs/text_pairs_long"):
        save_tiny(folder / name, processor={"overflow": "ignore"}, **TEXT_MODEL)
    save_tiny(folder / "runs/flickr8k_from_text", image_size=[112, 224], skip_blank_patches=True)
    lit = dict(image_tower=TIMM, project_images=False, projection_dim=1280, skip_blank_patches=True)
    save_tiny(folder / "runs/lit_flickr8k", **lit)
    save_tiny(folder / "runs/glue/qqp/seed-0", clippo.ClippoForSequenceClassification)
    save_tiny(folder / "runs/captions", clippo.ClippoForConditionalGeneration, num_decoder_layers=1)
    vqa = dict(id2label={0: "yes", 1: "circle"}, label2id={"yes": 0, "circle": 1})
    for name in ("runs/easy_vqa", "runs/easy_vqa_augmented"):
        save_tiny(folder / name, clippo.ClippoForVisualQuestionAnswering, attention="eager", **vqa)


def write_emoji(folder: Path) -> None:
    """The emoji data set with the texts of one language in all the languages of the recipes."""
    path = folder / "annotations.parquet"
    rows = Dataset.from_parquet(str(path))
    english = [row for row in rows if row["language"] == "en"]
    every = [{**row, "language": language} for language in EMOJI_LANGUAGES for row in english]
    Dataset.from_list(every, features=rows.features).to_parquet(path)


@pytest.fixture(scope="session")
def workspace(build, cldr_folder, tmp_path_factory):  # noqa: F811
    """Working directory of the documented commands."""
    folder = tmp_path_factory.mktemp("workspace")
    for name in ("docs", "checkpoints", "recipes", "scripts"):
        os.symlink(ROOT / name, folder / name)
    os.symlink(cldr_folder, folder / "cldr")
    data = folder / "data"
    build(data / "emoji", held_out=0.25)
    write_emoji(data / "emoji")
    write_packages(folder / "node_modules")
    build_pictograms(data / "pictograms", folder / "node_modules", side=96, workers=1, held_out_sets=("copies",))
    write_captions(data)
    write_texts(data)
    write_news(data)
    write_classes(data)
    write_questions(data)
    write_models(folder)
    write_vectors(folder)
    write_wordnet(folder / "wordnet")
    (folder / "classes.txt").write_text("ant\nbee\ncat\n", encoding="utf-8")
    os.symlink(data, folder / "copies")
    runtime = folder / "node_modules" / "onnxruntime-web" / "dist"  # the page is written, not opened
    runtime.mkdir(parents=True)
    for name in RUNTIME:
        (runtime / name).write_text(name)
    PILImage.open(io.BytesIO(picture(0)["bytes"])).save(folder / "photo.png")
    return folder
