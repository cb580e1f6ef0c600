"""sentence-transformers reads a saved folder: texts or pictures by itself, both in one list with our module."""

import sys

import numpy as np
import pytest
from datasets import Dataset
from PIL import Image

from clippo.evaluation.encoder import Encoder

ITEMS = ["cat", Image.new("RGB", (20, 30), "red"), "犬", "cat", Image.new("RGB", (30, 20), "blue")]


@pytest.fixture
def sentence_transformers():
    return pytest.importorskip("sentence_transformers", reason="the extra sentence-transformers is not installed")


@pytest.fixture
def folder(tiny, tmp_path):
    for part in tiny:
        part.save_pretrained(tmp_path)
    return str(tmp_path)


def expected(tiny):
    texts, pictures = Encoder(*tiny).texts(["cat", "犬", "cat"]), Encoder(*tiny).images([ITEMS[1], ITEMS[4]]).vectors
    return np.stack([texts[0], pictures[0], texts[1], texts[2], pictures[1]])


def test_a_folder_as_it_is(tiny, folder, sentence_transformers):
    model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    texts = model.encode(["cat", "犬"], normalize_embeddings=True)
    np.testing.assert_allclose(texts, Encoder(*tiny).texts(["cat", "犬"]), atol=1e-6)
    pictures = model.encode([ITEMS[1], ITEMS[4]], normalize_embeddings=True)
    np.testing.assert_allclose(pictures, Encoder(*tiny).images([ITEMS[1], ITEMS[4]]).vectors, atol=1e-6)


def test_mixed_lists_with_our_module_also_after_a_round_trip(tiny, folder, sentence_transformers, tmp_path):
    from clippo.integrations.sentence_transformers import ClippoSentenceModule, add_to_folder

    model = sentence_transformers.SentenceTransformer(modules=[ClippoSentenceModule(*tiny)], device="cpu")
    np.testing.assert_allclose(model.encode(ITEMS, normalize_embeddings=True), expected(tiny), atol=1e-6)
    assert model.get_embedding_dimension() == 24

    add_to_folder(folder)
    again = sentence_transformers.SentenceTransformer(folder, device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(again.encode(ITEMS, batch_size=2, normalize_embeddings=True), expected(tiny), atol=1e-6)
    again.save(str(tmp_path / "saved"))
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(again.encode(ITEMS, normalize_embeddings=True), expected(tiny), atol=1e-6)
    with pytest.raises(FileNotFoundError, match="No model in"):
        add_to_folder(tmp_path / "saved" / "nothing")


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    monkeypatch.setitem(sys.modules, "sentence_transformers.base.modules", None)
    monkeypatch.delitem(sys.modules, "clippo.integrations.sentence_transformers", raising=False)
    with pytest.raises(ImportError, match=r"clippo\[sentence-transformers\]"):
        import clippo.integrations.sentence_transformers  # noqa: F401


def test_search_with_faiss_as_documented(tiny):
    pytest.importorskip("faiss", reason="the extra search is not installed")
    names = ["cat", "dog", "rocket"]
    data = Dataset.from_dict({"name": names, "embedding": Encoder(*tiny).texts(names).tolist()})
    data.add_faiss_index("embedding", metric_type=0)  # 0: inner product, of unit vectors the cosine
    scores, found = data.get_nearest_examples("embedding", Encoder(*tiny).texts(["dog"]).numpy()[0], k=2)
    assert found["name"][0] == "dog" and scores[0] == pytest.approx(1, abs=1e-5)
