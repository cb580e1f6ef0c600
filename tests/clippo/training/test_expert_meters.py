"""Meters of experts, a router that collapses, and the optimizers with stacked kernels."""

import pytest
import torch
from transformers import TrainingArguments

from clippo.training.adafactor import factored_axes, official_layouts
from clippo.training.expert_meters import ExpertMeters, effective_experts
from clippo.training.optimization import decay_parameter_names
from clippo.training.trainer import ContrastiveTrainer

from ...tiny import tiny_model

EXPERTS = dict(num_experts=4, expert_layers=[1])


def test_effective_experts():
    tokens = torch.tensor([[5.0, 5.0, 0.0, 0.0], [7.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    torch.testing.assert_close(effective_experts(tokens), torch.tensor([2.0, 1.0, 0.0, 4.0]))


def test_a_window_is_summed_over_its_steps_and_processes():
    meters = ExpertMeters([3])
    for tokens in ([[8.0, 0.0], [1.0, 3.0]], [[0.0, 8.0], [3.0, 1.0]]):
        meters.update(torch.tensor([tokens]))
    logs = meters.read(lambda sums: 2 * sums)
    assert logs == {"image_experts": 2.0, "text_experts": 2.0, "idle_experts": 0, "largest_expert": 0.5}
    assert meters.read(lambda sums: sums) == {}


def test_idle_experts_are_counted_over_the_blocks():
    meters = ExpertMeters([1, 3])
    meters.update(torch.tensor([[[4.0, 0.0, 0.0], [4.0, 0.0, 0.0]], [[2.0, 2.0, 0.0], [1.0, 1.0, 1.0]]]))
    assert meters.read(lambda sums: sums)["idle_experts"] == 2


def train(folder, learning_rate: float, **fields) -> ContrastiveTrainer:
    model = tiny_model(noise=0, num_hidden_layers=4, num_experts=4, **fields).train()
    generator = torch.Generator().manual_seed(0)
    rows = [(torch.rand(3, 64, 64, generator=generator), torch.rand(1, 64, 64, generator=generator)) for _ in range(32)]

    def collate(pairs):
        images, texts = (torch.stack(tensors) for tensors in zip(*pairs, strict=True))
        return {"pixel_values": images, "text_pixel_values": texts, "return_loss": True}

    arguments = TrainingArguments(
        str(folder),
        max_steps=12,
        learning_rate=learning_rate,
        lr_scheduler_type="constant",
        logging_steps=4,
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        save_strategy="no",
        max_grad_norm=0.0,
        seed=0,
    )
    trainer = ContrastiveTrainer(model, arguments, train_dataset=rows, data_collator=collate)
    trainer.train()
    return trainer


def test_a_collapsed_router_is_named_in_the_log(tmp_path, log_messages):
    """A large learning rate drives all tokens to one expert."""
    trainer = train(tmp_path, learning_rate=0.5)
    messages = [message for message in log_messages if "has collapsed" in message]
    assert messages and "The router of block " in messages[0] and "tokens go to expert" in messages[0]
    last = [logs for logs in trainer.state.log_history if "image_experts" in logs][-1]
    assert last["largest_expert"] > 0.9 and last["idle_experts"] > 0


def test_a_balanced_router_is_not_named(tmp_path, log_messages):
    trainer = train(tmp_path, learning_rate=1e-3, router_importance_coef=1.0)
    assert not any("has collapsed" in message for message in log_messages)
    last = [logs for logs in trainer.state.log_history if "image_experts" in logs][-1]
    assert last["image_experts"] > 1.5 and last["text_experts"] > 1.5


def test_a_dense_model_has_no_such_numbers():
    meters = ExpertMeters(tiny_model().config.expert_blocks)
    meters.update(None)
    assert meters.read(lambda sums: sums) == {}


def test_weight_decay_takes_stacked_kernels_and_no_bias():
    model = tiny_model(**EXPERTS)
    names = {name.rpartition("mlp.")[2] for name in decay_parameter_names(model) if ".layers.1.mlp" in name}
    assert names == {"router.weight", "experts.up_proj", "experts.down_proj"}


@pytest.mark.parametrize("name", ["up_proj", "down_proj"])
def test_adafactor_factors_the_kernel_of_each_expert(name):
    """The official kernel of V-MoE is (experts, in, out); each expert keeps a row and a column of its own."""
    layouts = official_layouts(tiny_model(**EXPERTS))
    shape, order = layouts[f"vision_model.encoder.layers.1.mlp.experts.{name}"]
    assert order == (0, 2, 1)
    assert {shape[axis] for axis in factored_axes((shape, order))} == {32, 64}
    assert layouts[f"vision_model.encoder.layers.1.mlp.experts.{name}_bias"][1] == (0, 1)
