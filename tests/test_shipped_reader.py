"""The reader in the repository: it opens everywhere, and finds sentences by meaning."""

import json

import pytest
import torch
from transformers import AutoModel, AutoProcessor

from clippo.demo.sentences import SENTENCES
from clippo.evaluation.encoder import Encoder

from .conftest import ROOT

FOLDER = str(ROOT / "checkpoints" / "clippo-reader")
TEXTS = ["A dog runs on the beach.", "Ein Hund läuft am Strand.", "犬が浜辺を走る。", ""]


@pytest.fixture(scope="module")
def encoder():
    return Encoder(AutoModel.from_pretrained(FOLDER), AutoProcessor.from_pretrained(FOLDER))


def test_sentence_transformers_gives_the_vectors_of_the_encoder(encoder):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = sentence_transformers.SentenceTransformer(FOLDER, device="cpu")
    vectors = torch.from_numpy(model.encode(TEXTS, normalize_embeddings=True))
    torch.testing.assert_close(vectors, encoder.texts(TEXTS), atol=1e-5, rtol=0)


def test_it_finds_sentences_by_meaning(encoder):
    shipped = json.loads(SENTENCES.read_text(encoding="utf-8"))
    asked = encoder.texts([query["text"] for query in shipped["queries"]])  # (24, 384)
    best = (asked @ encoder.texts(shipped["sentences"]).T).argmax(1)  # (24,)
    right = [
        shipped["sentences"][place] == query["answer"] for place, query in zip(best, shipped["queries"], strict=True)
    ]
    assert sum(right) >= 18  # of 24; 0.6 by chance


def test_a_misspelt_sentence_stays_near_and_another_one_far(encoder):
    whole, misspelt, other = encoder.texts(
        ["Scientists found water on the planet.", "scientsits fuond watre on teh plnaet", "I have never eaten snails."]
    )
    assert whole @ misspelt > 0.8 and whole @ other < 0.3


def test_its_card_has_its_size():
    card = (ROOT / "checkpoints" / "clippo-reader" / "README.md").read_text(encoding="utf-8")
    assert f"{AutoModel.from_pretrained(FOLDER).num_parameters():,}" in card
