"""Layer-wise rates, the clock on data, and losses that do not depend on how a batch is divided."""

import json
import os
import subprocess
import sys
import time

import pytest
import torch
from transformers import TrainingArguments, set_seed

import clippo
from clippo.tasks.glue.data import TextClassificationCollator
from clippo.training.finetuning import FineTuningTrainer, depth_of

from ...conftest import ROOT

ROWS = [
    {"text": f"{a} {b}", "text_pair": f"{b} {a}", "label": (a * 7 + b) % 11 / 2} for a in range(4) for b in range(4)
]


def arguments(folder, **options):
    defaults = dict(
        output_dir=str(folder), use_cpu=True, report_to=[], logging_steps=1, save_strategy="no", disable_tqdm=True,
        learning_rate=0.1, lr_scheduler_type="constant", optim="sgd", max_grad_norm=0.0, remove_unused_columns=False,
        per_device_train_batch_size=8, max_steps=2,
    )  # fmt: skip
    return TrainingArguments(**{**defaults, **options})


def trainer(config, folder, collator=None, layer_decay=1.0, rows=ROWS, tower_lr_scale=1.0, dropout=0.0, **options):
    set_seed(0)
    fields = dict(num_labels=1, num_text_canvases=2, num_hidden_layers=2, attention_dropout=dropout)
    model = clippo.ClippoForSequenceClassification(config(**fields))
    tokenizer = clippo.ClippoTokenizer(canvas_size=64, pair_layout="two_canvas")
    return FineTuningTrainer(
        model, arguments(folder, **options), data_collator=collator or TextClassificationCollator(tokenizer),
        train_dataset=rows, eval_dataset=rows, layer_decay=layer_decay, tower_lr_scale=tower_lr_scale,
    )  # fmt: skip


def losses_of(trained) -> list[float]:
    return [entry["loss"] for entry in trained.state.log_history if "loss" in entry]


def test_depths():
    names = {
        "vision_model.embeddings.position_embedding": 0,
        "vision_model.encoder.layers.0.self_attn.q_proj.weight": 1,
        "_orig_mod.module.vision_model.encoder.layers.11.mlp.fc1.bias": 12,
        "vision_model.post_layernorm.weight": 13,
        "vision_model.head.probe": 13,
        "classifier.weight": 13,
    }
    assert {name: depth_of(name, 12) for name in names} == names


