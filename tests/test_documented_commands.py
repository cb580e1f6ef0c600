"""Every documented command runs in a shorter form, in a workspace with miniatures of what it names.

`SHORT` maps the `clippo` form of each documented command to its shortened form. A command that the table does not know
fails, and so does an entry that no page documents. Commands that need the network or a GPU name local files instead, or
are only parsed; the table says which.
"""

import shlex
from typing import NamedTuple

import pytest
from accelerate.commands.launch import launch_command_parser
from torch.distributed.run import get_args_parser

from clippo import cli
from clippo.emoji import build as build_module
from clippo.training import pretraining

from .clippo.emoji_miniature import PretendFont, build, cldr_folder  # noqa: F401
from .documented import PAGES, ROOT, blocks, documented_commands, normal
from .documented_workspace import workspace  # noqa: F401


class Short(NamedTuple):
    """Shortened form of a documented command.

    Args:
        extra: Words to append. Of two values of one option the last one counts.
        replace: Words of the command -> words that exist in the workspace.
        parsed: Reason why the command is only parsed.
        after: Documented command to run first, in its shortened form.
    """

    extra: str = ""
    replace: dict[str, str] = {}
    parsed: str = ""
    after: str = ""


STEP = "--max_steps 1 --per_device_train_batch_size 4 --per_device_eval_batch_size 4 --bf16 false --report_to none"
PRETRAIN = Short(f"{STEP} --eval_strategy no")
MIXTURE = Short(f"{STEP} --eval_strategy no --per_device_train_batch_size 20")  # a row of each source at least
GPU = Short("--bf16 false --use_cpu", parsed="needs GPUs")
RECIPE = Short(parsed="RECIPE is any recipe", replace={"RECIPE": "flickr8k"})
VQA = Short(f"{STEP} --num_train_epochs 1 --eval_strategy no")
GENERATE = Short(
    f"{STEP} --per_device_train_batch_size 5 --per_device_eval_batch_size 250 --save_strategy no "
    "--generation_max_length 4"
)
GLUE = Short(
    f"{STEP} --data_dir data/glue --seeds 0 --eval_strategy no --save_strategy no --load_best_model_at_end false"
)
COPY = Short("--from copies --output_dir prepared")
PHRASES = Short(
    "--output_dir built/phrases", {"FILES": "data/books/train.parquet", "TASKS": "data/glue/sst2/train.parquet"}
)
EVALUATE = "--cache_dir '' --progress false"
CLASSES = f"--model MODEL --data data/cifar10 --image img {EVALUATE}"
SHOTS = f"{CLASSES} --streaming false --train_split train_10k"
CAPTIONS = Short(f"--model MODEL --data data/flickr8k --captions de=captions_de ja=captions_ar sw=captions {EVALUATE}")
STSB = f"--data data/glue/stsb --columns sentence1 sentence2 label {EVALUATE}"
TINY_NPZ = str(ROOT / "tests" / "goldens" / "tiny_params.npz")


def npz(name: str) -> Short:
    """A released checkpoint, replaced by the tiny one of the goldens."""
    return Short("--font default", {name: TINY_NPZ})


# Pages whose snippets need packages that the tests do not install.
EXTRAS = {
    "search.md": ("faiss",),
    "sharing.md": ("peft",),
}
PAIRS = 'clippo pretrain --preset Ti/16 --sources \'[{"path": "pairs/train*.parquet", "caption_columns": "caption"}]\''
BATCH = "--per_device_train_batch_size 1024 --micro_batch_size 64 --max_steps 1000"

