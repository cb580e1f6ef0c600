"""Losses of a router against the formulas of LIMoE, evaluated in float64."""

import numpy as np
import pytest
import torch

from clippo.modeling_clippo.router_losses_clippo import TokenGroups, router_losses, router_sums, token_statistics


class TestEntropies:
    @pytest.mark.parametrize("case", ["mixed", "text_collapsed", "one_hot", "uniform", "no_text"])
    def test_values_and_gradients(self, shared, case):
        golden = np.load(shared("goldens", "seeds", "limoe_entropies.npz"))
        logits = torch.from_numpy(golden[f"{case}/logits"]).clone().requires_grad_()
        is_text = torch.from_numpy(golden[f"{case}/is_text"])
        order = torch.cat([(~is_text).nonzero(), is_text.nonzero()]).squeeze(1)  # images first, then texts
        groups = TokenGroups(("image", "text"), (int((~is_text).sum()), int(is_text.sum())))
        sums = token_statistics(logits[order], logits[order].argmax(1, keepdim=True), groups).unsqueeze(0)
        losses = router_losses(sums, (6, 3))

        def compare(value, name, gradient):
            np.testing.assert_allclose(value.item(), golden[f"{case}/{name}"], rtol=0, atol=1e-9)
            (slope,) = torch.autograd.grad(value, logits, retain_graph=True)
            np.testing.assert_allclose(slope, golden[f"{case}/{gradient}"], rtol=0, atol=1e-9)

        for i, modality in enumerate(("image", "text")):
            if f"{case}/{modality}/local" in golden:
                compare(losses["local"][0, i], f"{modality}/local", f"{modality}/grad_local")
                thresholded = losses["global"][0, i]
                compare(thresholded, f"{modality}/global_thresholded", f"{modality}/grad_global_thresholded")
        compare(losses["z"][0], "z_loss", "grad_z_loss")
        if case == "no_text":
            assert losses["local"][0, 1] == losses["global"][0, 1] == 0

    def test_losses_of_parts_are_those_of_the_whole(self):
        logits = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
        index = logits.argmax(1, keepdim=True)
        whole = token_statistics(logits, index, TokenGroups(("image", "text"), (40, 20)))
        parts = [
            token_statistics(logits[:25], index[:25], TokenGroups(("image",), (25,))),
            token_statistics(logits[25:], index[25:], TokenGroups(("image", "text"), (15, 20))),
        ]
        torch.testing.assert_close(sum(parts), whole)


def test_sums_have_names():
    index = torch.tensor([[0], [1], [1]])
    sums = router_sums(token_statistics(torch.zeros(3, 2), index, TokenGroups(("text",), (3,))).unsqueeze(0))
    assert sums.tokens.tolist() == [[0, 3]]
    assert sums.assigned.tolist() == [[[0, 0], [1, 2]]]
    assert sums.importance.tolist() == [[[0, 0], [1.5, 1.5]]]
