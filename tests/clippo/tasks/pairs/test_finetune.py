"""Fine-tuning on pairs: the old task is kept, a run resumes, adapters and locked sides, and what is refused."""

import json
import sys

import pytest
import torch
from PIL import Image
from transformers import TrainingArguments

import clippo
from clippo.cli import main
from clippo.surgery import grow
from clippo.tasks.pairs.adapters import add_adapters, lock_side
from clippo.tasks.pairs.finetune import KeepArguments, PairsTrainer, finetune_pairs
from clippo.tasks.pairs.judge import Judge
from clippo.tasks.pairs.labels import LabelledImages, LabelSpec
from clippo.tasks.pairs.sources import mix_pairs
from clippo.training.arguments import DataArguments, ModelArguments, parse_recipe
from clippo.training.processes import RunRefusedError

from ....tiny import save_tiny, tiny_model

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220), "lime": (30, 220, 30)}


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """A folder with a folder of squares for each colour."""
    folder = tmp_path_factory.mktemp("colours")
    for name, colour in COLOURS.items():
        (folder / "train" / name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (24, 24), colour).save(folder / "train" / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Old pairs in JSON lines: grey squares and their captions."""
    folder = tmp_path_factory.mktemp("old")
    with (folder / "train.jsonl").open("w") as file:
        for name, grey in (("black", 0), ("grey", 120), ("white", 255)):
            path = folder / f"{name}.png"
            Image.new("RGB", (16, 16), (grey,) * 3).save(path)
            file.write(json.dumps({"image": str(path), "caption": name}) + "\n")
    return folder / "train.jsonl"


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("start"))


def labels(folder):
    return {"kind": "labels", "path": str(folder), "templates": ["a {} square", "{}"]}


def evaluations(folder, pairs):
    new = {"name": "colours", "role": "new", "task": "zero-shot", "data": str(folder), "split": "train"}
    old = {"name": "greys", "role": "old", "task": "retrieval", "data": str(pairs), "captions": ["en=caption"]}
    return [{**new, "templates": ["{}"]}, old]


def run(start, folder, pairs, output, steps=4, data=None, training=None, **keep):
    old = {"path": str(pairs), "caption_columns": "caption"}
    keep = {"replay": [old], "replay_share": 0.25, "evaluations": evaluations(folder, pairs), "alphas": [0.5], **keep}
    return finetune_pairs(
        ModelArguments(init_from=start),
        DataArguments(**{"sources": [labels(folder)], "texts_per_image": 1, **(data or {})}),
        KeepArguments(**keep),
        TrainingArguments(
            str(output), max_steps=steps, per_device_train_batch_size=8, learning_rate=3e-3, use_cpu=True, seed=0,
            report_to="none", disable_tqdm=True, lr_scheduler_type="constant", **(training or {}),
        ),
    )  # fmt: skip


def weights(folder):
    return clippo.ClippoModel.from_pretrained(folder).state_dict()


def test_a_run_learns_keeps_and_saves(start, colours, pairs, tmp_path, capsys):
    chosen = run(start, colours, pairs, tmp_path, steps=40, training={"save_strategy": "no"})
    curve = json.loads((tmp_path / "curve.json").read_text())["points"]
    assert [point["alpha"] for point in curve] == [0.0, 0.5, 1.0]
    before, after = curve[0]["metrics"], curve[-1]["metrics"]
    assert after["colours"] == 1.0 > before["colours"]
    assert chosen.metrics["greys"] >= before["greys"] - 0.01
    table = (tmp_path / "table.md").read_text()
    assert table in capsys.readouterr().out and "| colours | new |" in table
    assert (tmp_path / "curve.png").stat().st_size > 5000
    blended, old, new = weights(tmp_path), weights(start), weights(tmp_path / "finetuned")
    for name in old:
        torch.testing.assert_close(blended[name], torch.lerp(old[name], new[name], chosen.alpha))


def test_a_stopped_run_continues_with_the_same_weights(start, colours, pairs, tmp_path, monkeypatch):
    saving = {"save_steps": 2}
    run(start, colours, pairs, tmp_path / "once", training=saving)
    run(start, colours, pairs, tmp_path / "twice", steps=2, training=saving)
    chosen = run(start, colours, pairs, tmp_path / "twice", training=saving)
    once, twice = weights(tmp_path / "once" / "finetuned"), weights(tmp_path / "twice" / "finetuned")
    assert all(torch.equal(once[name], twice[name]) for name in once)
    # Measured points are read again: no model is measured a second time.
    monkeypatch.setattr("clippo.tasks.pairs.judge.Judge.measure", lambda *args: pytest.fail("measured again"))
    assert run(start, colours, pairs, tmp_path / "twice", training=saving) == chosen


def test_adapters_are_merged_and_the_rest_stays(start, colours, pairs, tmp_path):
    pytest.importorskip("peft", reason="the extra finetune is not installed")
    saving = {"save_steps": 2}
    for steps in (2, 4):  # the second call resumes
        run(start, colours, pairs, tmp_path, steps=steps, lora_rank=2, training=saving, evaluations=[])
    old, new = weights(start), weights(tmp_path / "finetuned")
    assert set(old) == set(new)
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed and all(
        name.endswith(("proj.weight", "fc1.weight", "fc2.weight", "projection.weight")) for name in changed
    )
    difference = new["projection.weight"] - old["projection.weight"]
    assert torch.linalg.matrix_rank(difference, rtol=1e-4) == 2
    run(start, colours, pairs, tmp_path / "once", lora_rank=2, training={"save_strategy": "no"}, evaluations=[])
    once = weights(tmp_path / "once" / "finetuned")
    assert all(torch.allclose(once[name], new[name], atol=1e-6) for name in once)


@pytest.mark.parametrize("side", ["image", "text"])
def test_a_locked_side_keeps_its_vectors(start, colours, pairs, tmp_path, side):
    run(start, colours, pairs, tmp_path, lock=side, training={"save_strategy": "no"}, evaluations=[])
    before = clippo.ClippoModel.from_pretrained(start).eval()
    after = clippo.ClippoModel.from_pretrained(tmp_path / "finetuned").eval()
    processor = clippo.ClippoProcessor.from_pretrained(tmp_path)
    inputs = processor(images=[Image.new("RGB", (9, 9), "red")], text=["red"], return_tensors="pt")
    with torch.no_grad():
        old, new = (model(**inputs) for model in (before, after))
    kept, moved = (f"{one}_embeds" for one in (side, "text" if side == "image" else "image"))
    torch.testing.assert_close(new[kept], old[kept], atol=1e-6, rtol=0)
    assert not torch.allclose(new[moved], old[moved], atol=1e-3)


def test_adapters_leave_a_locked_side_alone():
    pytest.importorskip("peft", reason="the extra finetune is not installed")
    locked = lock_side(tiny_model(), "text")
    add_adapters(locked, rank=1)
    trained = {name for name, parameter in locked.named_parameters() if parameter.requires_grad}
    assert trained and all(name.startswith(("image_model.", "image_projection.")) for name in trained)


def test_lower_layers_of_both_towers_have_smaller_rates(tmp_path):
    model = grow(tiny_model(), image_tower="separate")
    arguments = TrainingArguments(str(tmp_path), use_cpu=True, learning_rate=0.8, report_to="none")
    optimizer = PairsTrainer(model, arguments, layer_decay=0.5).create_optimizer()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for tower in (model.vision_model, model.image_model):
        assert rates[id(tower.embeddings.patch_embedding.weight)] == 0.1
        assert rates[id(tower.encoder.layers[1].mlp.fc1.weight)] == 0.4
    assert rates[id(model.projection.weight)] == 0.8


def test_without_evaluations_the_trained_model_is_saved(start, colours, pairs, tmp_path, log_messages):
    assert run(start, colours, pairs, tmp_path, evaluations=[], replay=[]) is None
    new, saved = weights(tmp_path / "finetuned"), weights(tmp_path)
    assert all(torch.equal(new[name], saved[name]) for name in new)
    assert any("nothing is interpolated" in message for message in log_messages)


def test_shares_of_a_batch(colours, pairs, emoji_folder):
    old = {"path": str(pairs), "caption_columns": "caption"}
    mixture = mix_pairs(
        [{**labels(colours), "weight": 0.5}, {**labels(colours), "name": "again", "weight": 0.5}],
        [{**old, "weight": 0.5}, {"kind": "emoji", "path": str(emoji_folder), "weight": 0.5}],
        replay_share=0.2,
    )
    assert mixture.weights == pytest.approx([0.4, 0.4, 0.1, 0.1])
    keys = list(mixture.train_sampler(10, seed=0))[:10]
    assert [key.source for key in keys].count(3) == 1
    items = [mixture[key] for key in keys]
    assert all(item["image"].mode == "RGB" and isinstance(item["text"], str) for item in items)
    assert items == [mixture[key] for key in keys]  # pure functions of their keys


def test_texts_of_labels(colours, tmp_path):
    data = LabelledImages(LabelSpec(str(colours), templates=["a {} square", "{}"]), texts_per_image=2)
    assert data.names == ["blue", "lime", "red"]
    assert data.read(0, None)["text"] == ["a blue square", "blue"]
    (tmp_path / "names.txt").write_text("azul\nlima\nrojo\n", encoding="utf-8")
    spanish = LabelledImages(LabelSpec(str(colours), class_names=str(tmp_path / "names.txt"), templates=["{}"]))
    assert spanish.read(len(spanish) - 1, None)["text"] == "rojo"
    (tmp_path / "names.txt").write_text("azul\n", encoding="utf-8")
    short = LabelledImages(LabelSpec(str(colours), class_names=str(tmp_path / "names.txt")))
    assert short[0]["text"] == "a photo of a azul."
    with pytest.raises(Exception, match="no class: the label is 2, not 0 to 0"):
        short.read(len(short) - 1, None)


ERRORS = [
    ({"replay_share": 1.0}, "replay_share=1.0 is not a share of the batch"),
    ({"lock": "both"}, "lock='both' is not a side"),
    ({"lora_rank": -1}, "lora_rank=-1 is not the rank"),
    ({"evaluations": [{"task": "zero_shot"}]}, "has no known task; choose one of zero-shot"),
    ({"evaluations": [{"task": "zero-shot", "role": "older"}]}, "role='older' of an evaluation"),
    ({"evaluations": [{"task": "zero-shot", "dta": "x"}]}, "sets dta, which is not an option"),
    ({"evaluations": [{"task": "sts", "data": "x"}] * 2}, "given twice: sts x"),
    ({"data": {"sources": []}}, "There are no pairs to fine-tune on"),
    ({"data": {"sources": [{"kind": "labels", "path": "x", "templates": ["a"]}]}}, "templates holds 'a'"),
    ({"data": {"sources": [{"kind": "labels", "path": "x", "weight": 0.5}]}}, "weights of sources must sum to 1"),
]


@pytest.mark.parametrize(("options", "message"), ERRORS, ids=[message[:24] for _, message in ERRORS])
def test_what_is_refused(start, colours, pairs, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(start, colours, pairs, tmp_path, **options)
    assert not list(tmp_path.glob("*.safetensors"))


def test_other_settings_do_not_resume(start, colours, pairs, tmp_path):
    run(start, colours, pairs, tmp_path, steps=1, evaluations=[])
    with pytest.raises(RunRefusedError, match=r"keep\.layer_decay was 1\.0, is now 0\.5"):
        run(start, colours, pairs, tmp_path, steps=2, evaluations=[], layer_decay=0.5)


def test_without_peft_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"lora_rank=4 needs PEFT: pip install 'clippo\[finetune\]'"):
        add_adapters(tiny_model(), rank=4)


def test_the_command_says_what_is_wrong(tmp_path):
    with pytest.raises(SystemExit, match="no model to fine-tune"):
        main(["finetune", "pairs", "--output_dir", str(tmp_path)])
    with pytest.raises(SystemExit, match="which is not between 0"):
        main(["finetune", "pairs", "--output_dir", str(tmp_path), "--alphas", "2"])


def test_the_recipe_is_read():
    kinds = (ModelArguments, DataArguments, KeepArguments, TrainingArguments)
    model, data, keep, training = parse_recipe(kinds, ["finetuning/flowers", "--use_cpu", "true"])
    assert model.init_from == "checkpoints/clippo-emoji" and training.max_steps == 120
    assert LabelSpec.from_dict(data.sources[0]).templates[0] == "a photo of {}."
    assert set(Judge(keep.evaluations).roles.values()) == {"new", "old", "report"}
