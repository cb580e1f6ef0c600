"""Compare models that share more or less between images and texts, on emoji in many languages, in one run.

Every variant of a table in `recipes/sharing/` is trained on the same batches with the same seeds. Pictures and texts
are computed once and stay on the device, so the time of a step is the time of the model. CLIP* is built here:
transformers' `CLIPModel` with two towers of the same width and depth, on byte pairs or bytes of the same names.

    python benchmarks/sharing.py recipes/sharing/emoji.yaml --output_dir runs/sharing

The output is a JSON file with one row for each variant and seed, and a table of their means. A command that is stopped
continues with the rows that are missing.
"""

import argparse
import itertools
import json
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import nn
from torch.utils.data import IterableDataset
from transformers import CLIPConfig, CLIPModel, Trainer, TrainerCallback, TrainingArguments, set_seed

import clippo
from clippo.emoji import EmojiPairs, RandomView
from clippo.evaluation.expert_use import expert_use
from clippo.evaluation.metrics import modality_gap
from clippo.evaluation.retrieval import ranks
from clippo.modeling_clippo.loss_clippo import contrastive_loss
from clippo.modeling_clippo.model_card_clippo import active_parameters
from clippo.training.expert_meters import effective_experts
from clippo.training.optimization import decay_parameter_names

FIRST = ("en", "de", "es", "fr", "pt", "id", "ru", "ar", "hi", "zh", "ja", "ko")  # the order in which languages join
BYTE_TOKENS, PAIR_TOKENS = 96, 48  # most tokens of a name
VOCABULARY = 8192  # byte pairs
SEEN = 5_000  # names of the training set in the evaluation


class Names:
    """Names of the pictures in all languages as tables on the device: canvases, and tokens where they are asked for."""

    def __init__(self, recipe: dict, folder: str, device: torch.device):
        size, settings, languages = recipe["base"]["image_size"], recipe["training"], recipe["languages"]
        train = EmojiPairs(folder, "train", languages, sampling=False)
        held_out = EmojiPairs(folder, "held_out", languages, sampling=False)
        self.device, self.scripts = device, train.scripts
        chosen = set(np.random.default_rng(0).permutation(len(train.images))[: settings.get("pictures")].tolist())
        trained, kept = (
            [(item["picture"], item["language"], item["text"]) for item in pairs if item["picture"] in chosen]
            for pairs in (train, held_out)
        )
        self.rows, self.split = trained + kept, len(trained)
        self.texts = [text for _, _, text in self.rows]
        tokenizer = clippo.ClippoTokenizer(canvas_size=size, canvas_format="packed", overflow="ignore")
        parts = [self.texts[i : i + 4096] for i in range(0, len(self.texts), 4096)]
        canvases = [tokenizer(part, return_tensors="pt")["text_pixel_values"] for part in parts]
        self.canvases = torch.cat(canvases).to(device)
        self.tokens: dict[str, torch.Tensor] = {}
        self._sort_by_language()
        self._draw_views(train.images, size, settings["views"])

    def _sort_by_language(self) -> None:
        """Table (pictures, most texts) of the training names of each picture, in the order in which languages join."""
        counts = defaultdict(int)
        for _, language, _ in self.rows[: self.split]:
            counts[language] += 1
        others = sorted(counts.keys() - set(FIRST), key=lambda code: (-counts[code], code))
        order = [code for code in FIRST if code in counts] + others
        rank = {code: i for i, code in enumerate(order)}
        members = defaultdict(list)
        for i, (picture, language, _) in enumerate(self.rows[: self.split]):
            members[picture].append((rank[language], i))
        self.languages, self.pictures = len(order), sorted(members)
        longest = max(map(len, members.values()))
        table = torch.full((len(members), longest, 2), len(order), dtype=torch.int64)
        for place, picture in enumerate(self.pictures):
            own = torch.tensor(sorted(members[picture]))
            table[place, : len(own)] = own
        self.ranks, self.of_picture = table[..., 0].to(self.device), table[..., 1].to(self.device)

    def _draw_views(self, images: np.ndarray, size: int, views: int) -> None:
        pixels = torch.from_numpy(images[self.pictures]).to(self.device)
        view = RandomView(size, dtype=torch.uint8)
        plain = RandomView(size, scale=(1.0, 1.0), shift=0.0, degrees=0.0, p_color=0.0, dtype=torch.uint8)

        def drawn(how, seed):
            return how.views(pixels, how.draw(range(seed * len(pixels), (seed + 1) * len(pixels))).to(self.device))

        self.views = torch.stack([drawn(view, seed) for seed in range(views)])  # (views, P, 3, S, S)
        self.plain = drawn(plain, 0)

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


