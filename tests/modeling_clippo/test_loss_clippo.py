"""Contrastive losses against their formulas in float64, for all tile sizes, processes and precisions."""

from functools import partial
from typing import NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from clippo.modeling_clippo.loss_clippo import contrastive_loss

from ..processes import run_processes

KINDS = pytest.mark.parametrize("kind", ["softmax", "sigmoid"])


class Inputs(NamedTuple):
    """Inputs of a loss, each of which needs a gradient."""

    images: torch.Tensor
    texts: torch.Tensor
    scale: torch.Tensor
    bias: torch.Tensor

    def gradients(self, loss: torch.Tensor) -> list[torch.Tensor]:
        for tensor in self:
            tensor.grad = None
        loss.backward()
        return [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad.clone() for tensor in self]


def draw(rows: int, sets: int = 1, width: int = 16, scale: float = 10.0, dtype=torch.float64, seed: int = 0) -> Inputs:
    generator = torch.Generator().manual_seed(seed)
    images = normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=-1)
    noise = torch.randn(sets, rows, width, generator=generator, dtype=torch.float64)
    texts = normalize(images + 0.4 * noise, dim=-1).flatten(0, 1)
    tensors = (images, texts, torch.tensor([scale]), torch.tensor([-5.0]))
    return Inputs(*(tensor.to(dtype).requires_grad_() for tensor in tensors))


def whole_matrix(images, texts, scale, bias, kind="softmax"):
    """The formulas written out: the loss, and loss and R@1 of every pair."""
    rows, losses, hits = len(images), [], []
    partner, own = torch.eye(rows, dtype=torch.bool), torch.arange(rows)
    for one_set in texts.split(rows):
        scores = images @ one_set.T * scale
        if kind == "sigmoid":
            costs = -logsigmoid(torch.where(partner, 1.0, -1.0) * (scores + bias))
            directions = [costs.sum(1), costs.sum(0)]
        else:
            directions = [cross_entropy(way, own, reduction="none") for way in (scores, scores.T)]
        rivals = scores.masked_fill(partner, -torch.inf)
        found = [scores.diagonal() > rivals.amax(1), scores.diagonal() > rivals.amax(0)]
        losses.append(sum(directions) / 2)
        hits.append(sum(way.double() for way in found) / 2)
    return torch.cat(losses).mean(), torch.cat(losses).detach(), torch.cat(hits)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 13),
    sets=st.integers(1, 3),
    width=st.integers(1, 9),
    tile_rows=st.none() | st.integers(1, 15),
    scale=st.sampled_from([0.0, 1.0, 30.0, 100.0]),
    kind=st.sampled_from(["softmax", "sigmoid"]),
    seed=st.integers(0, 99),
)
def test_tiles_do_not_show(rows, sets, width, tile_rows, scale, kind, seed):
    inputs = draw(rows, sets, width, scale, seed=seed)
    expected, expected_per_pair, expected_hits = whole_matrix(*inputs, kind=kind)
    loss, per_pair, hits = contrastive_loss(*inputs, kind, tile_rows=tile_rows)
    close = partial(torch.testing.assert_close, rtol=1e-10, atol=1e-12)
    close(loss, expected)
    close(per_pair, expected_per_pair)
    if scale and width > 2:  # no ties, which rounding would decide
        close(hits, expected_hits)
    close(inputs.gradients(3 * loss), inputs.gradients(3 * expected))


@KINDS
def test_the_gradient_is_that_of_the_function(kind):
    inputs = draw(5, sets=2, width=4)
    assert torch.autograd.gradcheck(lambda *args: contrastive_loss(*args, kind, tile_rows=3).loss, tuple(inputs))


@KINDS
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_float32_is_near_float64(kind, scale):
    exact, single = draw(300, scale=scale), draw(300, scale=scale, dtype=torch.float32)
    expected = whole_matrix(*exact, kind=kind)[0]
    loss = contrastive_loss(*single, kind, tile_rows=64).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    for got, theirs in zip(single.gradients(loss), exact.gradients(expected), strict=True):
        torch.testing.assert_close(got.double(), theirs, rtol=1e-4, atol=1e-6)


@KINDS
def test_autocast_changes_nothing(kind):
    """A backward pass under autocast changes nothing either. Half-precision embeddings are converted to float32."""
    inputs = draw(40, dtype=torch.float32)
    loss = contrastive_loss(*inputs, kind).loss
    gradients = inputs.gradients(loss)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = contrastive_loss(*inputs, kind).loss
        assert torch.equal(under_autocast, loss)
        assert all(map(torch.equal, inputs.gradients(under_autocast), gradients))
    half = contrastive_loss(inputs.images.bfloat16(), inputs.texts.bfloat16(), *inputs[2:], kind)
    assert half.loss.dtype == half.loss_per_pair.dtype == torch.float32


