"""The contrastive loss: its formula, several texts an image, and two processes that equal one."""

import pytest
import torch
import torch.multiprocessing as mp
from torch.nn.functional import normalize

from clippo import ClippoConfig, ClippoModel
from clippo.modeling_clippo.loss_clippo import contrastive_loss


def unit_vectors(rows: int, seed: int) -> torch.Tensor:
    return normalize(torch.randn(rows, 16, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_it_is_the_symmetric_softmax_of_the_paper():
    images, texts, scale = unit_vectors(12, 0), unit_vectors(12, 1), torch.tensor([20.0])
    logits = 20.0 * images.double() @ texts.double().T
    by_image = logits.logsumexp(1) - logits.diagonal()
    by_text = logits.logsumexp(0) - logits.diagonal()
    expected = ((by_image + by_text) / 2).mean()
    torch.testing.assert_close(contrastive_loss(images, texts, scale).double(), expected, rtol=0, atol=1e-6)


def test_per_example_loss_of_the_official_code(tiny_model, tiny_inputs, golden_io):
    """The golden's second loss counts some pairs only; its rows are the ones we average."""
    with torch.no_grad():
        logits = tiny_model(**tiny_inputs).logits_per_image
    rows = (logits.logsumexp(1) + logits.logsumexp(0)) / 2 - logits.diagonal()
    torch.testing.assert_close(rows, torch.from_numpy(golden_io["loss_per_example"]), rtol=0, atol=1e-5)


def test_several_texts_an_image_are_the_mean_over_their_sets():
    torch.manual_seed(0)
    shape = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, image_size=32)
    model = ClippoModel(ClippoConfig(**shape)).eval()
    images, texts = torch.rand(3, 3, 32, 32), torch.rand(6, 1, 32, 32)
    both = model(images, texts, return_loss=True)
    alone = [model(images, part, return_loss=True).loss for part in texts.split(3)]
    torch.testing.assert_close(both.loss, torch.stack(alone).mean())
    assert both.logits_per_image.shape == (3, 6)
    with pytest.raises(ValueError, match="3 images and 5 texts"):
        model(images, texts[:5], return_loss=True)


def half_of_the_batch(rank: int, rendezvous: str, results) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    images, texts = unit_vectors(8, 0).requires_grad_(), unit_vectors(8, 1).requires_grad_()
    scale = torch.tensor([10.0], requires_grad=True)
    own = slice(4 * rank, 4 * rank + 4)
    loss = contrastive_loss(images[own], texts[own], scale, gather=True)
    loss.backward()
    results[rank] = [x.detach().clone() for x in (loss, images.grad, texts.grad, scale.grad)]
    torch.distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    """Averaged over processes, as data parallelism does: the loss and every gradient of the whole batch."""
    images, texts = unit_vectors(8, 0).requires_grad_(), unit_vectors(8, 1).requires_grad_()
    scale = torch.tensor([10.0], requires_grad=True)
    loss = contrastive_loss(images, texts, scale)
    loss.backward()
    results = mp.get_context("spawn").Manager().dict()
    mp.spawn(half_of_the_batch, args=(str(tmp_path / "rendezvous"), results), nprocs=2)
    averages = [torch.stack(both).mean(0) for both in zip(results[0], results[1], strict=True)]
    for ours, expected in zip(averages, (loss.detach(), images.grad, texts.grad, scale.grad), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
