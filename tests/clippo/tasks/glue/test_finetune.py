"""GLUE runs: results, resuming, refused arguments, and a folder that the stock pipeline opens."""

import json

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from transformers import pipeline

import clippo
from clippo.surgery import init_classifier_bias
from clippo.tasks.glue.finetune import (
    GlueArguments,
    GlueTrainingArguments,
    finetune_glue,
    task_arguments,
)
from clippo.tasks.glue.results import markdown_table, summarize
from clippo.training.arguments import parse_recipe

pytest.importorskip("sklearn", reason="needs the extra `evaluation`")
PLAIN = ["red", "green", "blue", "cold", "warm", "fast", "slow", "tall", "small", "round"]
ODD = ["สวัสดี", "مرحبا", "🐈🐕", "", "word " * 1000]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Tiny files of a single-sentence task, a pair task and a regression task, with unusual texts."""
    folder, draw = tmp_path_factory.mktemp("glue"), np.random.default_rng(0)
    for split, count in (("train", 16), ("validation", 8)):
        texts = [" ".join(draw.choice(PLAIN, 2)) for _ in range(count - len(ODD))] + ODD
        pairs = {"sentence1": texts, "sentence2": texts[::-1]}
        tables = {
            "sst2": {"sentence": texts, "label": [i % 2 for i in range(count)]},
            "mrpc": {**pairs, "label": [i % 2 for i in range(count)]},
            "stsb": {**pairs, "label": [i % 6 / 1.0 for i in range(count)]},
        }
        for task, columns in tables.items():
            (folder / task).mkdir(exist_ok=True)
            pd.DataFrame(columns).to_parquet(folder / task / f"{split}.parquet")
    return folder


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def arguments(data, output, model, *options):
    line = [
        "--model", model, "--data_dir", str(data), "--output_dir", str(output), "--use_cpu", "--disable_tqdm", "True",
        "--num_train_epochs", "2", "--per_device_train_batch_size", "8", "--logging_steps", "1", *options,
    ]  # fmt: skip
    return parse_recipe((GlueArguments, GlueTrainingArguments), line)


def test_runs_are_reported_saved_and_not_repeated(save_tiny, data, tmp_path):
    model = save_tiny()
    options = ["--tasks", "mrpc", "--seeds", "0", "1", "--pair_layout", "two_canvas", "--keep_models", "True"]
    options += ["--num_train_epochs", "1"]
    args = arguments(data, tmp_path, model, *options)
    report = finetune_glue(*args)
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(report))
    table = (tmp_path / "results.md").read_text().splitlines()
    assert table[0] == "|  | mrpc (f1) |" and "±" in table[4]
    assert [line.split("|")[1].strip() for line in table[2:4]] == ["majority", "bag of words"]
    entry = report["tasks"]["mrpc"]
    assert len(entry["runs"]) == 2 and entry["rows"] == {"train": 16, "validation": 8}
    assert all(0 <= run[name] <= 1 for run in entry["runs"] for name in ("f1", "accuracy", "data_wait_share"))
    assert json.loads((tmp_path / "mrpc" / "seed-0" / "run.json").read_text())["num_train_epochs"] == 1

    # The saved model has the reported score.
    folder = tmp_path / "mrpc" / "seed-1"
    assert not list(folder.glob("checkpoint-*"))
    rows = pd.read_parquet(data / "mrpc" / "validation.parquet")
    classify = pipeline("text-classification", model=str(folder))
    assert classify.tokenizer.pair_layout == "two_canvas"
    pairs = [{"text": a, "text_pair": b} for a, b in zip(rows.sentence1, rows.sentence2, strict=True)]
    right = [
        answer["label"] == ("equivalent" if label else "not_equivalent")
        for answer, label in zip(classify(pairs, batch_size=4), rows.label, strict=True)
    ]
    assert np.mean(right) == pytest.approx(report["tasks"]["mrpc"]["runs"][1]["accuracy"])

    # A second call repeats no run and returns the same report. Other arguments are refused.
    for checkpoint in tmp_path.glob("*/seed-*/model.safetensors"):
        checkpoint.unlink()
    assert finetune_glue(*args)["tasks"] == report["tasks"]
    with pytest.raises(ValueError, match=r"seed-0 holds a run with another learning_rate \(\[0.0005\], now \[0.1\]\)"):
        finetune_glue(*arguments(data, tmp_path, model, *options, "--learning_rate", "0.1"))


def test_a_seed_is_a_run_and_a_stopped_run_goes_on(save_tiny, data, tmp_path, monkeypatch):
    model = save_tiny()
    options = ["--tasks", "stsb", "--seeds", "3", "--pair_layout", "rows", "--baselines", "False"]
    (whole,) = finetune_glue(*arguments(data, tmp_path / "a", model, *options))["tasks"]["stsb"]["runs"]

    from clippo.training.finetuning import FineTuningTrainer

    def stop(self, *args, **kwargs):
        if self.state.epoch and self.state.epoch > 1:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    step = FineTuningTrainer.training_step
    monkeypatch.setattr(FineTuningTrainer, "training_step", stop)
    with pytest.raises(KeyboardInterrupt):
        finetune_glue(*arguments(data, tmp_path / "b", model, *options))
    monkeypatch.setattr(FineTuningTrainer, "training_step", step)
    (resumed,) = finetune_glue(*arguments(data, tmp_path / "b", model, *options))["tasks"]["stsb"]["runs"]
    assert resumed.keys() == whole.keys() == {"spearmanr", "pearson", "epochs", "data_wait_share", "seconds"}
    for name in ("spearmanr", "pearson"):
        assert -1 <= whole[name] <= 1 and resumed[name] == pytest.approx(whole[name], abs=1e-6)


def test_early_stopping_dropout_and_a_subset_reach_the_run(save_tiny, data, tmp_path):
    options = ["--tasks", "sst2", "--seeds", "0", "--baselines", "False", "--num_train_epochs", "9"]
    options += ["--early_stopping_patience", "2", "--max_train_samples", "8", "--learning_rate", "0"]
    report = finetune_glue(*arguments(data, tmp_path, save_tiny(), *options, "--keep_models", "True"))
    assert report["tasks"]["sst2"]["runs"][0]["epochs"] == 3  # A rate of 0 does not improve the score.
    folder = tmp_path / "sst2" / "seed-0"
    config = clippo.ClippoConfig.from_pretrained(folder)
    assert config.classifier_dropout == 0.1 and config.id2label == {0: "negative", 1: "positive"}
    args = torch.load(folder / "training_args.bin", weights_only=False)
    assert args.metric_for_best_model == "accuracy" and args.num_train_epochs == 9


def test_from_scratch_has_the_shape_and_other_weights(save_tiny, data, tmp_path):
    from clippo.tasks.glue.data import GLUE_TASKS
    from clippo.tasks.glue.finetune import build_classifier

    folder = save_tiny()
    loaded, _ = build_classifier(GlueArguments(model=folder), GLUE_TASKS["mrpc"])
    scratch, tokenizer = build_classifier(
        GlueArguments(model=folder, from_scratch=True, pair_layout="two_canvas"), GLUE_TASKS["mrpc"]
    )
    key = "vision_model.encoder.layers.0.mlp.fc1.weight"
    tower = clippo.ClippoModel.from_pretrained(folder).state_dict()
    assert torch.equal(loaded.state_dict()[key], tower[key]) and not torch.equal(scratch.state_dict()[key], tower[key])
    assert (loaded.config.num_text_canvases, scratch.config.num_text_canvases) == (1, 2)
    assert tokenizer.init_kwargs["pair_layout"] == "two_canvas"


def test_a_frozen_tower_stays_and_the_head_learns(save_tiny, data, tmp_path):
    folder = save_tiny()
    options = ["--tasks", "sst2", "--seeds", "0", "--baselines", "False", "--tower_lr_scale", "0"]
    finetune_glue(*arguments(data, tmp_path, folder, *options, "--keep_models", "True", "--learning_rate", "0.1"))
    trained = clippo.ClippoForSequenceClassification.from_pretrained(tmp_path / "sst2" / "seed-0")
    tower = clippo.ClippoModel.from_pretrained(folder).vision_model.state_dict()
    for name, weight in trained.vision_model.state_dict().items():
        assert torch.equal(weight, tower[name]), name
    assert trained.classifier.weight.abs().max() > 0.1  # five standard deviations of a new head


def test_the_head_starts_at_the_average(tiny_config):
    model = clippo.ClippoForSequenceClassification(tiny_config(num_labels=1))
    init_classifier_bias(model, [1.0, 4.0])
    assert model.classifier.bias.tolist() == [2.5]
    model = clippo.ClippoForSequenceClassification(tiny_config(num_labels=3))
    init_classifier_bias(model, [0, 0, 0, 1])  # One of each class is added to the counts.
    torch.testing.assert_close(model.classifier.bias.softmax(-1).detach(), torch.tensor([4.0, 2.0, 1.0]) / 7)


def test_each_run_has_its_folder_seed_and_metric(tmp_path):
    base = GlueTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert base.num_train_epochs == 3
    sst2 = task_arguments("sst2", base, tmp_path / "x", 7)
    assert sst2.output_dir == str(tmp_path / "x") and sst2.seed == 7 and sst2.metric_for_best_model == "accuracy"
    assert base.output_dir == str(tmp_path)


def test_the_embeddings_share_of_the_rate_is_the_same_for_every_depth(save_tiny, data, tmp_path, monkeypatch):
    from clippo.tasks.glue import finetune as glue

    decays = []
    build = glue.FineTuningTrainer

    def trainer(**options):
        layers = options["model"].config.num_hidden_layers
        decays.append(options["layer_decay"] ** (layers + 1))
        return build(**options)

    monkeypatch.setattr(glue, "FineTuningTrainer", trainer)
    options = ["--tasks", "sst2", "--seeds", "0", "--max_steps", "1", "--baselines", "False"]
    for i, layers in enumerate((1, 3)):
        finetune_glue(*arguments(data, tmp_path / str(i), save_tiny(num_hidden_layers=layers), *options))
    finetune_glue(
        *arguments(data, tmp_path / "given", save_tiny(num_hidden_layers=1), *options, "--layer_decay", "0.5")
    )
    assert decays == pytest.approx([1 / 32, 1 / 32, 0.25])


def test_a_fine_tuned_model_leaves_its_head_behind(save_tiny, data, tmp_path):
    options = ["--max_steps", "1", "--baselines", "False", "--seeds", "0", "--learning_rate", "1e-9"]
    folder = tmp_path / "before"
    torch.manual_seed(0)
    finetune_glue(*arguments(data, folder, save_tiny(), *options, "--tasks", "sst2", "--keep_models", "True"))
    old = folder / "sst2" / "seed-0"
    before = clippo.ClippoForSequenceClassification.from_pretrained(old)
    for i, more in enumerate((["sst2"], ["stsb"], ["mrpc", "--pair_layout", "two_canvas"])):
        after = tmp_path / str(i)
        finetune_glue(*arguments(data, after, str(old), *options, "--keep_models", "True", "--tasks", *more))
        trained = clippo.ClippoForSequenceClassification.from_pretrained(after / more[0] / "seed-0")
        tower = "vision_model.head.probe"
        torch.testing.assert_close(trained.get_parameter(tower), before.get_parameter(tower), rtol=0, atol=1e-5)
        if more == ["sst2"]:
            assert (trained.classifier.weight - before.classifier.weight).abs().max() > 1e-3


def test_joint_blocks_read_pairs_and_start_as_the_last_ones(save_tiny, data, tmp_path):
    options = ["--max_steps", "1", "--baselines", "False", "--seeds", "0", "--learning_rate", "1e-9"]
    options += ["--keep_models", "True", "--pair_layout", "two_canvas"]
    model, pairs = save_tiny(), ["--tasks", "mrpc"]
    finetune_glue(*arguments(data, tmp_path / "a", model, *options, *pairs, "--num_fusion_layers", "1"))
    folder = tmp_path / "a" / "mrpc" / "seed-0"
    trained = clippo.ClippoForSequenceClassification.from_pretrained(folder)
    assert (trained.config.num_fusion_layers, trained.config.num_text_canvases) == (1, 2)
    assert trained.classifier.in_features == trained.config.hidden_size
    tower = clippo.ClippoModel.from_pretrained(model).state_dict()
    last = f"encoder.layers.{trained.config.num_hidden_layers - 1}.mlp.fc1.weight"
    for name, source in ((f"vision_model.{last}", last), ("fusion.encoder.layers.0.mlp.fc1.weight", last)):
        expected = tower[f"vision_model.{source}"]
        torch.testing.assert_close(trained.get_parameter(name).detach(), expected, rtol=0, atol=1e-5)

    # Its folder continues with its blocks, and without them on single texts.
    finetune_glue(*arguments(data, tmp_path / "b", str(folder), *options, *pairs))
    assert json.loads((tmp_path / "b" / "mrpc" / "seed-0" / "config.json").read_text())["num_fusion_layers"] == 1
    with pytest.raises(ValueError, match="num_fusion_layers=1 reads the two canvases of a pair; pass --pair_layout"):
        finetune_glue(*arguments(data, tmp_path / "c", str(folder), *options, "--tasks", "sst2"))
    single = ["--tasks", "sst2", "--num_fusion_layers", "0"]
    finetune_glue(*arguments(data, tmp_path / "d", str(folder), *options, *single))
    assert clippo.ClippoConfig.from_pretrained(tmp_path / "d" / "sst2" / "seed-0").num_fusion_layers == 0


def test_batches_can_be_of_texts_of_one_length(save_tiny, data, tmp_path, monkeypatch):
    from clippo.tasks.glue import finetune as glue

    trainers = []
    build = glue.FineTuningTrainer
    monkeypatch.setattr(glue, "FineTuningTrainer", lambda **options: trainers.append(build(**options)) or trainers[-1])
    options = ["--tasks", "mrpc", "--seeds", "0", "--max_steps", "1", "--baselines", "False"]
    options += ["--train_sampling_strategy", "group_by_length"]
    finetune_glue(*arguments(data, tmp_path, save_tiny(), *options))
    sampler = trainers[0]._get_train_sampler()
    assert type(sampler).__name__ == "LengthGroupedSampler"
    rows = pd.read_parquet(data / "mrpc" / "train.parquet")
    assert list(sampler.lengths) == [len(a) + len(b) for a, b in zip(rows.sentence1, rows.sentence2, strict=True)]


def test_a_diverged_run_is_no_score(save_tiny, data, tmp_path):
    options = ["--tasks", "stsb", "--learning_rate", "1e30", "--optim", "sgd", "--max_grad_norm", "0", "--seeds", "0"]
    with pytest.raises(FloatingPointError, match=r"is (nan|inf) in step|contain NaN"):
        finetune_glue(*arguments(data, tmp_path, save_tiny(), *options, "--baselines", "False", "--warmup_steps", "0"))
    assert not list(tmp_path.rglob("scores.json"))


def test_summary_and_table():
    runs = [{"f1": 0.8, "accuracy": 0.7}, {"f1": 0.6, "accuracy": 0.7}]
    assert summarize(runs)["f1"] == {"mean": pytest.approx(0.7), "sd": pytest.approx(0.2 / 2**0.5)}
    entry = {"scores": summarize(runs), "seeds": [0, 1]}
    assert "| ours | 70.0 ± 14.1 |" in markdown_table({"label": "ours", "tasks": {"mrpc": entry}})


def test_wrong_names_and_missing_data_are_said_before_any_training(save_tiny, data, tmp_path):
    model = save_tiny()
    with pytest.raises(ValueError, match="'mprc' is not a GLUE task"):
        finetune_glue(*arguments(data, tmp_path, model, "--tasks", "mprc"))
    with pytest.raises(FileNotFoundError, match="rte; put a"):
        finetune_glue(*arguments(data, tmp_path, model, "--tasks", "mrpc", "rte"))
    assert not list(tmp_path.glob("mrpc*"))
    with pytest.raises(ValueError, match="pair_layout='colums'"):
        finetune_glue(*arguments(data, tmp_path, model, "--tasks", "sst2", "mrpc", "--pair_layout", "colums"))
    with pytest.raises(ValueError, match="model is missing; pass --model"):
        finetune_glue(GlueArguments(tasks=["sst2"]), GlueTrainingArguments(output_dir=str(tmp_path), use_cpu=True))