FITTED = MIXTURE._replace(extra=f"{MIXTURE.extra} --fit_projection 24")
EMBED = "clippo embed --model timm:tf_efficientnet_lite0 --data"
VIT = Short("--progress false --device cpu", {"timm:tf_efficientnet_lite0": "VIT", "--crop": "--batch_size"})
BUILT = VIT._replace(extra=f"{VIT.extra} --output_dir built/vectors")
EMBED_THAI = (
    "clippo embed --model runs/lit_flickr8k --name timm:tf_efficientnet_lite0 --data data/thai.parquet --texts en "
    "--output vectors/thai"
)
LIT = '--config_overrides \'{"image_tower": "VIT", "project_images": false, "projection_dim": 32}\''
TEACHER = "clippo embed --model sentence:MINILM --name sentence-transformers/all-MiniLM-L6-v2 --data"
EMBED_TEXTS = f"{TEACHER} data/sentences/KIND.parquet --texts target --output vectors/KIND"
SENTENCES = (
    "clippo build sentences --documents DOCUMENTS --translations TRANSLATIONS --wordnet WORDNET --exclude TESTS "
    "--max_chars 180 --phrases 5 --swaps 2 --grammar 400000"
)

# Recipe reader_captions: the words of the options that its two corpora share.
FEW = "--swaps 0 --phrases 0 --grammar 0"
CAPTION_TEXTS = (
    f"clippo build sentences --translations CAPTIONS --english_column en --held_out 0 --exclude TESTS {FEW} "
    "--output_dir data/captions"
)
GENERAL_TEXTS = (
    "clippo build sentences --documents ARTICLES --translations NEWS --exclude TESTS --max_chars 180 "
    f"{FEW} --output_dir data/general"
)
TEXTS = {
    "CAPTIONS": "data/tatoeba/test.parquet",
    "NEWS": "data/tatoeba/test.parquet",
    "ARTICLES": "data/books/train.parquet",
    "TESTS": "data/glue/stsb/test.parquet",
    "en": "english",
}

