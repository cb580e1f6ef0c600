"""sentence-transformers opens a saved folder; with the module of this package it takes mixed lists. Both train."""

import sys

import numpy as np
import pytest
import torch
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


WORDS = ["cat", "dog", "car", "tree", "sun", "moon", "hat", "cup"]
COLORS = [Image.new("RGB", (20, 20), (30 * i, 255 - 30 * i, 100)) for i in range(len(WORDS))]


@pytest.mark.parametrize("door", ["folder", "module"])
@pytest.mark.parametrize("anchors", [[word + "!" for word in WORDS], COLORS], ids=["text-text", "image-text"])
def test_the_trainer_trains_the_right_side(tiny, folder, sentence_transformers, tmp_path, door, anchors):
    """The first loss equals the loss of the embeddings, and the loss falls."""
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from clippo.integrations.sentence_transformers import ClippoSentenceModule

    if door == "folder":
        model = sentence_transformers.SentenceTransformer(folder, device="cpu")
    else:
        model = sentence_transformers.SentenceTransformer(modules=[ClippoSentenceModule.load(folder)], device="cpu")
    arguments = sentence_transformers.SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=8,
        per_device_train_batch_size=len(WORDS),
        learning_rate=3e-3,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = sentence_transformers.SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_dict({"anchor": anchors, "positive": WORDS}),
        loss=MultipleNegativesRankingLoss(model),
    )
    first = model.encode(anchors, normalize_embeddings=True)
    logits = 20 * torch.as_tensor(first @ model.encode(WORDS, normalize_embeddings=True).T)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, torch.arange(len(WORDS))).item(), abs=1e-3
    )
    assert losses[-1] < losses[0] - 0.1
    model.save(str(tmp_path / "saved"))
    again = sentence_transformers.SentenceTransformer(str(tmp_path / "saved"), device="cpu", trust_remote_code=True)
    np.testing.assert_allclose(again.encode(WORDS), model.encode(WORDS), atol=1e-6)
    assert not np.allclose(again.encode(anchors, normalize_embeddings=True), first, atol=1e-3)


def test_a_path_of_an_image_is_an_image_in_both_doors(tiny, folder, sentence_transformers, tmp_path):
    from clippo.integrations.sentence_transformers import ClippoSentenceModule

    path = str(tmp_path / "red.png")
    ITEMS[1].save(path)
    stock = sentence_transformers.SentenceTransformer(folder, device="cpu")
    module = sentence_transformers.SentenceTransformer(modules=[ClippoSentenceModule(*tiny)], device="cpu")
    for model in (stock, module):
        np.testing.assert_allclose(model.encode([path]), module.encode([ITEMS[1]]), atol=1e-5)
        np.testing.assert_allclose(model.encode(["none.png"]), module.encode(["none.png"]), atol=1e-5)
    assert not np.allclose(module.encode(["none.png"]), module.encode([path]), atol=1e-3)


def test_images_are_not_taken_for_rendered_texts(tiny):
    """The trainer calls rendered texts `pixel_values`; an image under that name must not pass as a text."""
    model, processor = tiny
    text = processor(text=["cat"], return_tensors="pt")["text_pixel_values"]
    expected = model.get_text_features(text).pooler_output
    torch.testing.assert_close(model.get_text_features(pixel_values=text).pooler_output, expected)
    with pytest.raises(ValueError, match=r"pixel_values of shape \(1, 3, 32, 32\) are images"):
        model.get_text_features(pixel_values=torch.zeros(1, 3, 32, 32))
    with pytest.raises(TypeError, match="takes one batch of rendered texts"):
        model.get_text_features()
