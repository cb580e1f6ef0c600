"""Batched embeddings are the model's own, whatever the batches, and leave the model as it was."""

import numpy as np
import pytest
import torch
from PIL import Image

from clippo.evaluation.embeddings import embed_images, embed_texts, evaluation_mode

TEXTS = ["a", "犬", "a long name", "", "cat", "a", "Ж", "犬"]


def pictures(count):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 40, 30, 3), dtype=np.uint8)
    return [Image.fromarray(picture) for picture in pixels]


def test_both_sides_are_the_embeddings_of_the_forward_pass(tiny):
    model, processor = tiny
    images = pictures(len(TEXTS))
    with torch.no_grad():
        expected = model.eval()(**processor(images=images, text=TEXTS, return_tensors="pt"))
    torch.testing.assert_close(embed_images(model, processor, images), expected.image_embeds, atol=1e-6, rtol=0)
    torch.testing.assert_close(embed_texts(model, processor, TEXTS), expected.text_embeds, atol=1e-6, rtol=0)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_batches_and_repeated_texts_change_nothing(tiny, batch_size):
    model, processor = tiny
    one_by_one = torch.cat([embed_texts(model, processor, [text]) for text in TEXTS])
    torch.testing.assert_close(embed_texts(model, processor, TEXTS, batch_size), one_by_one, atol=1e-6, rtol=0)
    images = pictures(5)
    one_by_one = torch.cat([embed_images(model, processor, [image]) for image in images])
    torch.testing.assert_close(embed_images(model, processor, images, batch_size), one_by_one, atol=1e-6, rtol=0)


def test_each_different_text_is_embedded_once(tiny, monkeypatch):
    model, processor = tiny
    seen = []
    original = model.get_text_features
    monkeypatch.setattr(
        model, "get_text_features", lambda **inputs: seen.append(len(inputs["text_pixel_values"])) or original(**inputs)
    )
    assert len(embed_texts(model, processor, TEXTS, batch_size=4)) == len(TEXTS)
    assert seen == [4, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_result_is_float32_of_unit_length_on_the_cpu(tiny, dtype):
    model, processor = tiny
    for embeddings in (embed_texts(model.to(dtype), processor, TEXTS), embed_images(model, processor, pictures(3))):
        assert embeddings.dtype == torch.float32 and embeddings.device.type == "cpu"
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(embeddings)))
        # A tensor born in inference mode could not be saved for a backward pass.
        (embeddings * torch.ones(1, requires_grad=True)).sum().backward()


def test_packed_canvases_give_the_same(tiny):
    model, processor = tiny
    expected = embed_texts(model, processor, TEXTS)
    processor.tokenizer.canvas_format = "packed"
    torch.testing.assert_close(embed_texts(model, processor, TEXTS), expected, atol=1e-6, rtol=0)


def test_images_are_read_one_batch_at_a_time(tiny):
    """A data set decodes pictures when they are indexed; holding them all would defeat that."""

    class Column:
        def __init__(self, images):
            self.images, self.reads = images, []

        def __len__(self):
            return len(self.images)

        def __getitem__(self, index):
            self.reads.append(index)
            return self.images[index]

    column = Column(pictures(5))
    assert len(embed_images(*tiny, column, batch_size=2)) == 5
    assert column.reads == [0, 1, 2, 3, 4]


def test_training_mode_comes_back_module_by_module(tiny):
    model, processor = tiny
    model.train()
    model.vision_model.eval()  # as someone freezes the tower
    modes = [module.training for module in model.modules()]
    embed_texts(model, processor, ["a"])
    assert [module.training for module in model.modules()] == modes

    def fail_in_evaluation():
        with evaluation_mode(model):
            assert not any(module.training for module in model.modules()) and torch.is_inference_mode_enabled()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail_in_evaluation()
    assert [module.training for module in model.modules()] == modes


def test_progress_is_shown_only_on_request(tiny, capsys):
    embed_texts(*tiny, ["a", "b"])
    assert capsys.readouterr().err == ""
    embed_texts(*tiny, ["a", "b"], progress=True)
    assert "texts: 100%" in capsys.readouterr().err


def test_errors_name_the_remedy(tiny):
    with pytest.raises(TypeError, match="pass a list of strings"):
        embed_texts(*tiny, "dog")
    with pytest.raises(TypeError, match="pass a sequence of pictures"):
        embed_images(*tiny, pictures(1)[0])
    with pytest.raises(TypeError, match="pass a sequence of pictures"):
        embed_images(*tiny, "dog.png")
    for embed in (embed_texts, embed_images):
        with pytest.raises(ValueError, match="nothing to embed"):
            embed(*tiny, [])
        with pytest.raises(ValueError, match="batch_size is a positive number, got 0"):
            embed(*tiny, ["a"], batch_size=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(tiny):
    model, processor = tiny
    expected = embed_texts(model, processor, TEXTS)
    torch.testing.assert_close(embed_texts(model.cuda(), processor, TEXTS), expected, atol=1e-3, rtol=0)