SHORT = {
    # locked image towers
    f"{EMBED} photos --crop 1 --output vectors/photos": VIT,
    f"{EMBED} data/flickr8k:train --key filename --crop 1 --output vectors/flickr8k/train": BUILT,
    f"{EMBED} data/flickr8k:validation --key filename --crop 1 --output vectors/flickr8k/validation": BUILT,
    "clippo pretrain --init_from checkpoints/clippo-reader --fit_projection 8000 --config_overrides "
    '\'{"image_tower": "timm:tf_efficientnet_lite0", "project_images": false, "projection_dim": 1280}\' '
    '--sources \'[{"kind": "vectors", "path": "photos", "vectors": "vectors/photos", '
    '"caption_columns": ["en", "th"]}]\' --per_device_train_batch_size 128 --max_steps 150 --learning_rate 1e-4 '
    "--output_dir runs/photos": Short(
        f"{STEP} --eval_strategy no --fit_projection 8 {LIT}", after=f"{EMBED} photos --crop 1 --output vectors/photos"
    ),
    "clippo evaluate retrieval --model runs/lit_flickr8k --data data/flickr8k --vectors vectors/flickr8k/test "
    "--captions en=captions de=captions_de fr=multi30k_fr cs=multi30k_cs ar=captions_ar nl=captions_nl": Short(
        EVALUATE
    ),
    "clippo pretrain lit_flickr8k": FITTED,
    "clippo pretrain lit_flickr8k_languages": MIXTURE,
    EMBED_THAI: Short("--progress false --device cpu"),
    "clippo pretrain lit_flickr8k_thai": MIXTURE._replace(after=EMBED_THAI),
    # README and pretraining
    "clippo pretrain emoji": PRETRAIN._replace(extra=f"{PRETRAIN.extra} --dataloader_num_workers 1"),
    "clippo pretrain emoji --per_device_train_batch_size 1828 --learning_rate 2e-3": GPU,
    'clippo pretrain emoji --init_from runs/stage3 --sources \'[{"kind": "emoji", "path": "data/emoji", '
    '"anchor": "en", "balance": 0.3}]\' --per_device_train_batch_size 1828 --learning_rate 1.5e-3 --warmup_steps 100 '
    "--max_steps 1500": GPU,
    "clippo pretrain emoji_english": PRETRAIN,
    "clippo pretrain pictograms": PRETRAIN._replace(extra=f"{PRETRAIN.extra} --dataloader_num_workers 1"),
    "clippo build pictogram_gallery": Short(),
    "clippo demo pictograms": Short(
        "--model checkpoints/clippo-emoji --output pictograms.png", after="clippo build pictogram_gallery"
    ),
    'clippo demo pictograms --queries "shopping cart" einkaufswagen': Short(
        "--model checkpoints/clippo-emoji --output pictograms.png", after="clippo build pictogram_gallery"
    ),
    "clippo evaluate pictograms --model runs/pictograms --output runs/pictograms_search": Short(
        after="clippo pretrain pictograms"
    ),
    "clippo pretrain emoji_twelve --init_from runs/emoji_en": PRETRAIN._replace(after="clippo pretrain emoji_english"),
    "clippo pretrain emoji_twelve --init_from checkpoints/clippo-emoji --output_dir runs/norms "
    "--config_overrides '{\"modality_norms\": true}'": PRETRAIN,
    f"{PAIRS} {BATCH} --output_dir runs/mine": Short(f"{STEP} --micro_batch_size 2"),
    f'{PAIRS} --validation \'{{"path": "pairs/validation*.parquet", "caption_columns": "caption"}}\' {BATCH} '
    "--eval_strategy epoch --output_dir runs/mine": Short(f"{STEP} --micro_batch_size 2"),
    "clippo pretrain flickr8k": MIXTURE,
    "clippo pretrain flickr8k_smoke": PRETRAIN,
    "clippo pretrain flickr8k_smoke --output_dir runs/smoke_two": PRETRAIN,
    "clippo pretrain flickr8k_smoke --per_device_train_batch_size 64 --output_dir runs/smoke_one": PRETRAIN,
    "clippo pretrain flickr8k_from_text": MIXTURE,
    "clippo pretrain text_pairs": MIXTURE,
    "clippo pretrain text_pairs_long": MIXTURE,
    "clippo pretrain coco_sanity": GPU,
    "clippo pretrain laion400m_b16": GPU,
    "clippo pretrain laion400m_b16 --per_device_train_batch_size 160": GPU,
    "clippo pretrain paper_b16": GPU,
    "clippo pretrain RECIPE": RECIPE,
    "clippo plan --preset L/16 --global_batch 32768 --gpus 64": Short(),
    # fine-tuning
    "clippo finetune glue --model FOLDER --tasks all --output_dir runs/glue": GLUE,
    "clippo finetune glue --model FOLDER --tasks mrpc stsb --data_dir data/glue --seeds 0 1 2 --pair_layout two_canvas "
    "--output_dir runs/glue": GLUE._replace(extra=f"{GLUE.extra} --output_dir runs/glue_two_canvas"),
    "clippo finetune pairs --init_from MODEL "
    '--sources \'[{"path": "pairs/train*.parquet", "caption_columns": "caption"}]\' '
    '--replay \'[{"kind": "emoji", "path": "data/emoji"}]\' --replay_share 0.5 --layer_decay 0.8 '
    '--evaluations \'[{"name": "mine", "role": "new", "task": "retrieval", "data": "pairs", "split": "validation", '
    '"captions": ["en=caption"]}, {"name": "emoji", "role": "old", "task": "retrieval", "data": "data/emoji", '
    '"languages": ["en", "de"]}]\' --per_device_train_batch_size 64 --learning_rate 1e-4 --max_steps 500 '
    "--output_dir runs/mine_kept": Short(f"{STEP} --alphas 1"),
    "clippo finetune pairs finetuning/flowers": Short(f"{STEP} --alphas 1"),
    "clippo finetune pairs finetuning/flowers --replay '[]' --layer_decay 1 --per_device_train_batch_size 32 "
    "--output_dir runs/flowers_plain": Short(f"{STEP} --alphas 1"),
    "clippo finetune vqa easy_vqa": VQA,
    "clippo finetune vqa easy_vqa --init_from runs/easy_vqa --output_dir runs/easy_vqa_augmented --num_train_epochs 14 "
    "--learning_rate 1.5e-3 --flip true --shift 0.12 --seed 1": VQA,
    "clippo finetune vqa daquar --blind picture": VQA,
    "clippo finetune vqa daquar_fusion": VQA,
    "clippo finetune vqa daquar_fusion --tower_lr_scale 0 --shift 0 --grid_cache runs/grids": VQA,
    "clippo finetune vqa daquar_fusion --train_grids grids/train.npy --validation_grids grids/test.npy --shift 0": VQA,
    "clippo finetune vqa flickr8k_matching": VQA,
    "clippo finetune vqa statements": VQA._replace(after="clippo finetune vqa flickr8k_matching"),
    "clippo finetune vqa --init_from FOLDER --image_size 384 --loss binary --answers 3129 --normalize_answers true "
    "--train questions.json,annotations.json,train2014 "
    "--validation val_questions.json,val_annotations.json,val2014 --output_dir runs/vqav2": Short(
        f"{VQA.extra} --image_size 64 --train data/daquar/train.parquet --validation data/daquar/test.parquet"
    ),
    "clippo pretrain flickr8k --caption_loss_weight 1.0 --output_dir runs/coca --config_overrides "
    '\'{"num_hidden_layers": 4, "image_size": 112, "projection_dim": 192, "num_decoder_layers": 2}\'': MIXTURE,
    "clippo finetune generate easy_vqa_generate": GENERATE,
    "clippo finetune generate easy_vqa_shapes": GENERATE._replace(after="clippo finetune generate easy_vqa_generate"),
    "clippo finetune generate reading": GENERATE,
    "clippo finetune generate splitcap": GENERATE,
    "clippo finetune generate flickr8k_captions": GENERATE,
    "clippo finetune generate flickr8k_captions --init_from runs/captions --output_dir runs/captions_160 "
    "--image_size 160 --tower_lr_scale 0.1 --num_train_epochs 4 --learning_rate 2e-4": GENERATE._replace(
        after="clippo finetune generate flickr8k_captions"
    ),
    "clippo finetune generate emoji_names": GENERATE,
    "clippo demo web --model MODEL --image_dir PICTURES": Short(
        "--image_dir docs/pictures --space spaces/served"  # without --space it serves until it is stopped
    ),
    "clippo demo web --model MODEL --image_dir PICTURES --space runs/space": Short("--image_dir docs/pictures"),
    # evaluation
    "clippo evaluate zero-shot --model MODEL --data cifar10": Short(CLASSES),
    "clippo evaluate zero-shot --model models/$NAME --data cifar100 --protocol colab": Short(CLASSES),
    "clippo evaluate zero-shot --model models/$NAME --data imagenet": Short(f"{CLASSES} --class_names classes.txt"),
    "clippo evaluate retrieval --model MODEL --data xm3600": CAPTIONS,
    "clippo evaluate retrieval --model MODEL --data xm3600 --languages de ja sw": CAPTIONS,
    "clippo evaluate retrieval --model models/$NAME --data coco": CAPTIONS,
    "clippo evaluate few-shot --model MODEL --data pets --shots 1 5 10 25": Short(SHOTS),
    "clippo evaluate few-shot --model models/$NAME --data imagenet --streaming true --limit 65000 --shots 10 "
    "--probes least-squares": Short(f"{SHOTS} --class_names classes.txt"),
    "clippo evaluate sts --model MODEL --data data/glue/stsb": Short(EVALUATE),
    "clippo evaluate sts --model models/clippo_b16_100c4 --data mteb/stsbenchmark-sts "
    "--columns sentence1 sentence2 score": Short(STSB),
    "clippo evaluate bitext --model MODEL --data data/tatoeba": Short(EVALUATE),
    "clippo evaluate phrases --model MODEL --data data/glue/stsb --split validation --columns sentence1": Short(
        EVALUATE
    ),
    "clippo evaluate modality-gap --model MODEL --data coco": CAPTIONS,
    "clippo evaluate mixed-index --model MODEL --data coco": CAPTIONS,
    "clippo evaluate all evaluation/flickr8k": Short(EVALUATE),
    "clippo evaluate all evaluation/flickr8k --model MODEL": Short(EVALUATE),
    "clippo evaluate all evaluation/emoji": Short(f"{EVALUATE} --model MODEL"),
    "clippo evaluate emoji": Short(),
    "clippo export onnx --model checkpoints/clippo-emoji --output_dir runs/onnx --precision fp32 fp16 int8": Short(
        "--precision int8"
    ),
    "clippo build web --model MODEL --image_dir PICTURES --output_dir runs/web": Short(
        replace={"PICTURES": "docs/pictures"}
    ),
    "clippo embed --model checkpoints/clippo-emoji --data docs/pictures --output vectors/pictures": Short(
        "--progress false"
    ),
    'clippo search --vectors vectors/pictures --query "red fruit" Flugzeug --output found.html': Short(
        after="clippo embed --model checkpoints/clippo-emoji --data docs/pictures --output vectors/pictures"
    ),
    "clippo search --vectors vectors/pictures --image photo.png --count 5": Short(
        after="clippo embed --model checkpoints/clippo-emoji --data docs/pictures --output vectors/pictures"
    ),
    # figures
    'clippo visualize heatmap --image docs/pictures/cat.webp --texts "black cat"': Short(),
    "clippo visualize matrix --count 40": Short(),
    "clippo visualize neighbours --texts cat Hund ракета 虎": Short(),
    'clippo visualize layouts --image docs/pictures/cat.webp --texts "what is it?" --image_size 128': Short(),
    'clippo visualize layouts --image docs/pictures/cat.webp --texts "what is the animal in the picture?" '
    "--image_size 128": Short(),
    "clippo visualize answers --model runs/easy_vqa_augmented --questions data/easy_vqa/test.parquet --count 10 "
    "--wrong 4": Short(),
    "clippo visualize answers --model runs/easy_vqa_augmented --questions data/easy_vqa/test.parquet --count 10 "
    "--wrong 4 --output answers.png": Short(),
    "clippo demo": Short(),
    # data sets
    "clippo build emoji": Short("--font_path font.ttf --cldr_folder cldr --output_dir built/emoji"),
    "clippo build pictograms": Short("--output_dir built/pictograms --workers 1"),
    "clippo build pictograms --compact_dir data/pictograms_compact --most_pictures 110000": Short(
        "--output_dir built/pictograms --workers 1 --compact_dir built/compact --most_pictures 5"
    ),
    "clippo build phrases --words 7 --lowercase 0.3 --output_dir data/text_views/seven --files FILES": PHRASES,
    "clippo build phrases --words 3 --keep 0.7 --lowercase 0.3 --output_dir data/text_views/three "
    "--files FILES": PHRASES,
    "clippo build phrases --words 16 --keep 0.6 --lowercase 0.3 --output_dir data/text_views/sixteen "
    "--files FILES": PHRASES,
    "clippo build phrases --words 5 --keep 0.6 --lowercase 0.3 --output_dir data/text_views/tasks "
    "--text_columns sentence sentence1 sentence2 question1 question2 --files TASKS": PHRASES,
    # reader
    SENTENCES: Short(
        "--grammar 20 --min_chars 4",
        {
            "DOCUMENTS": "data/books/train.parquet",
            "TRANSLATIONS": "data/tatoeba/test.parquet",
            "WORDNET": "wordnet",
            "TESTS": "data/glue/stsb/test.parquet",
        },
    ),
    EMBED_TEXTS: Short(
        replace={
            "sentence:MINILM": "MODEL",
            "data/sentences/KIND.parquet": "data/sentences/word.parquet",
            "vectors/KIND": "vectors/word",
        },
        after=SENTENCES,
    ),
    CAPTION_TEXTS: Short(replace=TEXTS),
    GENERAL_TEXTS: Short("--min_chars 4", TEXTS),
    f"{TEACHER} data/captions/sentence.parquet --texts target --key target --output vectors/captions": Short(
        replace={"sentence:MINILM": "MODEL"}, after=CAPTION_TEXTS
    ),
    f"{TEACHER} data/general/sentence.parquet --texts target --key target --output vectors/general": Short(
        replace={"sentence:MINILM": "MODEL"}, after=GENERAL_TEXTS
    ),
    "clippo pretrain reader_captions": Short(parsed="needs the vectors of a sentence encoder"),
    "clippo demo sentences": Short(),
    'clippo demo sentences --queries "the planet has water" "Elle parle trois langues" --shown 3': Short(),
    "clippo evaluate sts --model checkpoints/clippo-reader --data data/glue/stsb": Short(EVALUATE),
    "clippo evaluate bitext --model checkpoints/clippo-reader --data data/sentences/held_out.parquet": Short(
        EVALUATE, {"data/sentences/held_out.parquet": "data/tatoeba"}
    ),
    "clippo evaluate robustness --model MODEL --data data/glue/stsb": Short(EVALUATE),
    "clippo evaluate robustness --model checkpoints/clippo-reader --data data/glue/stsb "
    "--beside sentence:MINILM": Short(EVALUATE, {"sentence:MINILM": "MODEL"}),
    "clippo evaluate glue --model checkpoints/clippo-reader --tasks stsb mrpc --data_dir data/glue": Short(
        "--cache_dir '' --progress false --seeds 0"
    ),
    "clippo pretrain reader": Short(parsed="needs the vectors of a sentence encoder"),
    "clippo prepare easy_vqa": COPY,
    "clippo prepare flickr8k": COPY,
    "clippo prepare flickr8k books": COPY,
    "clippo prepare flickr8k glue": COPY,
    "clippo prepare books speeches wikitext": COPY,
    "clippo prepare glue daquar easy_vqa --from copies": COPY,
    # official checkpoints
    "clippo convert --checkpoint clippo_b16_yfcc100m_i21k_init_25c4 --output_dir clippo-b16": npz(
        "clippo_b16_yfcc100m_i21k_init_25c4"
    ),
    "clippo convert --checkpoint $NAME --output_dir models/$NAME": npz("$NAME"),
    "clippo convert --checkpoint clippo_b16_100c4 --output_dir models/clippo_b16_100c4": npz("clippo_b16_100c4"),
}


