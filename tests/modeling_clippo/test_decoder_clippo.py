"""The decoder's masks, cache and loss."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from clippo.modeling_clippo import ClippoDecoder
from clippo.modeling_clippo.decoder_clippo import byte_loss, causal_mask, shift_right

from ..tiny import tiny_model

IDS = torch.tensor([[0, 70, 71, 72, 73], [0, 80, 81, 82, 83]])
STATES = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(1))


def make(attention=None):
    return tiny_model(ClippoDecoder, attention=attention, num_decoder_layers=2, decoder_max_length=8)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_cached_steps_equal_one_teacher_forced_pass(attention):
    decoder = make(attention)
    whole = decoder(IDS, STATES, use_cache=False).last_hidden_state
    cache, steps = None, []
    for start, end in ((0, 1), (1, 2), (2, 4), (4, 5)):  # also two ids at once after a cache
        output = decoder(IDS[:, start:end], STATES, past_key_values=cache, use_cache=True)
        cache, steps = output.past_key_values, [*steps, output.last_hidden_state]
    torch.testing.assert_close(torch.cat(steps, 1), whole, rtol=0, atol=5e-6)


@torch.no_grad()
def test_implementations_agree():
    mask = torch.tensor([[True] * 6, [True, True, False, False, False, False]])
    outputs = [make(name)(IDS, STATES, mask).last_hidden_state for name in ("sdpa", "eager")]
    torch.testing.assert_close(*outputs, rtol=0, atol=5e-6)


@torch.no_grad()
def test_masked_tokens_of_the_tower_change_nothing():
    decoder, mask = make(), torch.tensor([[True, True, False, True, True, True]]).expand(2, -1)
    changed = STATES.clone()
    changed[:, 2] = 100.0
    expected = decoder(IDS, STATES[:, [0, 1, 3, 4, 5]]).last_hidden_state
    torch.testing.assert_close(decoder(IDS, changed, mask).last_hidden_state, expected, rtol=0, atol=5e-6)


@torch.no_grad()
def test_an_id_does_not_see_later_ones():
    decoder, later = make(), IDS.clone()
    later[:, 3:] = 90
    before, after = decoder(IDS, STATES).last_hidden_state, decoder(later, STATES).last_hidden_state
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3], after[:, 3])


def test_padding_on_the_left_is_not_seen_and_no_row_is_empty():
    mask = causal_mask(3, 0, torch.tensor([[0, 1, 1]]), torch.device("cpu"))[0, 0]
    assert mask.tolist() == [[True, False, False], [False, True, False], [False, True, True]]


def test_more_ids_than_positions_are_refused():
    with pytest.raises(ValueError, match="9 ids do not fit into decoder_max_length=8; cut the labels"):
        make()(torch.zeros(1, 9, dtype=torch.long), STATES[:1])


def test_labels_are_shifted_behind_the_start():
    labels = torch.tensor([[5, 6, 1, -100], [7, 1, -100, -100]])
    assert shift_right(labels, make().config).tolist() == [[0, 5, 6, 1], [0, 7, 1, 0]]


@pytest.mark.parametrize("label", [-1, 384])
def test_labels_that_are_no_ids_are_refused(label):
    with pytest.raises(ValueError, match=f"Label {label} is not an id of the decoder, 0 to 383; encode the texts"):
        shift_right(torch.tensor([[5, label, -100]]), make().config)


def test_loss_is_the_mean_over_the_bytes_of_the_batch(shared):
    """The golden has both averages; this one is transformers' usual."""
    golden = np.load(shared("goldens", "seeds", "paligemma_prefix.npz"))
    logits = torch.from_numpy(golden["logits"]).float()[:, :-1]
    text, counted = (torch.from_numpy(golden[name])[:, 1:] for name in ("text", "mask_loss"))
    labels = torch.where(counted.bool(), text.long(), -100)
    loss = byte_loss(logits, labels).item()
    assert loss == pytest.approx(float(golden["loss_per_token"]), abs=5e-6)
    assert abs(loss - float(golden["loss"])) > 0.01  # PaliGemma's mean over texts


def test_loss_divides_by_the_labels_of_the_step():
    logits, labels = torch.randn(2, 3, 9), torch.tensor([[1, 2, -100], [3, -100, -100]])
    total = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    torch.testing.assert_close(byte_loss(logits, labels, torch.tensor(12)), total / 12)
    torch.testing.assert_close(byte_loss(logits, labels), total / 3)


def test_loss_without_any_label_is_zero():
    logits = torch.randn(1, 2, 9, requires_grad=True)
    loss = byte_loss(logits, torch.full((1, 2), -100))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0
