"""Choosing optimizer and schedule: arguments, decay groups, contradictions, a run of transformers.Trainer."""

import datasets
import pytest
import torch
from torch import nn
from transformers import HfArgumentParser, Trainer, TrainingArguments, set_seed

import clippo
from clippo.conversion import weight_table
from clippo.training.adafactor import BigVisionAdafactor
from clippo.training.optimization import (
    OptimizerArguments,
    create_optimizer,
    create_scheduler,
    decay_parameter_names,
)

PAPER = OptimizerArguments(optimizer="adafactor_big_vision", schedule="rsqrt", rsqrt_timescale=4, cooldown_steps=1)


def arguments(folder, **options) -> TrainingArguments:
    defaults = dict(
        output_dir=str(folder), use_cpu=True, report_to=[], logging_steps=1, disable_tqdm=True, max_steps=6,
        learning_rate=1e-3, weight_decay=1e-4, warmup_steps=2, per_device_train_batch_size=4, save_strategy="no",
        remove_unused_columns=False, seed=3,
    )  # fmt: skip
    return TrainingArguments(**{**defaults, **options})


@pytest.fixture
def model(tiny_config):
    set_seed(0)
    return clippo.ClippoModel(tiny_config(num_hidden_layers=1))


class TestArguments:
    def test_they_come_from_a_command_line(self):
        line = ["--optimizer=adafactor_big_vision", "--schedule=rsqrt", "--rsqrt_timescale=100", "--cooldown_steps=7"]
        (parsed,) = HfArgumentParser((OptimizerArguments,)).parse_args_into_dataclasses(line)
        assert parsed == OptimizerArguments("adafactor_big_vision", "rsqrt", 100, 7)

    def test_no_name_is_taken_twice(self, tmp_path):
        HfArgumentParser((OptimizerArguments, TrainingArguments))  # argparse refuses a second --name

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (dict(optimizer="adam"), "optimizer='adam' is not known; write one of trainer, adafactor_big_vision"),
            (dict(schedule="cosine"), "schedule='cosine' is not known; write one of trainer, rsqrt"),
            (dict(cooldown_steps=3), "cooldown_steps=3 needs schedule=rsqrt"),
            (dict(rsqrt_timescale=3), "rsqrt_timescale=3 needs schedule=rsqrt"),
            (dict(schedule="rsqrt", rsqrt_timescale=0), "rsqrt_timescale=0 must be positive"),
            (dict(schedule="rsqrt", cooldown_steps=-1), "cooldown_steps=-1 must not be negative"),
        ],
    )
    def test_what_makes_no_sense(self, options, message):
        with pytest.raises(ValueError, match=message):
            OptimizerArguments(**options)


class TestCreateOptimizer:
    def test_trainer_makes_its_own(self, model, tmp_path):
        assert create_optimizer(model, arguments(tmp_path), OptimizerArguments()) is None

    def test_exactly_the_official_kernels_are_decayed(self, model):
        kernels = {weight.name for weight in weight_table(model.config) if weight.key.endswith("/kernel")}
        assert set(decay_parameter_names(model)) == kernels

    def test_groups_and_numbers(self, model, tmp_path):
        model.projection.requires_grad_(False)
        args = arguments(tmp_path, adam_beta1=0.8, adam_beta2=0.95)
        optimizer = create_optimizer(model, args, PAPER)
        assert isinstance(optimizer, BigVisionAdafactor)
        names = {parameter: name for name, parameter in model.named_parameters()}
        decayed, plain = ([names[p] for p in group["params"]] for group in optimizer.param_groups)
        assert decayed == [n for n in decay_parameter_names(model) if not n.startswith("projection")]
        assert sorted(decayed + plain) == sorted(n for n in names.values() if not n.startswith("projection"))
        assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-4, 0.0]
        for group in optimizer.param_groups:
            assert (group["lr"], group["momentum"], group["beta2_cap"]) == (1e-3, 0.8, 0.95)
        query = decayed.index("vision_model.encoder.layers.0.self_attn.q_proj.weight")
        assert optimizer.param_groups[0]["layouts"][query] == ((4, 8, 32), (1, 2, 0))

    def test_contradictions(self, model, tmp_path):
        with pytest.raises(ValueError, match="optim=sgd and optimizer=adafactor_big_vision contradict each other"):
            create_optimizer(model, arguments(tmp_path, optim="sgd"), PAPER)
        args = arguments(tmp_path)
        args.deepspeed = "zero2.json"
        with pytest.raises(ValueError, match="DeepSpeed ZeRO flattens"):
            create_optimizer(model, args, PAPER)
        with pytest.raises(ValueError, match=r"lr=0\.0 must be positive"):
            create_optimizer(model, arguments(tmp_path, learning_rate=0.0), PAPER)

    def test_a_weight_decay_meant_for_adamw_is_noticed(self, model, tmp_path, caplog):
        create_optimizer(model, arguments(tmp_path), PAPER)
        assert not caplog.records
        create_optimizer(model, arguments(tmp_path, weight_decay=0.1), PAPER)
        assert "weight_decay=0.1 takes that share of every kernel in each step" in caplog.text


