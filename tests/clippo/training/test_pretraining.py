"""Pretraining in miniature: recipe to checkpoint, resumed runs, meters, refused arguments."""

import json
import math
import shutil

import datasets
import pytest
import torch
from PIL import Image
from transformers import Trainer
from transformers.trainer_utils import get_last_checkpoint

from clippo import ClippoConfig, ClippoModel, ClippoProcessor
from clippo.training.arguments import DataArguments, ModelArguments, ResumeArguments, StepArguments
from clippo.training.checkpoints import ChangedRunError
from clippo.training.pretraining import build_data, build_model, main, pretrain
from clippo.training.run_lock import RunInProgressError, run_lock
from clippo.training.trainer import ContrastiveTrainer

from ..pretraining_miniature import MODEL, arguments, emoji_data, losses, train


@pytest.fixture(scope="module")
def whole_run(emoji_folder, tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("whole")
    return train(emoji_folder, output_dir), output_dir


def test_the_loss_falls(whole_run):
    trainer, _ = whole_run
    first, *_, last = losses(trainer)
    assert last < first / 1.5


def test_meters_and_metrics_are_logged(whole_run):
    trainer, output_dir = whole_run
    train_logs = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert all(entry["logit_scale"] > 1 and math.isfinite(entry["grad_norm"]) for entry in train_logs)
    assert all(entry["pairs_per_second"] > 0 for entry in train_logs[1:])
    metrics = json.loads((output_dir / "eval_results.json").read_text())
    assert 0 <= metrics["eval_text_to_image_R@1"] <= metrics["eval_text_to_image_R@5"] <= 1
    assert "eval_image_to_text_R@10" in metrics and math.isfinite(metrics["eval_loss"])


def test_evaluation_counts_every_pair(whole_run):
    trainer, _ = whole_run
    assert len(trainer.eval_dataset) % 16  # the last batch is not full
    prediction = trainer.evaluation_loop(trainer.get_eval_dataloader(), description="all")
    assert [len(embeddings) for embeddings in prediction.predictions] == [len(trainer.eval_dataset)] * 2
    assert trainer.args.dataloader_drop_last


def test_the_output_folder_is_a_checkpoint_for_everybody(whole_run):
    trainer, output_dir = whole_run
    model = ClippoModel.from_pretrained(output_dir)
    processor = ClippoProcessor.from_pretrained(output_dir)
    inputs = processor(text=["hello"], return_tensors="pt")
    with torch.no_grad():
        expected = trainer.model.eval().get_text_features(**inputs).pooler_output
        torch.testing.assert_close(model.get_text_features(**inputs).pooler_output, expected)
    assert (output_dir / "README.md").exists()


def test_a_killed_run_goes_on_bit_by_bit(whole_run, emoji_folder, tmp_path, monkeypatch):
    """A run that is killed in the middle of an epoch and resumed equals the uninterrupted one, images included."""

    class Killed(Exception):
        pass

    trained, training_step = [], ContrastiveTrainer.training_step

    def killed_at_step_4(self, *args, **kwargs):
        if self.state.global_step == 4:
            raise Killed
        return training_step(self, *args, **kwargs)

    def counted(self, *args, **kwargs):
        trained.append(self.state.global_step)
        return training_step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ContrastiveTrainer, "training_step", killed_at_step_4)
        with pytest.raises(Killed):
            train(emoji_folder, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(ContrastiveTrainer, "training_step", counted)
        resumed = train(emoji_folder, tmp_path)
    assert trained == [3, 4, 5]
    whole = whole_run[0]
    assert len(whole.get_train_dataloader()) == 2, "the checkpoint of step 3 lies in the middle of the second epoch"
    assert losses(resumed) == losses(whole)
    for (name, one), (_, other) in zip(whole.model.named_parameters(), resumed.model.named_parameters(), strict=True):
        assert torch.equal(one, other), name


def test_a_run_with_other_inputs_is_refused(emoji_folder, tmp_path):
    train(emoji_folder, tmp_path, max_steps=3)
    other = DataArguments(sources=emoji_data(emoji_folder).sources, texts_per_image=2)
    with pytest.raises(ChangedRunError, match=r"settings\.seed was 1, is now 2; settings\.data\.texts_per_image was 1"):
        pretrain(MODEL, other, arguments(tmp_path, seed=2))
    resumed = pretrain(MODEL, emoji_data(emoji_folder), arguments(tmp_path, seed=2), resume_args=ResumeArguments(True))
    assert resumed.state.global_step == 6


def test_two_runs_in_one_folder(emoji_folder, tmp_path):
    with run_lock(arguments(tmp_path)), pytest.raises(RunInProgressError, match="choose another output_dir"):
        train(emoji_folder, tmp_path)


def test_a_failed_evaluation_or_figure_does_not_cost_the_model(emoji_folder, tmp_path, monkeypatch):
    def fails(*args, **kwargs):
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr("clippo.training.pretraining.draw_curves", fails)
        train(emoji_folder, tmp_path / "figure", max_steps=1, eval_strategy="no")
    with monkeypatch.context() as patch:
        patch.setattr(ContrastiveTrainer, "evaluate", fails)
        with pytest.raises(MemoryError):
            train(emoji_folder, tmp_path / "evaluation", max_steps=1, eval_strategy="no")
    for name in ("figure", "evaluation"):
        assert (tmp_path / name / "trainer_state.json").is_file()
        ClippoModel.from_pretrained(tmp_path / name)


def test_micro_batches_are_the_same_run(emoji_folder, tmp_path):
    """A run with GradCache has the losses of the one-pass run, to rounding."""
    # Plain gradient descent: Adam divides by the size of a gradient, the noise of those that should be zero included.
    runs = [
        pretrain(
            MODEL,
            emoji_data(emoji_folder),
            arguments(tmp_path / str(size), max_steps=4, optim="sgd", learning_rate=0.1),
            StepArguments(micro_batch_size=size),
        )
        for size in (None, 5)
    ]
    assert losses(runs[1]) == pytest.approx(losses(runs[0]), rel=1e-5)
    assert losses(runs[0])[3] < losses(runs[0])[0]


def test_a_loss_that_is_no_number_stops_the_run(emoji_folder, tmp_path, monkeypatch):
    compute_loss = Trainer.compute_loss

    def spoilt(self, *args, **kwargs):
        loss, outputs = compute_loss(self, *args, **kwargs)
        return (loss * math.nan if self.state.global_step == 4 else loss), outputs

    monkeypatch.setattr(Trainer, "compute_loss", spoilt)
    with pytest.raises(FloatingPointError, match=r"The loss is nan in step 5; the run stops before this step"):
        train(emoji_folder, tmp_path)
    assert get_last_checkpoint(str(tmp_path)).endswith("checkpoint-3")
    model = ClippoModel.from_pretrained(tmp_path / "checkpoint-3")
    assert all(parameter.isfinite().all() for parameter in model.parameters())


def test_weights_that_are_no_numbers_are_not_saved(whole_run, tmp_path):
    trainer, _ = whole_run
    parameter = trainer.model.projection.bias
    before = parameter.detach().clone()
    try:
        parameter.data[0] = math.inf
        with pytest.raises(FloatingPointError, match=r"projection\.bias is not finite after step 6"):
            trainer.save_model(str(tmp_path / "bad"))
    finally:
        parameter.data.copy_(before)
    assert not (tmp_path / "bad").exists()


def test_accumulation_is_said_to_be_no_larger_batch(emoji_folder, tmp_path, caplog):
    train(emoji_folder, tmp_path, max_steps=1, gradient_accumulation_steps=2)
    assert "no pair sees more negatives" in caplog.text and "micro_batch_size" in caplog.text


@pytest.mark.parametrize("streaming", [False, True])
def test_a_mixture_with_broken_pictures(spoilt_photos, tmp_path, streaming, monkeypatch):
    # Newer releases of datasets sleep after every pass over streamed parquet.
    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    photos, book = spoilt_photos
    sources = [{**photos, "weight": 0.75, "streaming": streaming}, {**book, "weight": 0.25, "streaming": streaming}]
    options = dict(eval_strategy="no", per_device_train_batch_size=8, save_steps=4, max_steps=8)
    data = DataArguments(sources=sources, max_skipped=0.5, flip=True, randaugment=[1, 5])
    trainer = pretrain(MODEL, data, arguments(tmp_path / "run", **options))
    last = [entry for entry in trainer.state.log_history if "loss" in entry][-1]
    assert last["skipped"] >= 8 and {"image_text_loss", "text_text_loss", "data_wait", "in_batch_R@1"} <= set(last)
    assert trainer.skipped_rows.used == 64

    # The count is part of a checkpoint and continues after a restart.
    state = json.loads((tmp_path / "run" / "checkpoint-4" / "trainer_state.json").read_text())
    at_step_4 = state["stateful_callbacks"]["SkippedRows"]["attributes"]
    assert at_step_4["used"] == 32 and 0 < at_step_4["skipped"] < last["skipped"]
    shutil.rmtree(tmp_path / "run" / "checkpoint-8")
    resumed = pretrain(MODEL, data, arguments(tmp_path / "run", **options))
    assert losses(resumed) == losses(trainer)
    assert resumed.skipped_rows.attributes == trainer.skipped_rows.attributes

    with pytest.raises(RuntimeError, match=r"rows could not be used, more than max_skipped=0\.01"):
        pretrain(
            MODEL,
            DataArguments(sources=sources, max_skipped=0.01),
            arguments(tmp_path / "b", **{**options, "max_steps": 60}),
        )


def test_the_curves_are_drawn(whole_run):
    pytest.importorskip("matplotlib", reason="needs the extra `plot`")
    with Image.open(whole_run[1] / "training.png") as picture:
        assert picture.width > 1000


def test_going_on_from_a_checkpoint(whole_run, emoji_folder, tmp_path):
    _, output_dir = whole_run
    again = pretrain(
        ModelArguments(init_from=str(output_dir)),
        emoji_data(emoji_folder),
        arguments(tmp_path, max_steps=1),
    )
    assert again.model.config.hidden_size == 32
    assert losses(again)[0] < losses(whole_run[0])[0]


def test_only_kernels_decay():
    model = ClippoModel(ClippoConfig.from_preset(MODEL.preset, **MODEL.config_overrides))
    decayed = set(ContrastiveTrainer.get_decay_parameter_names(None, model))
    spared = {name for name, _ in model.named_parameters()} - decayed
    assert all(
        name.endswith(("_proj.weight", "fc1.weight", "fc2.weight"))
        for name in decayed
        - {
            "vision_model.embeddings.patch_embedding.weight",
            "projection.weight",
        }
    )
    assert {"logit_scale", "vision_model.head.probe", "vision_model.embeddings.position_embedding"} <= spared
    assert all(
        "norm" in name or name.endswith("bias")
        for name in spared
        - {
            "logit_scale",
            "vision_model.head.probe",
            "vision_model.embeddings.position_embedding",
        }
    )


def test_a_batch_that_the_data_cannot_fill(emoji_folder, tmp_path):
    with pytest.raises(ValueError, match="a batch takes 999 of them on each of 1 processes"):
        train(emoji_folder, tmp_path, per_device_train_batch_size=999)


def test_what_the_weights_that_are_gone_on_from_fix(whole_run):
    folder = str(whole_run[1])
    with pytest.raises(ValueError, match=f"cannot replace the font of {folder}"):
        build_model(ModelArguments(init_from=folder, font="other.ttf"))
    with pytest.raises(
        ValueError, match=r"config_overrides sets hidden_size=64 .*, which the weights of .* fix; only image_size"
    ):
        build_model(ModelArguments(init_from=folder, config_overrides={"hidden_size": 64}))


def test_a_larger_canvas_for_a_trained_model(whole_run, tmp_path):
    folder = str(whole_run[1])
    model, processor = build_model(ModelArguments(init_from=folder, config_overrides={"image_size": 64}))
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    model, processor = ClippoModel.from_pretrained(tmp_path), ClippoProcessor.from_pretrained(tmp_path)
    inputs = processor(images=Image.new("RGB", (9, 9)), text=["hello"], return_tensors="pt")
    assert inputs["pixel_values"].shape[-1] == 64 and model.config.image_size == 64
    with torch.no_grad():
        assert model(**inputs).logits_per_image.shape == (1, 1)


def test_a_model_of_text_goes_on_with_pictures(tmp_path):
    size = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32)
    grey = ClippoModel(ClippoConfig(**size, num_channels=1)).eval()
    grey.save_pretrained(tmp_path)
    ClippoProcessor.from_size(32, canvas_format="packed").save_pretrained(tmp_path)
    colour, processor = build_model(ModelArguments(init_from=str(tmp_path), config_overrides={"num_channels": 3}))
    text = processor(text=["hello"], return_tensors="pt")
    with torch.no_grad():
        before, after = (model.eval().get_text_features(**text).pooler_output for model in (grey, colour))
        seen = colour.get_image_features(**processor(images=Image.new("RGB", (9, 9), "red"), return_tensors="pt"))
    torch.testing.assert_close(after, before)
    assert seen.pooler_output.shape == before.shape and colour.config.num_channels == 3


