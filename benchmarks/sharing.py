"""Compare models that share more or less between images and texts, on emoji in many languages, in one run.

Every variant of a table in `recipes/sharing/` is trained on the same batches with the same seeds. Pictures and texts
are computed once and stay on the device, so the time of a step is the time of the model. CLIP* is built here:
transformers' `CLIPModel` with two towers of the same width and depth, on byte pairs or bytes of the same names.

    python benchmarks/sharing.py recipes/sharing/emoji.yaml --output_dir runs/sharing          # equal steps
    python benchmarks/sharing.py recipes/sharing/emoji.yaml --output_dir runs/sharing --timing  # seconds of a step
    python benchmarks/sharing.py recipes/sharing/emoji.yaml --output_dir runs/sharing --equal_seconds
    python benchmarks/sharing_tables.py runs/sharing                                            # tables and a figure

The output is a JSON file for each run. A command that is stopped continues with the runs that are missing, and two
commands may share the work. Seconds are those of the process on a CPU, because other work may share its cores.
"""

import argparse
import functools
import itertools
import json
import re
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn
from transformers import CLIPConfig, CLIPModel, Trainer, TrainerCallback, TrainingArguments, set_seed

import clippo
from clippo.data.sources import load_rows
from clippo.emoji.device_tables import EmojiTables, TableBatches, draw_texts
from clippo.evaluation.expert_use import expert_use
from clippo.evaluation.metrics import average_ranks, correlation, modality_gap
from clippo.evaluation.retrieval import ranks
from clippo.modeling_clippo.loss_clippo import contrastive_loss
from clippo.modeling_clippo.model_card_clippo import active_parameters
from clippo.training.expert_meters import effective_experts
from clippo.training.optimization import decay_parameter_names

BYTE_TOKENS, PAIR_TOKENS = 96, 48  # most tokens of a name
VOCABULARY = 8192  # byte pairs
SEEN = 5_000  # names of the training set in the evaluation
TEXT_PARTS = 4  # CLIP* encodes the texts of a batch in so many parts of like length
REFERENCE = "shared (CLIPPO)"  # variant whose seconds the others get with --equal_seconds
SAME_TIME = 0.1  # relative difference of two times that counts as none
BATCH_SETTINGS = ("images", "texts_per_image", "steps", "first_languages", "text_pairs")
RUN_SETTINGS = ("texts_per_image", "text_pairs", "steps")  # fields of a variant that belong to its training


def sentences(path: str, columns: list[str], size: int, device: torch.device) -> tuple[list[torch.Tensor], np.ndarray]:
    """Canvases of two columns of texts, and the rows of a data set whose two texts fit on a canvas."""
    rows = load_rows(path)
    drawn = [draw_texts(list(rows[column]), size) for column in columns]
    kept = np.flatnonzero(drawn[0][1] & drawn[1][1])
    return [canvases[kept].to(device) for canvases, _ in drawn], kept


class Names(EmojiTables):
    """Data of a recipe on the device: names and pictures, tokens of the names, pairs of sentences."""

    def __init__(self, recipe: dict, folder: str, device: torch.device):
        size, settings = recipe["base"]["image_size"], recipe["training"]
        super().__init__(folder, recipe["languages"], size, settings.get("pictures"), settings["views"], device)
        self.recipe, self.similarity = recipe, None
        if "similarity" in recipe:  # pairs of sentences with a grade
            self.similarity, kept = sentences(recipe["similarity"], ["sentence1", "sentence2"], size, device)
            self.grades = np.array(load_rows(recipe["similarity"])["label"], float)[kept]
        self.tokens: dict[str, torch.Tensor] = {}

    @functools.cached_property
    def sentence_pairs(self) -> list[torch.Tensor]:
        """Canvases of sentences and of their English translations."""
        size = self.recipe["base"]["image_size"]
        return sentences(self.recipe["sentence_pairs"], ["sentence", "english"], size, self.device)[0]

    def batches(self, settings: dict, seed: int, tokens: str | None) -> TableBatches:
        own = {name: settings[name] for name in BATCH_SETTINGS if name in settings}
        if tokens:
            own |= {"texts": self.token_table(tokens), "key": "input_ids"}
        if own.get("text_pairs"):
            own["sentences"] = self.sentence_pairs
        return TableBatches(self, **own, seed=seed)

    def token_table(self, kind: str) -> torch.Tensor:
        """int64 (texts, length): 0 padding, 1 the end, then bytes or byte pairs."""
        if kind not in self.tokens:
            most = BYTE_TOKENS if kind == "bytes" else PAIR_TOKENS
            lines = [list(text.encode()) for text in self.texts] if kind == "bytes" else self._pairs()
            table = np.zeros((len(lines), most), np.int64)
            for row, line in zip(table, lines, strict=True):
                kept = [token + 2 for token in line[: most - 1]] + [1]
                row[: len(kept)] = kept
            self.tokens[kind] = torch.from_numpy(table).to(self.device)
        return self.tokens[kind]

    def _pairs(self) -> list[list[int]]:
        """Byte pairs, learned on the training names."""
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
        tokenizer.train_from_iterator(self.texts[: self.split], trainer)
        return [encoding.ids for encoding in tokenizer.encode_batch(self.texts)]


