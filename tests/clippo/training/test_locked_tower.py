"""Training with a locked image tower: five steps of the official code, and no trace of the lock in the optimizer."""

import numpy as np
import pytest
import torch
from transformers import TrainerCallback, TrainingArguments

from clippo.conversion import weight_table
from clippo.training.adafactor import official_layouts
from clippo.training.optimization import OptimizerArguments
from clippo.training.trainer import ContrastiveTrainer

from ...official_lit import load_golden, official_inputs, official_two_towers
from ...tiny import tiny_model

# big_vision decays by 1e-2 times the schedule; AdamW multiplies its weight decay by the rate of 1e-3 too.
OFFICIAL = dict(
    learning_rate=1e-3, weight_decay=10.0, max_grad_norm=1.0, max_steps=10, warmup_steps=2, lr_scheduler_type="cosine"
)


@pytest.fixture(scope="module")
def golden(shared):
    return load_golden(shared)


class Steps(TrainerCallback):
    """Losses and gradient norms; stops after five steps."""

    def __init__(self):
        self.losses, self.norms = [], []

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" in logs:
            self.losses.append(logs["loss"])
            self.norms.append(float(logs["grad_norm"]))

    def on_step_end(self, args, state, control, **kwargs):
        control.should_training_stop = state.global_step == 5


def train(model, batch, folder, optimizer=None, **options):
    """Train on the same batch in every step."""
    defaults = dict(use_cpu=True, report_to=[], logging_steps=1, save_strategy="no", disable_tqdm=True)
    steps = Steps()
    trainer = ContrastiveTrainer(
        model,
        TrainingArguments(str(folder), per_device_train_batch_size=6, **defaults, **options),
        train_dataset=[0] * 60,
        data_collator=lambda rows: {**batch, "return_loss": True},
        callbacks=[steps],
        optimizer_arguments=optimizer,
    )
    trainer.train()
    return trainer, steps


@pytest.mark.parametrize("given", [False, True], ids=["locked tower", "given vectors"])
def test_five_official_steps(golden, tmp_path, given):
    model, batch = official_two_towers(golden), official_inputs(golden)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items() if name.startswith("image_model")}
    if given:
        with torch.no_grad():
            batch["image_embeds"] = model.get_image_features(batch.pop("pixel_values")).pooler_output
    trainer, steps = train(model, batch, tmp_path, **OFFICIAL)
    np.testing.assert_allclose(steps.losses, golden["losses"], rtol=0, atol=5e-6)
    assert steps.norms[0] == pytest.approx(golden["grad_norm_unlocked"].item(), abs=5e-6)
    named = dict(model.named_parameters())
    table = {f"after5/{w.key.replace('img/', 'txt/')}": w for w in weight_table(model.config)}
    recorded = [name for name in golden if name.startswith("after5/")]
    assert len(recorded) == 6
    for name in recorded:
        value = table[name].to_numpy(named[table[name].name])
        np.testing.assert_allclose(value, golden[name], rtol=0, atol=5e-6, err_msg=name)
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())
    frozen = {id(parameter) for parameter in model.parameters() if not parameter.requires_grad}
    assert frozen and not frozen & {id(parameter) for parameter in trainer.optimizer.optimizer.state}


def test_the_papers_optimizer_leaves_the_locked_tower_alone(golden, tmp_path):
    model = official_two_towers(golden)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = OptimizerArguments("adafactor_big_vision")
    options = dict(max_steps=3, learning_rate=1e-3, weight_decay=1e-3)
    trainer, _ = train(model, official_inputs(golden), tmp_path, optimizer, **options)
    same = {name for name, tensor in model.state_dict().items() if torch.equal(tensor, before[name])}
    assert same == {name for name in before if name.startswith("image_model")}
    trained = sum(parameter.requires_grad for parameter in model.parameters())
    assert len(trainer.optimizer.optimizer.state) == trained


@pytest.mark.parametrize("image_tower", ["separate", "locked"])
def test_both_towers_have_the_official_layouts(image_tower):
    layouts = official_layouts(tiny_model(image_tower=image_tower))
    for name, layout in layouts.items():
        if name.startswith("image_model."):
            assert layout == layouts[name.replace("image_model.", "vision_model.")]
    assert layouts["image_projection.weight"] == layouts["projection.weight"]
