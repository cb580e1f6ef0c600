"""Optimizer and schedule of a run: arguments, decay groups, contradictions, formula, a run of Trainer."""

import math

import datasets
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
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
    rsqrt_schedule,
    rsqrt_scheduler,
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
    """Trainer with the hooks of `ContrastiveTrainer`."""

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


def test_values_by_hand():
    """Warm-up 2 and timescale 4 are those of the official five steps (tests/goldens/tiny_train5.npz)."""
    schedule = rsqrt_schedule(100, timescale=4, warmup_steps=2)
    expected = [0.0, 0.5, 1.0, 1 / math.sqrt(1.25), 1 / math.sqrt(1.5), 1 / math.sqrt(1.75), 1 / math.sqrt(2)]
    assert [schedule(step) for step in range(7)] == pytest.approx(expected, rel=1e-12)


def test_the_cool_down_multiplies_the_decay():
    plain, cooled = rsqrt_schedule(10, timescale=3), rsqrt_schedule(10, timescale=3, cooldown_steps=4)
    shares = [cooled(step) / plain(step) for step in range(12)]
    assert shares == pytest.approx([1.0] * 7 + [0.75, 0.5, 0.25, 0.0, 0.0])


def test_the_full_recipe():
    schedule = rsqrt_schedule(100_000, 10_000, 10_000, 10_000)
    assert (schedule(0), schedule(5_000), schedule(10_000)) == (0.0, 0.5, 1.0)
    assert schedule(40_000) == pytest.approx(0.5)  # three timescales after the warm-up
    assert schedule(90_000) == pytest.approx(1 / 3)
    assert schedule(95_000) == pytest.approx(0.5 / math.sqrt(9.5))
    assert schedule(100_000) == 0.0


@given(
    warmup=st.integers(0, 50), cooldown=st.integers(0, 50), between=st.integers(1, 50), timescale=st.integers(1, 100)
)
def test_it_rises_and_then_falls(warmup, cooldown, between, timescale):
    total = warmup + between + cooldown
    schedule = rsqrt_schedule(total, timescale, warmup, cooldown)
    values = [schedule(step) for step in range(total + 1)]
    assert values[warmup] == max(values) == 1.0
    assert values[: warmup + 1] == sorted(values[: warmup + 1])
    assert values[warmup:] == sorted(values[warmup:], reverse=True)
    assert min(values) >= 0.0


def test_the_scheduler_scales_every_group_and_goes_on_after_a_restart():
    parameters = [nn.Parameter(torch.ones(1)) for _ in range(2)]
    groups = [{"params": parameters[:1], "lr": 2.0}, {"params": parameters[1:], "lr": 1.0}]

    def advance(scheduler, steps):
        rates = []
        for _ in range(steps):
            rates.append([group["lr"] for group in scheduler.optimizer.param_groups])
            scheduler.optimizer.step()
            scheduler.step()
        return rates

    def new():
        return rsqrt_scheduler(torch.optim.SGD([dict(group) for group in groups]), 8, 2, 2, 2)

    whole = advance(new(), 8)
    formula = rsqrt_schedule(8, 2, 2, 2)
    assert whole == [[2.0 * formula(step), formula(step)] for step in range(8)]
    first, second = new(), new()
    begun = advance(first, 3)
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    assert begun + advance(second, 5) == whole


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (dict(total_steps=0), "total_steps=0 must be at least 1"),
        (dict(total_steps=9, timescale=0), "rsqrt_timescale=0 must be positive"),
        (dict(total_steps=9, warmup_steps=-1), "warmup_steps=-1 and cooldown_steps=0 must not be negative"),
        (dict(total_steps=9, warmup_steps=5, cooldown_steps=5), "cooldown_steps=5 do not fit into 9 training steps"),
        (dict(total_steps=9, warmup_steps=9), "warmup_steps=9 leaves none of the 9 training steps"),
    ],
)
def test_numbers_that_make_no_schedule(numbers, message):
    with pytest.raises(ValueError, match=message):
        rsqrt_schedule(**numbers)