class TokenClip(nn.Module):
    """CLIP*: two towers of equal width and depth and the loss of CLIPPO."""

    def __init__(self, base: dict, vocabulary: int, length: int):
        super().__init__()
        shape = {name: base[name] for name in base if name.startswith(("hidden_", "interm", "num_"))}
        text = {"vocab_size": vocabulary, "max_position_embeddings": length, "eos_token_id": 1, "pad_token_id": 0}
        image = {"image_size": base["image_size"], "patch_size": base["patch_size"]}
        options = {"hidden_act": "gelu_pytorch_tanh", "projection_dim": base["projection_dim"]}
        config = CLIPConfig(
            text_config={**shape, **text, **options}, vision_config={**shape, **image, **options}, **options
        )
        self.clip = CLIPModel._from_config(config, attn_implementation="sdpa")
        self.clip.logit_scale.data.fill_(np.log(10))

    def embed(self, pixel_values=None, input_ids=None) -> torch.Tensor:
        """Unit vectors (B, E) of images or of texts."""
        if input_ids is None:
            features = self.clip.get_image_features(pixel_values=pixel_values.to(torch.float32) / 127.5 - 1)
            return nn.functional.normalize(features.pooler_output.float(), dim=-1)
        order = (input_ids != 0).sum(1).argsort()
        parts = [self._embed_tokens(input_ids[rows]) for rows in order.chunk(TEXT_PARTS)]  # little padding
        return torch.cat(parts)[order.argsort()]

    def _embed_tokens(self, input_ids: torch.Tensor) -> torch.Tensor:
        input_ids = input_ids[:, : int((input_ids != 0).sum(1).max())]
        features = self.clip.get_text_features(input_ids=input_ids, attention_mask=(input_ids != 0).long())
        return nn.functional.normalize(features.pooler_output.float(), dim=-1)

    def forward(self, pixel_values, input_ids, return_loss=True):
        scale = self.clip.logit_scale.exp()[None]
        return {"loss": contrastive_loss(self.embed(pixel_values), self.embed(input_ids=input_ids), scale).loss}