class Batches(IterableDataset):
    """Batches of one run, the same for every variant: pictures, and K names of each with an English one first."""

    def __init__(self, names: Names, training: dict, seed: int, tokens: str | None):
        self.names, self.training, self.seed = names, training, seed
        self.key, self.table = "text_pixel_values", names.canvases
        if tokens:
            self.key, self.table = "input_ids", names.token_table(tokens)

    def __iter__(self):
        names, settings = self.names, self.training
        generator = torch.Generator(names.device).manual_seed(self.seed)
        steps, images, count = settings["steps"], settings["images"], settings["texts_per_image"]
        pairs = int(images * settings.get("text_pairs", 0))

        def draw(*shape):
            return torch.rand(*shape, device=names.device, generator=generator)

        for step in itertools.count():
            joined = np.interp(step, [steps / 8, steps * 5 / 8], [min(12, names.languages), names.languages])
            chosen = draw(len(names.pictures)).argsort()[:images]  # places of the pictures
            known = (names.ranks[chosen] < int(joined)).sum(1, keepdim=True)  # (B, 1)
            others = (draw(images, count) * known).long().minimum(known - 1)
            if count > 1:
                others[:, 0] = 0
            texts = names.of_picture[chosen].gather(1, others)  # (B, K)
            view = (draw(images) * len(names.views)).long()
            batch = {"pixel_values": names.views[view[pairs:], chosen[pairs:]]}
            rows = torch.cat([texts[pairs:], texts[:pairs]])
            if pairs:
                firsts = names.of_picture[chosen[:pairs]].gather(1, (draw(pairs, 1) * known[:pairs]).long())
                batch["first_" + self.key] = self.table[firsts[:, 0]]
            yield {**batch, self.key: self.table[rows.T.flatten()], "return_loss": True}


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
        else:
            input_ids = input_ids[:, : int((input_ids != 0).sum(1).max())]
            features = self.clip.get_text_features(input_ids=input_ids, attention_mask=(input_ids != 0).long())
        return nn.functional.normalize(features.pooler_output.float(), dim=-1)

    def forward(self, pixel_values, input_ids, return_loss=True):
        scale = self.clip.logit_scale.exp()[None]
        return {"loss": contrastive_loss(self.embed(pixel_values), self.embed(input_ids=input_ids), scale).loss}


class StepMarks(TrainerCallback):
    """Clock of a run, which waits for the device at the marks only."""

    def __init__(self, steps: int):
        self.first, self.last, self.times = steps // 10, steps, []

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step in (self.first, self.last):
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.times.append(time.perf_counter())

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
    attention = "sdpa" if names.device.type == "cuda" else "eager"
    return clippo.ClippoModel._from_config(clippo.ClippoConfig(**{**base, **fields}), attn_implementation=attention)


def train(model: nn.Module, batches: Batches, settings: dict, seed: int, folder: Path) -> tuple[DeviceTrainer, float]:
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
        by_script = {"all": held_out} | {s: held_out & torch.from_numpy(self.scripts == s) for s in set(self.scripts)}
        gap = modality_gap(images[self.partner[held_out & known]], texts[held_out & known])
        recall = {script: hits[rows].float().mean().item() for script, rows in sorted(by_script.items()) if rows.any()}
        return {"R@1 seen": hits[: self.seen].float().mean().item(), "R@1 held out": recall, "gap": gap}

    def experts(self, model: nn.Module) -> dict:
        """Tokens of each expert: block -> image or script -> expert."""
        groups = {"image": (self.names.plain, "image")}
        for script in sorted(set(self.scripts)):
            members = torch.from_numpy(self.chosen[self.scripts == script][-512:])
            groups[script] = (self.table[members.to(self.table.device)], "text")
        return {str(block): table for block, table in expert_use(model, groups).items()}