def test_an_unknown_data_set(emoji_folder, tmp_path):
    processor = ClippoProcessor.from_size(32)
    pictograms, missing = (
        {"kind": "emoji", "path": str(emoji_folder)},
        {"path": f"{tmp_path}/*.parquet", "caption_columns": "c"},
    )

    def build(**data):
        return build_data(DataArguments(**data), processor, arguments(tmp_path))

    with pytest.raises(ValueError, match="There are no sources to train on"):
        build()
    with pytest.raises(FileNotFoundError, match=r"no file matches .*\*.parquet"):
        build(sources=[missing])
    with pytest.raises(ValueError, match="The emoji data set is trained on alone"):
        build(sources=[pictograms, missing])
    with pytest.raises(ValueError, match="leave out validation"):
        build(sources=[pictograms], validation=missing)
    with pytest.raises(ValueError, match="has unknown keys anker; a source knows path, kind"):
        build(sources=[{**pictograms, "anker": "en"}])


def test_overrides_that_the_initial_model_has_already(whole_run):
    """A recipe's own config_overrides meets --init_from: equal values are accepted, all others named in one error."""
    folder = str(whole_run[1])
    model, processor = build_model(ModelArguments(init_from=folder, config_overrides=MODEL.config_overrides))
    saved = ClippoModel.from_pretrained(folder)
    assert model.config.image_size == saved.config.image_size == processor.image_processor.size["height"]
    for (name, ours), (_, theirs) in zip(model.named_parameters(), saved.named_parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    overrides = {**MODEL.config_overrides, "hidden_size": 64, "projection_dim": 8, "hidden_sise": 32}
    with pytest.raises(
        ValueError, match=r"hidden_size=64 \(the model has 32\), projection_dim=8 \(the model has 16\), hidden_sise=32"
    ):
        build_model(ModelArguments(init_from=folder, config_overrides=overrides))


def test_the_recipe_of_the_emoji_model_goes_on_from_its_first_stage(emoji_folder, tmp_path):
    """`clippo pretrain emoji_twelve --init_from runs/emoji_en`, as documented, on a miniature of the data."""
    sources = json.dumps([{"kind": "emoji", "path": str(emoji_folder)}])
    line = ["--sources", sources, "--max_steps", "1", "--bf16", "false"]
    line += ["--per_device_train_batch_size", "4"]
    main(["emoji_english", *line, "--output_dir", str(tmp_path / "en")])
    main(["emoji_twelve", *line, "--init_from", str(tmp_path / "en"), "--output_dir", str(tmp_path / "all")])
    assert ClippoModel.from_pretrained(tmp_path / "all").config.hidden_size == 256
    with pytest.raises(SystemExit, match="clippo pretrain RECIPE"):
        main([])
    with pytest.raises(SystemExit, match="error: 'emojy' is neither a file nor a shipped recipe"):
        main(["emojy"])


def test_a_trained_model_grows_into_a_split_one(whole_run):
    """config_overrides beside init_from add norms of each modality, or experts with their losses."""
    folder = str(whole_run[1])
    fields = {"num_experts": 2, "router_importance_coef": 0.1, "router_min_text_experts": 2, "modality_norms": True}
    model, _ = build_model(ModelArguments(init_from=folder, config_overrides={**fields, "expert_layers": [0]}))
    saved = ClippoModel.from_pretrained(folder)
    grown, dense = model.vision_model.encoder.layers[0], saved.vision_model.encoder.layers[0]
    assert torch.equal(grown.mlp.experts.up_proj[1], dense.mlp.fc1.weight)
    assert torch.equal(grown.layer_norm1["text"].weight, dense.layer_norm1.weight)
    assert {name: getattr(model.config, name) for name in fields} == fields