def clock() -> float:
    """Seconds: of the device on a GPU, of this process alone on a CPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


class StepMarks(TrainerCallback):
    """Clock of a run, which waits for the device at the marks only."""

    def __init__(self, steps: int):
        self.first, self.last, self.times = steps // 10, steps, []

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in (self.first, self.last):
            self.times.append(clock())

    @property
    def seconds(self) -> float:
        """Seconds of a step, without the first tenth of the run."""
        return (self.times[-1] - self.times[0]) / max(self.last - self.first, 1)


class DeviceTrainer(Trainer):
    """Trainer over batches that are on the device already, with the weight decay of CLIPPO.

    It adds up the tokens of each expert.
    """

    expert_tokens = 0.0

    def get_train_dataloader(self):
        return torch.utils.data.DataLoader(self.train_dataset, batch_size=None)

    def get_decay_parameter_names(self, model):
        return decay_parameter_names(model)

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        outputs = model(**inputs)
        if getattr(outputs, "expert_tokens", None) is not None:
            self.expert_tokens = self.expert_tokens + outputs.expert_tokens
        return (outputs["loss"], outputs) if return_outputs else outputs["loss"]


def make_model(base: dict, fields: dict, names: Names) -> nn.Module:
    """Build a variant."""
    if "tokens" in fields:
        table = names.token_table(fields["tokens"])
        return TokenClip(base, int(table.max()) + 1, table.shape[1])
    return clippo.ClippoModel._from_config(clippo.ClippoConfig(**{**base, **fields}), attn_implementation="sdpa")


def train(
    model: nn.Module, batches: TableBatches, settings: dict, seed: int, folder: Path
) -> tuple[DeviceTrainer, float]:
    """Train a variant.

    Returns:
        The trainer, and the seconds of a step without the first tenth.
    """
    arguments = TrainingArguments(
        str(folder),
        max_steps=settings["steps"],
        learning_rate=settings["learning_rate"],
        warmup_steps=min(settings["warmup_steps"], settings["steps"] // 4),
        weight_decay=settings["weight_decay"],
        lr_scheduler_type="cosine",
        adam_beta2=0.98,
        bf16=torch.cuda.is_available(),
        optim="adamw_torch_fused",
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer, marks = DeviceTrainer(model, arguments, train_dataset=batches), StepMarks(settings["steps"])
    trainer.add_callback(marks)
    trainer.train()
    return trainer, marks.seconds


class Evaluation:
    """Held-out names, and a sample of the trained ones, against all pictures."""

    def __init__(self, names: Names, tokens: str | None):
        self.names, self.table = names, names.token_table(tokens) if tokens else names.canvases
        seen = np.random.default_rng(0).choice(names.split, min(SEEN, names.split), replace=False)
        self.chosen = np.concatenate([np.sort(seen), np.arange(names.split, len(names.rows))])
        self.seen = len(seen)
        self.scripts = np.array([names.scripts[names.rows[i][1]] for i in self.chosen])
        place = {picture: i for i, picture in enumerate(names.pictures)}
        self.partner = torch.tensor([place.get(names.rows[i][0], -1) for i in self.chosen])

    def embed(self, model: nn.Module, values: torch.Tensor, is_text: bool) -> torch.Tensor:
        """Unit vectors (B, E) on the CPU."""
        vectors = []
        for part in values.split(4096):
            if isinstance(model, TokenClip):
                vectors.append(model.embed(input_ids=part) if is_text else model.embed(part))
            else:
                output = model.get_text_features(part) if is_text else model.get_image_features(part)
                vectors.append(nn.functional.normalize(output.pooler_output.float(), dim=-1))
        return torch.cat(vectors).cpu()

    @torch.no_grad()
    def report(self, model: nn.Module) -> dict:
        """R@1 by script, and the modality gap."""
        images = self.embed(model, self.names.plain, False)
        texts = self.embed(model, self.table[torch.from_numpy(self.chosen).to(self.table.device)], True)
        known = self.partner >= 0
        hits = torch.zeros(len(texts), dtype=torch.bool)
        hits[known] = ranks(texts[known], images, self.partner[known]) == 0
        held_out = torch.arange(len(texts)) >= self.seen
        groups = {"all": held_out | True} | {s: torch.from_numpy(self.scripts == s) for s in sorted(set(self.scripts))}
        row = {"gap": modality_gap(images[self.partner[held_out & known]], texts[held_out & known])}
        for name, side in (("R@1 seen", ~held_out), ("R@1 held out", held_out)):
            found = {str(group): hits[side & own].float() for group, own in groups.items()}
            row[name] = {group: own.mean().item() for group, own in found.items() if len(own)}
        if self.names.similarity is not None and not isinstance(model, TokenClip):
            sides = [self.embed(model, canvases, True) for canvases in self.names.similarity]
            cosines = (sides[0] * sides[1]).sum(1).double().numpy()
            row["STS"] = correlation(average_ranks(cosines), average_ranks(self.names.grades))  # Spearman
        return row

    def experts(self, model: nn.Module) -> dict:
        """Tokens of each expert: block -> image or script -> expert."""
        groups = {"image": (self.names.plain, "image")}
        for script in sorted(set(self.scripts)):
            members = torch.from_numpy(self.chosen[self.scripts == script][-512:])
            groups[script] = (self.table[members.to(self.table.device)], "text")
        return {str(block): table for block, table in expert_use(model, groups).items()}


def divide(fields: dict, settings: dict) -> tuple[dict, dict, str | None]:
    """Fields of a variant -> config fields, settings of its training, and the variant whose image tower it takes."""
    own = {name: fields[name] for name in RUN_SETTINGS if name in fields}
    model = {name: value for name, value in fields.items() if name not in (*RUN_SETTINGS, "image_tower_from")}
    return model, {**settings, **own}, fields.get("image_tower_from")


def run(recipe: dict, names: Names, name: str, fields: dict, seed: int, folder: Path, save_tower: bool) -> dict:
    """Train and evaluate one variant with one seed. `folder` has the image towers that others take."""
    fields, settings, source = divide(fields, recipe["training"])
    set_seed(seed)
    model = make_model(recipe["base"], fields, names).to(names.device)
    if source:  # a trained tower, which is locked now
        state = torch.load(folder / f"{source} {seed}.pt", map_location=names.device)
        model.load_state_dict({k: v for k, v in state.items() if k.startswith("image_")}, strict=False)
    trainer, seconds = train(model, names.batches(settings, seed, fields.get("tokens")), settings, seed, folder)
    model.eval()
    evaluation = Evaluation(names, fields.get("tokens"))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    row = {"variant": name, "seed": seed, "parameters": parameters, "seconds a step": seconds, **settings}
    row |= evaluation.report(model)
    if not isinstance(model, TokenClip):
        row["active"] = active_parameters(model.config, parameters)
        if model.config.num_experts:
            row["experts used"] = effective_experts(trainer.expert_tokens).mean(0).tolist()  # images, texts
            row["experts"] = evaluation.experts(model)
    if save_tower and fields.get("image_tower") == "separate":
        torch.save(model.state_dict(), folder / f"{name} {seed}.pt")
    return row


def measure(recipe: dict, table: str, names: Names, rounds: int) -> dict[str, float]:
    """Seconds of a step of each variant: medians of rounds of two steps, in which the variants alternate."""
    steppers, times = {}, defaultdict(list)
    for name, fields in recipe[table].items():
        fields, settings, _ = divide(fields, {**recipe["training"], "steps": 8})  # all languages from the fifth step on
        model = make_model(recipe["base"], fields, names).to(names.device).train()
        optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-5, fused=True)
        steppers[name] = model, optimizer, iter(names.batches(settings, 0, fields.get("tokens")))

    def step(model, optimizer, batches):
        with torch.autocast(names.device.type, torch.bfloat16, enabled=names.device.type == "cuda"):
            loss = model(**next(batches))["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    for i in range(3 + rounds):  # the first three are not counted
        for name, parts in steppers.items():
            start = clock()
            step(*parts)
            step(*parts)
            times[name] += [(clock() - start) / 2] * (i > 2)
    return {name: float(np.median(values)) for name, values in times.items()}


def at_equal_seconds(variants: dict, steps: int, seconds: dict[str, float]) -> dict:
    """Variants with as many steps as take the time of the reference; those that take the same time are left out."""
    ratios = {name: seconds[REFERENCE] / seconds[name] for name in variants}
    return {
        name: {**fields, "steps": round(steps * ratios[name])}
        for name, fields in variants.items()
        if abs(ratios[name] - 1) > SAME_TIME
    }


def run_table(recipe: dict, table: str, names: Names, args: argparse.Namespace, stop: float) -> None:
    """Run the variants of a table that are missing, each with the first seed, then each with the next."""
    variants, folder = recipe[table], args.output_dir / table
    seconds = args.output_dir / f"{table} seconds.json"
    if args.timing:
        seconds.write_text(json.dumps(measure(recipe, table, names, args.rounds), indent=1), encoding="utf-8")
        print(seconds.read_text(encoding="utf-8"))
        return
    if args.equal_seconds:
        known = json.loads(seconds.read_text(encoding="utf-8"))
        variants, folder = at_equal_seconds(variants, recipe["training"]["steps"], known), Path(f"{folder} seconds")
    folder.mkdir(parents=True, exist_ok=True)
    start = time.time()
    for seed, name in itertools.product(args.seeds or recipe["seeds"], args.variants or variants):
        file = folder / f"{re.sub('[^a-zA-Z0-9]+', '_', name)} {seed}.json"
        if name not in variants or file.exists() or time.time() > stop:
            continue
        row = run(recipe, names, name, variants[name], seed, args.output_dir, not args.equal_seconds)
        row["place"] = list(recipe[table]).index(name)
        file.write_text(json.dumps(row), encoding="utf-8")
        recall = f"R@1 {row['R@1 seen']['all']:.1%} seen, {row['R@1 held out']['all']:.1%} held out"
        print(f"{time.time() - start:.0f} s {table}: {name}, seed {seed}: {recall}", flush=True)


def main() -> None:
    """Run tables of a recipe, variant by variant, and write a file for each run."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("recipe", help="YAML file with data, base, training and variants.")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/sharing"), help="Folder of the results.")
    parser.add_argument("--tables", nargs="+", default=["variants"], help="variants, ablations, text_pairs.")
    parser.add_argument("--variants", nargs="+", help="Variants to run; default: all of a table.")
    parser.add_argument("--data", help="Folder of the emoji data set; default: that of the recipe.")
    parser.add_argument("--steps", type=int, help="Steps of a run; default: those of the recipe.")
    parser.add_argument("--seeds", type=int, nargs="+", help="Seeds; default: those of the recipe.")
    parser.add_argument("--limit_seconds", type=float, default=1e9, help="No run starts after so many seconds.")
    parser.add_argument("--timing", action="store_true", help="Measure the seconds of a step and train nothing.")
    parser.add_argument("--rounds", type=int, default=7, help="Rounds of two steps with --timing.")
    parser.add_argument(
        "--equal_seconds", action="store_true", help=f"Train as long as {REFERENCE} does; --timing comes first."
    )
    args = parser.parse_args()
    start = time.time()
    recipe = yaml.safe_load(Path(args.recipe).read_text(encoding="utf-8"))
    recipe["training"]["steps"] = args.steps or recipe["training"]["steps"]
    args.output_dir.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = Names(recipe, args.data or recipe["data"], device)
    print(f"{len(names.rows)} names, {len(names.pictures)} pictures after {time.time() - start:.0f} s", flush=True)
    for table in args.tables:
        run_table(recipe, table, names, args, start + args.limit_seconds)


if __name__ == "__main__":
    main()
