"""Experts against the official V-MoE code and the formulas of LIMoE, and in the tower."""

import numpy as np
import pytest
import torch

from clippo.modeling_clippo.encoder_clippo import ClippoAttentionPoolingHead, ClippoEncoder
from clippo.modeling_clippo.experts_clippo import (
    ClippoSparseMLP,
    best_experts,
    buffer_places,
    expert_capacity,
)
from clippo.modeling_clippo.router_losses_clippo import (
    TokenGroups,
    router_losses,
    squared_variation,
    token_statistics,
)

from ..tiny import tiny_config

CLOSE = dict(rtol=0, atol=5e-6)
EXPERTS = dict(num_experts=4, num_hidden_layers=4, router_importance_coef=0.1, router_global_entropy_coef=0.2)


@pytest.fixture(scope="module")
def routing(shared):
    return dict(np.load(shared("goldens", "seeds", "vmoe_routing.npz")))


def tensor(array) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array))


def golden_mlp(routing, case: str) -> ClippoSparseMLP:
    number, factor, order = case.split("_")
    config = tiny_config(
        hidden_size=16,
        intermediate_size=24,
        num_experts=8,
        num_experts_per_tok=int(number[1:]),
        expert_capacity_factor={"cf1": 1.0, "cf05": 0.5, "cf4": 4.0}[factor],
        expert_batch_priority=order == "bpr",
    )
    config._experts_implementation = "grouped_mm"
    mlp = ClippoSparseMLP(config).train()
    with torch.no_grad():
        mlp.router.weight.copy_(tensor(routing["router_kernel"]).T)
        for name, number in (("up_proj", 1), ("down_proj", 2)):
            getattr(mlp.experts, name).copy_(tensor(routing[f"expert_fc{number}_kernel"]).transpose(1, 2))
            getattr(mlp.experts, f"{name}_bias").copy_(tensor(routing[f"expert_fc{number}_bias"]))
    return mlp


CASES = ["k1_cf1_vanilla", "k1_cf1_bpr", "k1_cf05_bpr", "k1_cf05_vanilla", "k2_cf1_vanilla", "k2_cf1_bpr", "k1_cf4_bpr"]