def run(command: str) -> None:
    """Run the shortened form of a documented command in the working directory."""
    short = SHORT[command]
    if short.after:
        run(short.after)
    words = [word for part in shlex.split(command)[1:] for word in shlex.split(short.replace.get(part, "")) or [part]]
    cli.main([*words, *shlex.split(short.extra)])


COMMANDS = sorted({normal(command) for command in documented_commands() if normal(command).startswith("clippo ")})


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command, workspace, monkeypatch):  # noqa: F811
    if command not in SHORT:
        pytest.fail(f"Add a shortened form of `{command}` to SHORT in {__file__}.")
    monkeypatch.chdir(workspace)
    monkeypatch.setattr(build_module, "EmojiFont", PretendFont)  # the font is not part of the repository
    if SHORT[command].parsed:
        calls = []
        monkeypatch.setattr(pretraining, "pretrain", lambda *arguments: calls.append(arguments))
        run(command)
        assert len(calls) == 1
    else:
        run(command)


def test_the_table_has_no_other_commands():
    assert sorted(set(SHORT) - set(COMMANDS)) == []


@pytest.mark.parametrize("command", sorted(documented_commands()))
def test_launcher(command, monkeypatch):
    """Launchers, make and pip understand the documented words."""
    monkeypatch.chdir(ROOT)
    program, *words = shlex.split(command)
    if program == "torchrun":
        assert get_args_parser().parse_args(words).nproc_per_node == "2"
    elif program == "accelerate":
        assert (ROOT / launch_command_parser().parse_args(words[1:]).config_file).is_file()
    elif program == "make":
        assert f"\n{words[0]}: " in (ROOT / "Makefile").read_text(encoding="utf-8")
    elif program == "pip":
        extras = [word.partition("[")[2].rstrip("]") for word in words if "[" in word]
        setup = (ROOT / "setup.py").read_text(encoding="utf-8")
        assert [extra for extra in extras if f'    "{extra}": [' not in setup] == []


def snippets() -> list:
    """Pages with Python code; tests/test_use_with.py runs the sections of one page by themselves."""
    return [page for page in PAGES if blocks(page, "python") and page.name != "use_with.md"]


@pytest.mark.parametrize("page", snippets(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_python_snippets(page, workspace, monkeypatch):  # noqa: F811
    """The blocks of a page run one after the other, as a reader would paste them."""
    for package in EXTRAS.get(page.name, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(workspace)
    names = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)