def retained_bytes(function) -> int:
    """Bytes that autograd keeps for backward, every storage counted once."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()  # alive until counted, so that no address is used twice
    assert result.requires_grad
    return sum(storages.values())


@KINDS
def test_what_is_kept_for_backward_is_linear_in_the_batch(kind):
    width, kept, of_the_matrix = 32, [], []
    for rows in (256, 512):
        inputs = draw(rows, width=width, dtype=torch.float32)
        kept.append(retained_bytes(lambda: contrastive_loss(*inputs, kind, tile_rows=64).loss))  # noqa: B023
        of_the_matrix.append(retained_bytes(lambda: whole_matrix(*inputs, kind=kind)[0]))  # noqa: B023
        embeddings = 2 * rows * width * 4
        assert embeddings <= kept[-1] <= embeddings + 2 * rows * 4 + 64  # and two sums a pair
        assert of_the_matrix[-1] > rows * rows * 4
    assert kept[1] < 2.1 * kept[0] and of_the_matrix[1] > 3.5 * of_the_matrix[0]


def test_a_collapsed_encoder_finds_nothing():
    """All scores tie, and a tie counts as a miss, as in the evaluation."""
    point = torch.ones(6, 4) / 2
    assert contrastive_loss(point, point, torch.ones(1)).hit_per_pair.tolist() == [0.0] * 6
    assert contrastive_loss(point[:1], point[:1], torch.ones(1)).hit_per_pair.tolist() == [1.0]  # no rival


def test_softmax_leaves_the_bias_alone():
    inputs = draw(4)
    with_bias = contrastive_loss(*inputs).loss
    assert torch.equal(with_bias, contrastive_loss(*inputs[:3]).loss)
    assert inputs.gradients(with_bias)[3].tolist() == [0.0]


def test_nothing_but_the_loss_has_a_gradient():
    loss = contrastive_loss(*draw(4))
    assert loss.loss.requires_grad and not loss.loss_per_pair.requires_grad and not loss.hit_per_pair.requires_grad
    with torch.no_grad():
        assert not contrastive_loss(*draw(4)).loss.requires_grad


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_type": "hinge"}, "loss_type='hinge' is not known; choose one of softmax, sigmoid"),
        ({"loss_type": "sigmoid", "logit_bias": None}, "The sigmoid loss needs logit_bias"),
        ({"tile_rows": 0}, "tile_rows=0 scores no text"),
        ({"text_embeds": torch.ones(5, 16)}, "got 3 images and 5 texts; pass"),
        ({"text_embeds": torch.ones(0, 16)}, "got 3 images and 0 texts; pass"),
        ({"image_embeds": torch.ones(0, 16)}, "got 0 images and 3 texts; pass"),
    ],
)
def test_errors(options, message):
    images, texts, scale, bias = draw(3)
    arguments = dict(image_embeds=images, text_embeds=texts, logit_scale=scale, logit_bias=bias)
    with pytest.raises(ValueError, match=message):
        contrastive_loss(**{**arguments, **options})


def test_per_example_loss_of_the_official_code(tiny_model, tiny_inputs, golden_io):
    """The golden has a second loss that counts some pairs only. Its rows are those of the mean."""
    with torch.no_grad():
        output = tiny_model(**tiny_inputs, return_loss=True)
    expected = torch.from_numpy(golden_io["loss_per_example"])
    torch.testing.assert_close(output.loss_per_pair, expected, rtol=0, atol=1e-5)


# ----------------------------------------------------------------------------------------------------------- processes

# Rows of every process; zero rows too, which no data loader makes, but nothing may hang.
SHARES = {
    1: [(6,)],
    2: [(4, 4), (5, 2), (0, 3)],
    4: [(2, 2, 2, 2), (3, 1, 4, 2)],
}
CASES = [(kind, *others) for kind in ("softmax", "sigmoid") for others in ((torch.float64, 2), (torch.float32, 1))]


def share_of_a_process(rank: int, world: int):
    """Loss, gradients and meters of the own rows for every case, and the error message of a mistake on one process."""
    results = []
    for shares in SHARES[world]:
        own = slice(sum(shares[:rank]), sum(shares[: rank + 1]))
        for kind, dtype, sets in CASES:
            inputs = draw(sum(shares), sets, dtype=dtype)
            texts = torch.cat([one_set[own] for one_set in inputs.texts.split(sum(shares))])
            with torch.autocast("cpu", torch.bfloat16):
                loss = contrastive_loss(inputs.images[own], texts, *inputs[2:], kind, gather=True, tile_rows=2)
                gradients = inputs.gradients(loss.loss)
            results.append([loss.loss.detach(), *gradients, loss.loss_per_pair, loss.hit_per_pair])
    texts_of_last = 5 if rank == world - 1 else 3
    try:
        contrastive_loss(torch.ones(3, 4), torch.ones(texts_of_last, 4), torch.ones(1), gather=True)
    except ValueError as error:
        return results, str(error)
    return results, "no error"


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_equal_one(world, tmp_path):
    """The average over the processes of losses and gradients, as in data parallelism, is that of the whole batch."""
    results = run_processes(share_of_a_process, world, tmp_path, world)
    cases = [(shares, *case) for shares in SHARES[world] for case in CASES]
    for number, (shares, kind, dtype, sets) in enumerate(cases):
        inputs = draw(sum(shares), sets)
        expected, per_pair, hits = whole_matrix(*inputs, kind=kind)
        expected = [expected.detach(), *inputs.gradients(expected)]
        tolerance = 1e-10 if dtype == torch.float64 else 1e-5
        *averaged, per_pair_parts, hit_parts = zip(*(of_process[number] for of_process, _ in results), strict=True)
        averages = [torch.stack(tensors).mean(0).double() for tensors in averaged]
        torch.testing.assert_close(averages, expected, rtol=tolerance, atol=tolerance)
        for parts, whole in ((per_pair_parts, per_pair), (hit_parts, hits)):
            together = torch.cat([part.double().view(sets, -1) for part in parts], 1)
            torch.testing.assert_close(together.flatten(), whole, rtol=tolerance, atol=tolerance)
    where = f" on process {world - 1}" if world > 1 else ""
    assert all(f"got 3 images and 5 texts{where}; pass" in message for _, message in results)