class TestOfficialRouting:
    def test_all_cases_of_the_file_are_tested(self, routing):
        assert {name.split("/")[0] for name in routing if name.startswith("k")} == set(CASES)

    @pytest.mark.parametrize("case", CASES)
    def test_dispatch(self, routing, case):
        number, _, order = case.split("_")
        for group in range(3):
            gates = tensor(routing["gates"][group])
            weights, index = best_experts(gates, int(number[1:]))
            places = buffer_places(index, gates, order == "bpr")
            golden = {name: tensor(routing[f"{case}/{name}"][group]) for name in ("expert_index", "buffer_index")}
            assert torch.equal(index, golden["expert_index"].long())
            assert torch.equal(places, golden["buffer_index"].long())
            kept = places < int(routing[f"{case}/capacity"])
            assert torch.equal(kept, tensor(routing[f"{case}/kept"][group]))
            torch.testing.assert_close(weights, tensor(routing[f"{case}/combine_weight"][group]), **CLOSE)

    @pytest.mark.parametrize("implementation", ["grouped_mm", "batched_mm", "eager"])
    @pytest.mark.parametrize("case", CASES)
    def test_output_and_gradients(self, routing, case, implementation):
        mlp = golden_mlp(routing, case)
        mlp.config._experts_implementation = implementation
        tokens = tensor(routing["tokens"]).clone().requires_grad_()
        output, _ = mlp(tokens, TokenGroups(("image",) * 3, (40,) * 3))
        output.backward(tensor(routing["cotangent"]))
        torch.testing.assert_close(output, tensor(routing[f"{case}/output"]), **CLOSE)
        router, kernel = mlp.router.weight.grad.T, mlp.experts.up_proj.grad.transpose(1, 2)
        for name, got in (("tokens", tokens.grad), ("router_kernel", router), ("fc1_kernel", kernel)):
            torch.testing.assert_close(got, tensor(routing[f"{case}/grad_{name}"]), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("case", ["k1_vanilla", "k1_bpr", "k2_bpr"])
    def test_ties(self, routing, case):
        gates = tensor(routing["ties/gates"])
        _, index = best_experts(gates, int(case[1]))
        assert torch.equal(index, tensor(routing[f"ties/{case}/expert_index"]).long())
        places = buffer_places(index, gates, case.endswith("bpr"))
        assert torch.equal(places, tensor(routing[f"ties/{case}/buffer_index"]).long())

    def test_capacities(self, routing):
        for tokens, experts, factor, multiple, capacity in routing["capacity_table"].tolist():
            assert expert_capacity(int(tokens), 1, int(experts), factor, int(multiple) or 1) == capacity

    @pytest.mark.parametrize("number", [1, 2])
    def test_importance_and_load(self, routing, number):
        logits = tensor(routing["logits"]).clone().requires_grad_()
        std = float(routing["noise_std"])
        noisy = logits + tensor(routing["noise"])  # its standard deviation is std
        losses = []
        for own, own_noisy in zip(logits, noisy, strict=True):
            _, index = best_experts(own_noisy.softmax(-1), number)
            sums = token_statistics(own, index, TokenGroups(("image",), (40,)), own_noisy, std)
            losses.append(router_losses(sums.unsqueeze(0), (0, 0)))
        for name, key in (("importance", "importance_loss"), ("load", f"load_loss_k{number}")):
            got = torch.cat([group[name] for group in losses])
            torch.testing.assert_close(got, tensor(routing[key]), **CLOSE)
            gradient = {"importance": "grad_importance_logits", "load": f"grad_load_logits_k{number}"}[name]
            (slope,) = torch.autograd.grad(got.sum(), logits, retain_graph=True)
            torch.testing.assert_close(slope, tensor(routing[gradient]), rtol=1e-5, atol=1e-5)

    def test_perfect_balance_has_a_gradient_of_zero(self):
        logits = torch.zeros(40, 8, requires_grad=True)
        squared_variation(logits.softmax(-1).sum(0)).backward()
        assert torch.equal(logits.grad, torch.zeros(40, 8))


def test_official_encoder(shared):
    """Three blocks, experts in the second, and the pooling head, with batch priority in groups of two sequences."""
    golden = dict(np.load(shared("goldens", "seeds", "vmoe_encoder.npz")))
    config = tiny_config(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_experts=4,
        expert_layers=[1],
        expert_capacity_factor=1.0,
    )
    config._attn_implementation, config._experts_implementation = "sdpa", "grouped_mm"
    encoder, head = ClippoEncoder(config), ClippoAttentionPoolingHead(config)
    norm = torch.nn.LayerNorm(32, eps=1e-6)
    modules = {"Encoder/encoder_norm": norm, "MapHead": head}
    modules |= {f"Encoder/encoderblock_{i}": layer for i, layer in enumerate(encoder.layers)}
    with torch.no_grad():
        for name, module in modules.items():
            for parameter, values in official_tensors(module, f"params/{name}", golden):
                parameter.copy_(values.reshape(parameter.shape))
    encoder.train()
    encoded, losses = [], []
    for group in tensor(golden["x"]).split(2):
        statistics = []
        encoded.append(norm(encoder(group, None, "image", router_statistics=statistics)))
        losses.append(router_losses(torch.stack(statistics), (0, 0))["importance"])
    encoded = torch.cat(encoded)
    torch.testing.assert_close(encoded, tensor(golden["encoded"]), rtol=0, atol=1e-5)
    torch.testing.assert_close(head(encoded), tensor(golden["pooled"]), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cat(losses), tensor(golden["importance_loss"]), **CLOSE)


def official_tensors(module, prefix: str, golden: dict):
    """Pairs of a parameter and the official values in its order of axes."""
    names = {
        "layer_norm1": "LayerNorm_0",
        "layer_norm2": "LayerNorm_1",
        "layernorm": "LayerNorm",
        "self_attn": "SelfAttention",
        "attention": "MultiHeadDotProductAttention",
        "q_proj": "query",
        "k_proj": "key",
        "v_proj": "value",
        "out_proj": "out",
        "mlp.fc1": "Mlp/Dense_0",
        "mlp.fc2": "Mlp/Dense_1",
        "mlp.router": "Moe/Router/dense",
        "mlp.experts.up_proj": "Moe/Mlp/Dense_0",
        "mlp.experts.down_proj": "Moe/Mlp/Dense_1",
    }
    for name, parameter in module.named_parameters():
        stacked = ".experts." in name
        kind = "bias" if name.endswith("bias") else "kernel" if parameter.ndim > 1 else "scale"
        path = name.removesuffix("_bias") if stacked else name.removesuffix(".bias").removesuffix(".weight")
        if name in ("weight", "bias", "probe"):
            key = f"{prefix}/{'probe' if name == 'probe' else kind}"
        else:
            if not stacked:
                path = path.replace(".mlp", "mlp")
            for own, official in sorted(names.items(), key=lambda item: -len(item[0])):
                path = path.replace(own, official)
            key = f"{prefix}/{path.replace('.', '/')}/{kind}"
        values = tensor(golden[key])
        if kind == "kernel" and name != "probe":
            if stacked:
                values = values.transpose(1, 2)
            elif values.ndim == 3 and "out" in key.split("/")[-2]:
                values = values.flatten(0, 1).T
            elif values.ndim == 3:
                values = values.flatten(1).T
            else:
                values = values.T
        yield parameter, values
