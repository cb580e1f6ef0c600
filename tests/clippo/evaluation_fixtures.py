"""The tiny model with its processor, and small data sets on disk."""

import io

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PILImage

from ..tiny import tiny_model, tiny_processor


@pytest.fixture
def tiny():
    """Model and processor for a canvas of 32 x 32 pixels, with the same weights in every test."""
    model = tiny_model(noise=0, image_size=32, skip_blank_patches=True)
    return model, tiny_processor(model.config)


COLORS = ("red", "lime", "blue")


def square(color, seed):
    """PNG cell of one colour with some noise."""
    noise = np.random.default_rng(seed).integers(0, 60, (8, 8, 3))
    pixels = np.abs(np.asarray(PILImage.new("RGB", (8, 8), color)).astype(int) - noise).astype(np.uint8)
    stream = io.BytesIO()
    PILImage.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """Folder with train.parquet (8 a class) and test.parquet (12 images, one of them broken): three colours in four
    classes, the third and fourth of one canonical name, the fourth without images."""
    folder = tmp_path_factory.mktemp("labelled")
    names = ClassLabel(names=["red", "lime_green", "blue", "Blue!"])
    features = Features({"image": Image(), "label": names})
    for split, count in (("train", 24), ("test", 12)):
        rows = [{"image": square(COLORS[i % 3], i + count), "label": i % 3} for i in range(count)]
        if split == "test":
            rows[4]["image"] = {"bytes": b"no picture", "path": None}
        Dataset.from_list(rows, features=features).to_parquet(folder / f"{split}.parquet")
    return folder


@pytest.fixture(scope="session")
def captioned(tmp_path_factory):
    """Folder with test.parquet: six images; two English captions each, one German for four, none in French."""
    folder = tmp_path_factory.mktemp("captioned")
    features = Features({"image": Image(), "en": List(Value("string")), "de": Value("string"), "fr": Value("string")})
    rows = [
        {
            "image": square(COLORS[i % 3], i),
            "en": [f"picture {i}", f"number {i}"],
            "de": f"Bild {i}" if i < 4 else ("" if i == 4 else None),
            "fr": None,
        }
        for i in range(6)
    ]
    Dataset.from_list(rows, features=features).to_parquet(folder / "test.parquet")
    return folder


class Oracle:
    """Replaces an `Encoder`: images and texts with the same digit, or colour, get the same unit vector."""

    texts_cut = 0

    def __init__(self, encoder, vector):
        self.encoder, self.vector = encoder, vector

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def images(self, cells, **options):
        images = self.encoder.images(cells, **options)
        images.vectors = torch.stack([self.vector(row) for row in images.kept])
        return images

    def texts(self, texts):
        return torch.stack([self.vector(text) for text in texts])


@pytest.fixture
def oracle():
    """Function that makes an `Oracle` from an encoder and a function of row numbers and texts."""
    return Oracle
