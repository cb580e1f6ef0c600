"""A model with experts: the tower, the loss, saved folders and errors."""

import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

import clippo

from ..tiny import tiny_config, tiny_model, tiny_processor

CLOSE = dict(rtol=0, atol=5e-6)
EXPERTS = dict(num_experts=4, num_hidden_layers=4, router_importance_coef=0.1, router_global_entropy_coef=0.2)


def pairs(config, texts=("a cat", "кошка", "鳥鳥鳥鳥", "i")):
    images = torch.rand(len(texts), 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return {"pixel_values": images, **tiny_processor(config)(text=list(texts), return_tensors="pt")}


def gradients(model) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


class TestTower:
    def test_grouped_products_are_used(self):
        assert tiny_model(**EXPERTS).config._experts_implementation == "grouped_mm"
        assert tiny_model(clippo.ClippoVisionModel, **EXPERTS).config._experts_implementation == "grouped_mm"

    def test_experts_stand_in_every_second_block(self):
        config = tiny_config(**EXPERTS)
        assert config.expert_blocks == (1, 3)
        names = {name.split(".")[3] for name, _ in tiny_model(**EXPERTS).named_parameters() if ".experts." in name}
        assert names == {"1", "3"}

    def test_without_experts_nothing_changes(self):
        dense = tiny_model()
        assert not any("router" in name or "expert" in name for name in dense.state_dict())
        assert dense(**pairs(dense.config), return_loss=True).aux_loss is None

    @pytest.mark.parametrize("skip", [True, False])
    def test_one_expert_is_the_dense_model(self, skip):
        dense = tiny_model(skip_blank_patches=skip)
        sparse = tiny_model(num_experts=1, expert_layers=[0, 1], skip_blank_patches=skip)
        state = dense.state_dict()
        for name, parameter in sparse.state_dict().items():
            if ".experts." in name:
                prefix, _, rest = name.partition("experts.")
                layer = "fc1" if rest.startswith("up") else "fc2"
                parameter.copy_(state[f"{prefix}{layer}.{'bias' if rest.endswith('bias') else 'weight'}"].unsqueeze(0))
            elif "router" not in name:
                parameter.copy_(state[name])
        inputs = pairs(dense.config)
        with torch.no_grad():
            got, expected = sparse(**inputs), dense(**inputs)
        torch.testing.assert_close(got.logits_per_image, expected.logits_per_image, **CLOSE)

    def test_order_of_the_experts_changes_nothing(self):
        model, permuted = tiny_model(**EXPERTS), tiny_model(**EXPERTS)
        order = torch.tensor([2, 0, 3, 1])
        with torch.no_grad():
            for name, parameter in permuted.named_parameters():
                if "router" in name or ".experts." in name:
                    parameter.copy_(parameter[order].clone())
            inputs = pairs(model.config)
            got, expected = permuted(**inputs), model(**inputs)
        torch.testing.assert_close(got.logits_per_image, expected.logits_per_image, **CLOSE)

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.text("ab кошка鳥", min_size=0, max_size=30), min_size=2, max_size=9), st.data())
    def test_a_canvas_does_not_depend_on_its_batch(self, texts, data):
        model = self.model = getattr(self, "model", None) or tiny_model(skip_blank_patches=True, **EXPERTS)
        row = data.draw(st.integers(0, len(texts) - 1))
        with torch.no_grad():
            batch = model.get_text_features(**tiny_processor(model.config)(text=texts, return_tensors="pt"))
            alone = model.get_text_features(**tiny_processor(model.config)(text=[texts[row]], return_tensors="pt"))
        torch.testing.assert_close(batch.pooler_output[row], alone.pooler_output[0], **CLOSE)

    @pytest.mark.parametrize("skip", [True, False])
    @pytest.mark.parametrize("coefs", [{}, {"router_z_coef": 0.1, "router_local_entropy_coef": [0.1, 0.3]}])
    def test_micro_batches_have_loss_and_gradients_of_the_whole(self, skip, coefs):
        model = tiny_model(skip_blank_patches=skip, router_min_text_experts=3, **EXPERTS, **coefs).train()
        inputs = pairs(model.config)
        results = []
        for model.micro_batch_size in (None, 2, 1):
            model.zero_grad()
            output = model(**inputs)
            output.loss.backward()
            results.append((output.loss.detach(), output.aux_loss.detach(), output.expert_tokens, gradients(model)))
        for result in results[1:]:
            torch.testing.assert_close(result, results[0], rtol=1e-4, atol=1e-5)

    def test_noise_is_the_same_in_both_passes_of_a_micro_batch(self):
        model = tiny_model(router_noise_std=1.0, router_load_coef=1.0, **EXPERTS).train()
        model.micro_batch_size = 1
        torch.manual_seed(0)
        model(**pairs(model.config)).loss.backward()  # checkpointing compares the shapes of both passes
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())

    def test_attention_for_whole_batches_has_the_same_loss(self):
        inputs, outputs = pairs(tiny_config()), []
        for attention, options in (("sdpa", {}), ("eager", {"output_attentions": True})):
            model = tiny_model(skip_blank_patches=True, attention=attention, **EXPERTS).train()
            outputs.append(model(**inputs, **options))
        torch.testing.assert_close(outputs[0].aux_loss, outputs[1].aux_loss, **CLOSE)
        torch.testing.assert_close(outputs[0].loss, outputs[1].loss, **CLOSE)
        assert torch.equal(outputs[0].expert_tokens, outputs[1].expert_tokens)

    def test_tokens_are_counted_by_modality_without_padding(self):
        model = tiny_model(skip_blank_patches=True, **EXPERTS).train()
        inputs = pairs(model.config)
        kept = model.eval().get_text_features(inputs["text_pixel_values"]).kept_patches.sum()
        tokens = model.train()(**inputs).expert_tokens
        assert tokens.sum(-1).tolist() == [[4 * 16, kept], [4 * 16, kept]]

    def test_router_logits_on_request(self):
        model = tiny_model(**EXPERTS)
        output = model(**pairs(model.config), output_router_logits=True)
        assert [logits.shape for logits in output.vision_model_output.router_logits] == [(4, 16, 4)] * 2
        assert model(**pairs(model.config)).vision_model_output.router_logits is None

    def test_evaluation_has_no_auxiliary_loss(self):
        model = tiny_model(**EXPERTS)
        output = model(**pairs(model.config), return_loss=True)
        assert output.aux_loss is None and output.loss is not None

    def test_a_capacity_acts_in_training_only(self):
        model, limited = tiny_model(**EXPERTS), tiny_model(**EXPERTS, expert_capacity_factor=0.25)
        inputs = pairs(model.config)
        with torch.no_grad():
            assert torch.equal(model(**inputs).logits_per_image, limited(**inputs).logits_per_image)
            losses = [each.train()(**inputs, return_loss=True).loss for each in (model, limited)]
        assert losses[0] != losses[1]

    def test_autocast_keeps_the_router_in_float32(self):
        model = tiny_model(**EXPERTS)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            output = model.vision_model(torch.rand(2, 3, 64, 64), output_router_logits=True)
        assert output.router_logits[0].dtype == torch.float32
        assert output.pooler_output.isfinite().all()

    def test_idle_experts_have_gradients_of_zero(self):
        model = tiny_model(num_experts=64, num_hidden_layers=2).train()
        output = model(**pairs(model.config))
        output.loss.backward()
        idle = output.expert_tokens.sum((0, 1)) == 0
        assert idle.any()
        gradient = model.vision_model.encoder.layers[1].mlp.experts.up_proj.grad
        assert (gradient[idle] == 0).all() and (gradient[~idle] != 0).any()

    def test_the_router_learns_from_the_task_with_one_expert_a_token(self):
        model = tiny_model(num_experts=4).train()
        model(**pairs(model.config)).loss.backward()
        assert model.vision_model.encoder.layers[1].mlp.router.weight.grad.norm() > 1e-6

    def test_save_and_load(self, tmp_path):
        model = tiny_model(**EXPERTS)
        model.save_pretrained(tmp_path)
        loaded = clippo.ClippoModel.from_pretrained(tmp_path)
        inputs = pairs(model.config)
        with torch.no_grad():
            assert torch.equal(loaded(**inputs).logits_per_image, model(**inputs).logits_per_image)

    def test_experts_start_apart_and_with_the_scale_of_the_dense_layer(self):
        experts = tiny_model(num_experts=8, noise=0).vision_model.encoder.layers[1].mlp.experts
        limit = math.sqrt(6 / (32 + 64))
        assert limit * 0.95 < experts.up_proj.abs().max() <= limit
        assert not torch.equal(experts.up_proj[0], experts.up_proj[1])
        assert experts.up_proj_bias.abs().max() < 1e-5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(num_experts=4, num_experts_per_tok=5), "num_experts_per_tok=5 of num_experts=4"),
        (dict(num_experts=4, expert_layers=[2]), "images and texts share are 0 to 1"),
        (dict(num_experts=4, expert_layers=[]), "names no block"),
        (dict(expert_layers=[1]), "without experts; set num_experts"),
        (dict(num_experts=4, router_min_text_experts=5), "threshold above ln 4"),
        (dict(num_experts=4, router_load_coef=0.1), "set router_noise_std"),
        (dict(num_experts=4, router_z_coef=-1.0), "is negative or not finite"),
        (dict(num_experts=4, router_local_entropy_coef=[0.1]), r"\[images, texts\]"),
        (dict(num_experts=4, expert_capacity_factor=0.0), "is not positive"),
    ],
)
def test_errors_name_value_rule_and_remedy(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        tiny_config(**fields)


def test_micro_batches_with_a_capacity_warn(log_messages):
    model = tiny_model(**EXPERTS, expert_capacity_factor=1.0).train()
    model.micro_batch_size = 2
    model(**pairs(model.config)).loss.backward()
    assert any("drops tokens in each micro-batch" in message for message in log_messages)