class TestCreateScheduler:
    @pytest.fixture
    def optimizer(self):
        return torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=2.0)

    def test_trainer_makes_its_own(self, optimizer, tmp_path):
        assert create_scheduler(optimizer, arguments(tmp_path), OptimizerArguments(), 6) is None

    @pytest.mark.parametrize("warmup", [2, 0.25])
    def test_warm_up_in_steps_or_as_a_share(self, optimizer, tmp_path, warmup):
        scheduler = create_scheduler(optimizer, arguments(tmp_path, warmup_steps=warmup), PAPER, 8)
        rates = []
        for _ in range(8):
            rates += scheduler.get_last_lr()
            optimizer.step()
            scheduler.step()
        assert rates[:4] == pytest.approx([0.0, 1.0, 2.0, 2.0 / 1.25**0.5])
        assert scheduler.get_last_lr() == [0.0]

    def test_contradictions_and_runs_that_are_too_short(self, optimizer, tmp_path):
        with pytest.raises(ValueError, match="lr_scheduler_type=cosine and schedule=rsqrt contradict each other"):
            create_scheduler(optimizer, arguments(tmp_path, lr_scheduler_type="cosine"), PAPER, 6)
        with pytest.raises(ValueError, match="warmup_steps=6 and cooldown_steps=1 do not fit into 6 training steps"):
            create_scheduler(optimizer, arguments(tmp_path, warmup_steps=6), PAPER, 6)


class PaperTrainer(Trainer):
    """The hooks as a trainer of ours has them."""

    def create_optimizer(self, model=None):
        if self.optimizer is None:
            self.optimizer = create_optimizer(model or self.model, self.args, PAPER)
        return super().create_optimizer(model)

    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.lr_scheduler is None:
            self.lr_scheduler = create_scheduler(optimizer or self.optimizer, self.args, PAPER, num_training_steps)
        return super().create_scheduler(num_training_steps, optimizer)


def test_trainer_resumes_bit_for_bit(tiny_config, tmp_path):
    """Through Trainer and Accelerate: clipping, scheduler, checkpoint with bfloat16 momentum, restart."""
    draw = torch.Generator().manual_seed(0)
    rows = datasets.Dataset.from_dict({"seed": list(range(24))})

    def collate(batch):
        seeds = torch.tensor([row["seed"] for row in batch]).view(-1, 1, 1, 1)
        return {
            "pixel_values": torch.sin(seeds + images),
            "text_pixel_values": torch.cos(seeds * texts),
            "return_loss": True,
        }

    images, texts = torch.rand(1, 3, 64, 64, generator=draw), torch.rand(1, 1, 64, 64, generator=draw)

    def trained(folder, resume=None, **options):
        set_seed(0)
        model = clippo.ClippoModel(tiny_config(num_hidden_layers=1))
        args = arguments(folder, save_strategy="steps", save_steps=3, **options)
        trainer = PaperTrainer(model, args, train_dataset=rows, data_collator=collate)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    whole = trained(tmp_path)
    rates = [entry["learning_rate"] for entry in whole.state.log_history if "learning_rate" in entry]
    assert rates == pytest.approx([1e-3 * m for m in (0.0, 0.5, 1.0, 1.25**-0.5, 1.5**-0.5, 1.75**-0.5)])
    resumed = trained(tmp_path / "resumed", resume=str(tmp_path / "checkpoint-3"))
    for (name, ours), theirs in zip(resumed.model.named_parameters(), whole.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    momenta = [state["momentum"] for state in resumed.optimizer.state.values()]
    assert len(momenta) == len(list(resumed.model.parameters()))
    assert all(momentum.dtype == torch.bfloat16 for momentum in momenta)
