"""Checkpoints of commit 4044497 load and give the embeddings that the code of that commit computed.

`tests/goldens/folder_of_4044497` was saved by that code, `embeddings_of_4044497.npz` was computed by it. Weights are
compared bit by bit. Embeddings were equal bit by bit until a step became one packed sequence, which adds up in another
order; unit vectors get a tolerance of 5e-6.
"""

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import clippo

from .conftest import ROOT

GOLDENS = ROOT / "tests" / "goldens"
FOLDERS = {"tiny": GOLDENS / "folder_of_4044497", "emoji": ROOT / "checkpoints" / "clippo-emoji"}
TEXTS = {
    "tiny": ["a cat", "", "A longer text, with 3 rows of ink? yes!", "x"],
    "emoji": ["a cat", "", "ракета", "a longer text that fills several rows of the canvas", "猫"],
}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDENS / "embeddings_of_4044497.npz") as archive:
        return dict(archive)


def embeddings(name: str) -> dict[str, torch.Tensor]:
    model = clippo.ClippoModel.from_pretrained(FOLDERS[name]).eval()
    processor = clippo.ClippoProcessor.from_pretrained(FOLDERS[name])
    draw = np.random.default_rng(0)
    photos = [Image.fromarray(draw.integers(0, 256, (side, 50, 3), dtype=np.uint8)) for side in (40, 64, 90)]
    inputs = processor(images=photos, text=TEXTS[name], return_tensors="pt")
    packed = processor(text=TEXTS[name], canvas_format="packed", return_tensors="pt")["text_pixel_values"]
    with torch.no_grad():
        output = model(**inputs)
        packed_texts = model.get_text_features(packed).pooler_output
        model.config.skip_blank_patches = False
        unskipped_texts = model.get_text_features(inputs["text_pixel_values"]).pooler_output
    return {
        "image_embeds": output.image_embeds,
        "text_embeds": output.text_embeds,
        "unskipped_texts": unskipped_texts,
        "packed_texts": packed_texts,
    }


@pytest.mark.parametrize("name", FOLDERS)
def test_the_weights_are_the_same_bits(golden, name):
    digest = hashlib.sha256()
    for key, value in sorted(clippo.ClippoModel.from_pretrained(FOLDERS[name]).state_dict().items()):
        digest.update(key.encode())
        digest.update(value.numpy().tobytes())
    assert digest.hexdigest() == golden[f"{name}.state_sha256"]


@pytest.mark.parametrize("name", FOLDERS)
def test_the_embeddings_are_the_same(golden, name):
    for key, value in embeddings(name).items():
        value, expected = (F.normalize(x, dim=-1) for x in (value, torch.from_numpy(golden[f"{name}.{key}"])))
        torch.testing.assert_close(value, expected, rtol=0, atol=5e-6, msg=lambda m, key=key: f"{key}: {m}")