def run(table: dict, names: Names, name: str, fields: dict, seed: int, folder: Path) -> dict:
    """Train and evaluate one variant with one seed."""
    own = {name: fields[name] for name in ("texts_per_image", "text_pairs", "steps") if name in fields}
    settings = {**table["training"], **own}
    fields = {name: value for name, value in fields.items() if name not in own}
    source = fields.pop("image_tower_from", None)
    set_seed(seed)
    model = make_model(table["base"], fields, names).to(names.device)
    if source:  # a trained tower, which is locked now
        state = torch.load(folder / f"{source} {seed}.pt", map_location=names.device)
        model.load_state_dict({k: v for k, v in state.items() if k.startswith("image_")}, strict=False)
    trainer, seconds = train(model, Batches(names, settings, seed, fields.get("tokens")), settings, seed, folder)
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
    if fields.get("image_tower") == "separate":
        torch.save(model.state_dict(), folder / f"{name} {seed}.pt")
    return row


def as_markdown(rows: list[dict]) -> str:
    """Means over the seeds and their range, one line a variant."""
    head = ("variant", "R@1 seen", "R@1 held out", "gap", "parameters", "active", "ms a step", "seeds")
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name in dict.fromkeys(row["variant"] for row in rows):
        own = [row for row in rows if row["variant"] == name]

        def cell(values, scale=100, digits=1):
            values = [scale * value for value in values]
            return f"{np.mean(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"

        seen, held_out = cell([row["R@1 seen"] for row in own]), cell([row["R@1 held out"]["all"] for row in own])
        gap, times = cell([row["gap"]["distance"] for row in own], 1, 3), [row["seconds a step"] for row in own]
        total, active = (own[0].get(kind, own[0]["parameters"]) / 1e6 for kind in ("parameters", "active"))
        sizes = f"{total:.2f} M | {active:.2f} M | {1000 * np.median(times):.1f} | {len(own)}"
        lines.append(f"| {name} | {seen} | {held_out} | {gap} | {sizes} |")
    return "\n".join(lines) + "\n"


def run_table(recipe: dict, table: str, names: Names, seeds: list[int], folder: Path, stop: float | None) -> None:
    """Run the variants of a table that are missing, each with the first seed, then each with the next."""
    file = folder / f"{table}.json"
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    done, start = {(row["variant"], row["seed"]) for row in rows}, time.time()
    for seed, (name, fields) in itertools.product(seeds, recipe[table].items()):
        if (name, seed) in done or (stop is not None and time.time() > stop):
            continue
        rows.append(run(recipe, names, name, fields, seed, folder))
        file.write_text(json.dumps(rows), encoding="utf-8")
        recall = rows[-1]["R@1 held out"]["all"]
        print(f"{time.time() - start:.0f} s {name}, seed {seed}: {recall:.1%} held out", flush=True)
    file.with_suffix(".md").write_text(as_markdown(rows), encoding="utf-8")
    print(as_markdown(rows))


def main() -> None:
    """Run tables of a recipe, variant by variant, and write rows and means."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("recipe", help="YAML file with data, base, training and variants.")
    parser.add_argument("--output_dir", type=Path, default=Path("runs/sharing"), help="Folder of the results.")
    parser.add_argument(
        "--tables", nargs="+", default=["variants"], help="Of the recipe: variants, ablations, text_pairs."
    )
    parser.add_argument("--data", help="Folder of the emoji data set; default: that of the recipe.")
    parser.add_argument("--steps", type=int, help="Steps of a run; default: those of the recipe.")
    parser.add_argument("--seeds", type=int, nargs="+", help="Seeds; default: those of the recipe.")
    parser.add_argument("--limit_seconds", type=float, help="No run starts after so many seconds.")
    args = parser.parse_args()
    start = time.time()
    recipe = yaml.safe_load(Path(args.recipe).read_text(encoding="utf-8"))
    recipe["training"]["steps"] = args.steps or recipe["training"]["steps"]
    args.output_dir.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    names = Names(recipe, args.data or recipe["data"], device)
    print(f"{len(names.rows)} names, {len(names.pictures)} pictures after {time.time() - start:.0f} s", flush=True)
    stop = None if args.limit_seconds is None else start + args.limit_seconds
    for table in args.tables:
        run_table(recipe, table, names, args.seeds or recipe["seeds"], args.output_dir, stop)


if __name__ == "__main__":
    main()
