"""The planner: its measurements against real tensors and real optimizer state, its plans and its table."""

import pytest
import torch

from clippo import ClippoConfig, ClippoModel
from clippo.training.flops import flops_per_image, training_flops_per_pair
from clippo.training.planning import Plan, activation_bytes, fit, optimizer_bytes, parameter_shapes, plan_table

SHAPE = dict(hidden_size=64, intermediate_size=256, num_attention_heads=4, projection_dim=48, image_size=64)
CONFIG = ClippoConfig(num_hidden_layers=3, **SHAPE)


def really_kept(config: ClippoConfig, batch: int) -> int:
    model = ClippoModel._from_config(config, attn_implementation="sdpa").train()
    own, saved = {p.data_ptr() for p in model.parameters()}, {}

    def keep(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), torch.autocast("cpu", torch.bfloat16):
        model.get_image_features(torch.zeros(batch, 3, *config.canvas_size))
    return sum(storage.nbytes() for address, storage in saved.items() if address not in own)


def test_fake_tensors_keep_what_real_ones_do():
    real = really_kept(CONFIG, 2) - really_kept(CONFIG, 1)
    assert activation_bytes(CONFIG) == pytest.approx(real, rel=1e-3)


def test_activations_by_tokens_depth_and_checkpointing():
    deeper = ClippoConfig(num_hidden_layers=6, **SHAPE)
    assert activation_bytes(CONFIG, 16) == activation_bytes(CONFIG)
    # Linear in tokens but for the pooled vector's own MLP, since SDPA keeps no score.
    few, some, many = (activation_bytes(CONFIG, tokens) for tokens in (4, 8, 16))
    assert 2 * (some - few) == many - some > 0
    block = activation_bytes(deeper, None) - activation_bytes(CONFIG, None)
    checkpointed = activation_bytes(deeper, None, True) - activation_bytes(CONFIG, None, True)
    assert checkpointed == 3 * 16 * 64 * 4  # three more blocks keep their float32 inputs
    assert block > 8 * checkpointed


def test_optimizer_state_is_that_of_adamw():
    model = ClippoModel(CONFIG)
    optimizer = torch.optim.AdamW(model.parameters())
    model.get_image_features(torch.zeros(1, 3, 64, 64)).pooler_output.sum().backward()
    optimizer.step()
    moments = [s for state in optimizer.state.values() for name, s in state.items() if name != "step"]
    used = {name: p.shape for name, p in model.named_parameters() if p.grad is not None}
    assert sum(m.nbytes for m in moments) == sum(optimizer_bytes(shape, "adamw") for shape in used.values())
    assert parameter_shapes(CONFIG) == {name: p.shape for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("shape", "second_moment"), [((64, 128), 64 + 128), ((64, 3, 16, 16), 64 * 768), ((128, 16), 128 * 16), ((1,), 1)]
)
def test_optimizer_state_of_adafactor(shape, second_moment):
    """Rows and columns where two dimensions are large enough, everything otherwise; half-precision momentum."""
    assert optimizer_bytes(shape, "adafactor") == 2 * torch.Size(shape).numel() + 4 * second_moment


def test_a_plan_adds_up():
    plan = Plan(CONFIG, global_batch=1024, gpus=8, text_patches=4)
    memory, (needed, done) = plan.memory(), plan.flops_per_step()
    assert memory["activations"] == 128 * (activation_bytes(CONFIG) + activation_bytes(CONFIG, 4))
    assert needed == done == 128 * training_flops_per_pair(CONFIG, 4)
    micro = Plan(CONFIG, global_batch=1024, gpus=8, text_patches=4, micro_batch=32)
    assert micro.memory()["activations"] == 32 * activation_bytes(CONFIG)
    assert micro.flops_per_step()[1] == 128 * 4 * (flops_per_image(CONFIG) + flops_per_image(CONFIG, 4))
    sharded = Plan(CONFIG, global_batch=1024, gpus=8, text_patches=4, sharding="fsdp")
    assert sharded.memory()["optimizer"] * 8 == memory["optimizer"]
    assert sum(sharded.memory().values()) < sum(memory.values())


def test_the_loss_needs_memory_for_rows_not_for_pairs_of_them():
    def loss(batch):
        return Plan(CONFIG, global_batch=batch, gpus=8).memory()["loss"]

    assert 2 * (loss(2048) - loss(1024)) == loss(4096) - loss(2048)


def test_fit_recomputes_no_more_than_it_must():
    plan = Plan(CONFIG, global_batch=1024, gpus=8)
    whole = sum(plan.memory().values())
    assert fit(plan, whole) == plan
    smaller = fit(plan, whole - 1)
    assert smaller.micro_batch == 128 and not smaller.checkpointing
    fixed = whole - plan.memory()["activations"]
    tight = fit(plan, fixed + 1.5 * activation_bytes(CONFIG))
    assert tight.micro_batch == 1 and not tight.checkpointing
    tighter = fit(plan, fixed + activation_bytes(CONFIG, None, True))
    assert tighter.micro_batch == 1 and tighter.checkpointing
    assert fit(plan, fixed) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(gpus=3), "global_batch=1024 does not divide among gpus=3"),
        (dict(gpus=0), "among gpus=0"),
        (dict(micro_batch=0), "micro_batch=0 encodes nothing"),
        (dict(sharding="zero"), "sharding='zero' is not known; choose one of ddp, fsdp"),
        (dict(optimizer="lion"), "optimizer='lion'"),
        (dict(text_patches=17), "text_patches=17 is not between 1 and the canvas's 16"),
    ],
)
def test_impossible_plans_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Plan(**{"config": CONFIG, "global_batch": 1024, "gpus": 8, **fields})


def test_the_table():
    plans = [Plan(CONFIG, 1024, gpus) for gpus in (8, 16)]
    rows = [line.split("|")[1:-1] for line in plan_table(plans, 1e9, 1e12, 0.5, 1e6).splitlines() if "|" in line]
    assert {len(row) for row in rows} == {12}
    seconds = float(rows[2][7])
    assert seconds == pytest.approx(128 * training_flops_per_pair(CONFIG) / 0.5e12, rel=0.01)
    assert "does not fit" in plan_table(plans, 1e6, 1e12, 0.5, 1e6)