def test_every_layer_has_its_rate_and_decay_keeps_to_kernels(tiny_config, tmp_path):
    trained = trainer(tiny_config, tmp_path, layer_decay=0.5, optim="adamw_torch", weight_decay=0.1)
    optimizer = trained.create_optimizer()
    rate = {id(p): (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for p in group["params"]}
    assert len(rate) == len(list(trained.model.parameters()))
    for name, parameter in trained.model.named_parameters():
        lr, decay = rate[id(parameter)]
        assert lr == pytest.approx(0.1 * 0.5 ** (3 - depth_of(name, 2))), name
        assert decay == (0.1 if name.endswith(".weight") and parameter.ndim >= 2 else 0.0), name


def test_lower_layers_move_less_and_schedules_keep_the_ratio(tiny_config, tmp_path):
    moved = {}
    for decay in (1.0, 0.1):
        trained = trainer(tiny_config, tmp_path, layer_decay=decay, max_steps=1, learning_rate=0.01)
        before = {name: p.detach().clone() for name, p in trained.model.named_parameters()}
        trained.train()
        moved[decay] = {name: (p.detach() - before[name]).norm() for name, p in trained.model.named_parameters()}
    for name in ("vision_model.embeddings.patch_embedding.weight", "classifier.weight"):
        ratio = (moved[0.1][name] / moved[1.0][name]).item()
        assert ratio == pytest.approx(0.1 ** (3 - depth_of(name, 2)), rel=1e-2)
    with pytest.raises(ValueError, match=r"layer_decay=0 is not a factor in \(0, 1\]"):
        trainer(tiny_config, tmp_path, layer_decay=0)


def test_the_tower_has_its_own_rate(tiny_config, tmp_path):
    trained = trainer(tiny_config, tmp_path, layer_decay=0.5, tower_lr_scale=0.1)
    rate = {id(p): group["lr"] for group in trained.create_optimizer().param_groups for p in group["params"]}
    for name, parameter in trained.model.named_parameters():
        factor = 0.1 if name.startswith("vision_model.") else 1
        assert rate[id(parameter)] == pytest.approx(0.1 * factor * 0.5 ** (3 - depth_of(name, 2))), name
    with pytest.raises(ValueError, match="tower_lr_scale=2 is not a factor from 0 to 1"):
        trainer(tiny_config, tmp_path, tower_lr_scale=2)


def test_a_frozen_tower_has_no_gradient_and_no_dropout(tiny_config, tmp_path):
    trained = trainer(tiny_config, tmp_path, tower_lr_scale=0, dropout=0.5)
    before = {name: p.detach().clone() for name, p in trained.model.named_parameters()}
    trained.train()
    assert trained.model.training and not trained.model.vision_model.training
    for name, parameter in trained.model.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("vision_model."), name
        assert parameter.requires_grad != name.startswith("vision_model."), name
    pixels = clippo.ClippoTokenizer(canvas_size=64, pair_layout="two_canvas")(["a"], ["b"], return_tensors="pt")
    trained.model.train()
    assert torch.equal(trained.model(**pixels).logits, trained.model(**pixels).logits)
    trained.model.vision_model.requires_grad_(True)
    trained.model.train()
    assert not torch.equal(trained.model(**pixels).logits, trained.model(**pixels).logits)


def test_the_wait_for_data_is_counted(tiny_config, tmp_path):
    tokenizer = clippo.ClippoTokenizer(canvas_size=64, pair_layout="two_canvas")
    quick = TextClassificationCollator(tokenizer)

    def slow(rows):
        time.sleep(0.3)
        return quick(rows)

    waiting, brisk = trainer(tiny_config, tmp_path, slow), trainer(tiny_config, tmp_path, quick)
    share = waiting.train().metrics["data_wait_share"]
    assert waiting.data_wait > 2 * 0.3  # two batches
    assert brisk.train().metrics["data_wait_share"] < share < 1
    assert {"data_wait_share": share}.items() <= waiting.state.log_history[-1].items()


def test_regression_does_not_depend_on_accumulation(tiny_config, tmp_path):
    runs = []
    for batch, accumulation in ((8, 1), (2, 4)):
        options = dict(per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
        trained = trainer(tiny_config, tmp_path, **options)
        trained.train()
        runs.append((losses_of(trained), {name: p.detach() for name, p in trained.model.named_parameters()}))
    assert runs[0][0] == pytest.approx(runs[1][0], rel=1e-3)
    torch.testing.assert_close(runs[0][1], runs[1][1], atol=1e-5, rtol=1e-3)


# STS-B's shape: pairs and a real number; prints the logged losses and the trained model's checksum.
PROGRAM = """
import json, sys, torch
import clippo
from transformers import TrainingArguments, set_seed
from clippo.tasks.glue.data import TextClassificationCollator
from clippo.training.finetuning import FineTuningTrainer

folder, batch = sys.argv[1], int(sys.argv[2])
rows = json.loads(sys.argv[3])
set_seed(0)
model = clippo.ClippoForSequenceClassification(clippo.ClippoConfig(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, projection_dim=24, image_size=64,
    num_labels=1, num_text_canvases=2))
tokenizer = clippo.ClippoTokenizer(canvas_size=64, pair_layout="two_canvas")
args = TrainingArguments(
    output_dir=folder, use_cpu=True, report_to=[], logging_steps=1, save_strategy="no", disable_tqdm=True,
    learning_rate=0.1, lr_scheduler_type="constant", optim="sgd", max_grad_norm=0.0, remove_unused_columns=False,
    per_device_train_batch_size=batch, max_steps=2)
trainer = FineTuningTrainer(model, args, data_collator=TextClassificationCollator(tokenizer), train_dataset=rows)
trainer.train()
if args.process_index == 0:
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    total = sum(p.detach().double().abs().sum().item() for p in model.parameters())
    open(folder + "/answer.json", "w").write(json.dumps([losses, total]))
if torch.distributed.is_initialized():
    torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_regression_does_not_depend_on_the_number_of_processes(tmp_path):
    answers = []
    for processes, batch in ((1, 8), (2, 4)):
        folder = tmp_path / str(processes)
        folder.mkdir()
        program = folder / "program.py"
        program.write_text(PROGRAM)
        launch = [sys.executable]
        if processes > 1:
            launch += ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
        command = [*launch, str(program), str(folder), str(batch), json.dumps(ROWS)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
        answers.append(json.loads((folder / "answer.json").read_text()))  # some ranks abort after all work is done
    (one, total), (two, other) = answers
    assert two == pytest.approx(one, rel=1e-3) and other == pytest.approx(total, rel=1e-6)
