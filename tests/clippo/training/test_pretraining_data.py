"""Training data on their way: order of saving and evaluating, views on the device, growing languages, crops."""

import math
import shutil

import pytest

from clippo.training.arguments import DataArguments, ModelArguments
from clippo.training.pretraining import build_model, pretrain
from clippo.training.trainer import ContrastiveTrainer

from ..pretraining_miniature import MODEL, arguments, losses, train


@pytest.mark.parametrize("eval_strategy", ["steps", "epoch"])
def test_nothing_stands_between_the_last_step_and_the_saved_model(emoji_folder, tmp_path, monkeypatch, eval_strategy):
    """Evaluations on the way are made; the one of the last step finds checkpoint and model saved."""
    saved, evaluate = [], ContrastiveTrainer.evaluate

    def watched(self, *args, **kwargs):
        names = ("model.safetensors", "checkpoint-4/model.safetensors")
        saved.append((self.state.global_step, [(tmp_path / name).is_file() for name in names]))
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(ContrastiveTrainer, "evaluate", watched)
    trainer = train(emoji_folder, tmp_path, max_steps=4, save_steps=4, eval_steps=2, eval_strategy=eval_strategy)
    assert saved == [(2, [False, False]), (4, [True, True])]
    logged = [entry["step"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert logged == [2, 4]


def test_views_of_the_device_are_those_of_the_workers(emoji_folder, tmp_path):
    """Languages that join on the way, and a kill between two steps, included."""
    source = {"kind": "emoji", "path": str(emoji_folder), "anchor": "en", "grow": [1, 3]}
    runs = []
    for on_device in (False, True):
        data = DataArguments(sources=[source], texts_per_image=2, augment_on_device=on_device)
        runs.append(pretrain(MODEL, data, arguments(tmp_path / str(on_device), eval_strategy="no")))
    assert losses(runs[0]) == losses(runs[1])
    shutil.rmtree(tmp_path / "True" / "checkpoint-6")
    again = pretrain(MODEL, data, arguments(tmp_path / "True", eval_strategy="no", dataloader_num_workers=1))
    assert losses(again) == losses(runs[0])


def test_no_augmentation_for_the_device(spoilt_photos, tmp_path):
    data = DataArguments(sources=[spoilt_photos[0]], augment_on_device=True)
    with pytest.raises(ValueError, match="augment_on_device=True has nothing to compute; set flip or random_crop"):
        pretrain(MODEL, data, arguments(tmp_path / "out"))


@pytest.mark.parametrize("on_device", [False, True])
def test_photographs_are_cropped(spoilt_photos, tmp_path, on_device):
    data = DataArguments(sources=[spoilt_photos[0]], augment_on_device=on_device, random_crop=0.5, flip=True)
    data.randaugment, data.max_skipped = [1, 5], 0.5
    trainer = pretrain(MODEL, data, arguments(tmp_path / "out", max_steps=2, eval_strategy="no"))
    assert all(math.isfinite(loss) for loss in losses(trainer))


def test_drawing_options_of_a_new_model(tmp_path):
    options = dict(preset="Ti/16", config_overrides={"num_hidden_layers": 1, "image_size": 32})
    args = ModelArguments(**options, text_options='{"advances": "font", "lowercase": false}')
    model, processor = build_model(args)
    assert (processor.tokenizer.advances, processor.tokenizer.lowercase) == ("font", False)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"text_options=.* cannot change those of"):
        build_model(ModelArguments(init_from=str(tmp_path), text_options={"advances": "ink"}))
