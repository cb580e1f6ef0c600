"""What a training run needs: memory of one GPU and days, before any GPU is there.

Activation bytes are measured: the model of the real config runs forward under bf16 autocast on PyTorch's fake tensors,
which have shapes and no numbers, and what autograd keeps for the backward pass is counted. FLOPs are exact
(`clippo.training.flops`). The rest of the memory is formula. How much of its peak a GPU reaches is an assumption that
the caller states. Not in the sums: CUDA's context, NCCL's buffers and fragmentation; leave a tenth of the memory free.

Letters: P parameters, B global batch in pairs, b pairs of one GPU, E embedding width.
"""

import functools
import json
import math
from dataclasses import dataclass, replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from clippo.modeling_clippo import ClippoConfig, ClippoModel
from clippo.training.flops import BACKWARD, flops_per_image

SHARDINGS, OPTIMIZERS = ("ddp", "fsdp"), ("adamw", "adafactor")
FLOAT, HALF = 4, 2  # bytes
LOSS_TILES = 4 * FLOAT * 2**22  # the loss makes scores in tiles of 2**22: a tile, its softmax, their gradients
FACTORED = 32  # Adafactor factors the second moment of what has two dimensions of at least this


def activation_bytes(config: ClippoConfig, patches: int | None = None, checkpointing: bool = False) -> int:
    """Bytes that autograd keeps per picture between forward and backward under bf16 autocast, attention by SDPA.

    Args:
        config: Of the model.
        patches: How many patches are read, see `flops_per_image`.
        checkpointing: Blocks keep their inputs only; a block at a time is computed again, which is included.
    """
    if patches is not None:  # only the number of tokens matters
        config = _changed(config, image_size=[config.patch_size, config.patch_size * patches])
    if not checkpointing:
        return _kept(config, 2, False) - _kept(config, 1, False)  # casts of the weights do not grow with the batch
    one, two = (activation_bytes(_changed(config, num_hidden_layers=depth)) for depth in (1, 2))
    return _kept(config, 2, True) - _kept(config, 1, True) + two - one


def _changed(config: ClippoConfig, **fields) -> ClippoConfig:
    return ClippoConfig.from_dict({**config.to_dict(), **fields})


def _kept(config: ClippoConfig, batch: int, checkpointing: bool) -> int:
    """Bytes of the distinct tensors saved for backward by `batch` photographs, parameters left out."""
    return _measure(config.to_json_string(use_diff=False), batch, checkpointing)


@functools.lru_cache(maxsize=256)
def _measure(fields: str, batch: int, checkpointing: bool) -> int:
    config = ClippoConfig.from_dict(json.loads(fields))
    with torch.device("meta"):
        model = ClippoModel._from_config(config, attn_implementation="sdpa").train()
    if checkpointing:  # the second is the older name
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage
        return tensor

    with FakeTensorMode(allow_non_fake_inputs=True):
        model = model.to_empty(device="cpu")
        parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        pixels = torch.empty(batch, config.num_channels, *config.canvas_size)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16):
                model.get_image_features(pixels)
    return sum(storage.nbytes() for key, storage in saved.items() if key not in parameters)


@dataclass(frozen=True)
class Plan:
    """One way to train one model.

    Args:
        config: Of the model.
        global_batch: B.
        gpus: How many share it.
        micro_batch: Pictures encoded at a time (`ClippoModel.micro_batch_size`); None for all b at once.
        checkpointing: Activation checkpointing of the blocks.
        sharding: "ddp", or "fsdp" for parameters, gradients and optimizer state spread over the GPUs.
        optimizer: "adamw", or "adafactor" as in big_vision.
        text_patches: Patches a text inks, None for the whole canvas.

    Raises:
        ValueError: The batch does not divide among the GPUs, or a name is unknown.
    """

    config: ClippoConfig
    global_batch: int
    gpus: int
    micro_batch: int | None = None
    checkpointing: bool = False
    sharding: str = "ddp"
    optimizer: str = "adamw"
    text_patches: int | None = None

    def __post_init__(self):
        if self.gpus < 1 or self.global_batch % self.gpus:
            raise ValueError(f"global_batch={self.global_batch} does not divide among gpus={self.gpus}.")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch={self.micro_batch} encodes nothing; give at least 1.")
        for name, known in (("sharding", SHARDINGS), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r} is not known; choose one of {', '.join(known)}.")
        rows, columns = self.config.patch_grid
        if self.text_patches is not None and not 1 <= self.text_patches <= rows * columns:
            raise ValueError(f"text_patches={self.text_patches} is not between 1 and the canvas's {rows * columns}.")

    @property
    def pairs_per_gpu(self) -> int:
        return self.global_batch // self.gpus

    def memory(self) -> dict[str, float]:
        """Bytes of one GPU by what they are for. They are not all there at once, so the sum is an upper bound."""
        shapes = parameter_shapes(self.config)
        sizes = [math.prod(shape) for shape in shapes.values()]
        state = sum(optimizer_bytes(shape, self.optimizer) for shape in shapes.values())
        own, count = self.pairs_per_gpu, sum(sizes)
        if self.sharding == "ddp":
            # bf16 copies that autocast keeps during a step; gradients a second time in DDP's buckets
            parameters, gradients = (FLOAT + HALF) * count, 2 * FLOAT * count
        else:
            block = sum(math.prod(s) for name, s in shapes.items() if ".layers.0." in name)
            gathered = 2 * HALF * block  # two blocks at a time in bf16, and their gradients
            parameters, gradients, state = (
                FLOAT * count / self.gpus + gathered,
                FLOAT * count / self.gpus + gathered,
                state / self.gpus,
            )
        image = activation_bytes(self.config, None, self.checkpointing)
        text = activation_bytes(self.config, self.text_patches, self.checkpointing)
        at_a_time = own if self.micro_batch is None else min(own, self.micro_batch)
        # With micro-batches one of them is alive at a time, pictures of one side only.
        activations = own * (image + text) if self.micro_batch is None else at_a_time * max(image, text)
        height, width = self.config.canvas_size
        embedding = FLOAT * self.config.projection_dim
        return {
            "parameters": parameters,
            "gradients": gradients,
            "optimizer": state,
            "activations": activations,
            # own rows of both sides: features, unit vectors, gradients; gathered rows of one side and their gradient
            "loss": (6 * own + 2 * self.global_batch) * embedding + LOSS_TILES,
            "inputs": own * height * width * (FLOAT * self.config.num_channels + 1 / 8),  # floats, packed bits
        }

    def flops_per_step(self) -> tuple[float, float]:
        """Of one GPU: what the model needs (the convention of MFU), and what is done, recomputation included."""
        pair = flops_per_image(self.config) + flops_per_image(self.config, self.text_patches)
        forwards = 1 + self.checkpointing + (self.micro_batch is not None)
        return self.pairs_per_gpu * (1 + BACKWARD) * pair, self.pairs_per_gpu * (forwards + BACKWARD) * pair

    def traffic(self) -> float:
        """Bytes one GPU sends a step: gradients as a ring does it, parameters too if sharded, embeddings."""
        count = sum(math.prod(shape) for shape in parameter_shapes(self.config).values())
        others = (self.gpus - 1) / self.gpus
        # FSDP in bf16: gathered for forward and for backward, gradients scattered. DDP: float32 gradients, both ways.
        weights = 3 * HALF * count if self.sharding == "fsdp" else 2 * FLOAT * count
        return others * (weights + 2 * FLOAT * self.global_batch * self.config.projection_dim)


def parameter_shapes(config: ClippoConfig) -> dict[str, torch.Size]:
    """Of every parameter of a `ClippoModel`, without making one."""
    with torch.device("meta"):
        return {name: parameter.shape for name, parameter in ClippoModel(config).named_parameters()}


def optimizer_bytes(shape: tuple[int, ...], optimizer: str) -> int:
    """State of one parameter: AdamW's two moments; Adafactor's bf16 momentum and second moment by row and column."""
    numel = math.prod(shape)
    if optimizer == "adamw":
        return 2 * FLOAT * numel
    sides = sorted(shape)[-2:]
    factored = len(sides) == 2 and min(sides) >= FACTORED
    second_moment = sum(numel // side for side in sides) if factored else numel
    return HALF * numel + FLOAT * second_moment


def fit(plan: Plan, gpu_bytes: float) -> Plan | None:
    """The plan with the least recomputation that needs no more than `gpu_bytes`; None if there is none.

    In order: all at once; micro-batches, the largest power of two that fits; these with checkpointing.
    """
    micro_batches = [2**k for k in range(plan.pairs_per_gpu.bit_length() - 1, -1, -1)]
    options = [(None, False), *((m, False) for m in micro_batches), *((m, True) for m in micro_batches)]
    for micro_batch, checkpointing in options:
        candidate = replace(plan, micro_batch=micro_batch, checkpointing=checkpointing)
        if sum(candidate.memory().values()) <= gpu_bytes:
            return candidate
    return None


def plan_table(plans: list[Plan], gpu_bytes: float, peak: float, utilisation: float, pairs: float) -> str:
    """Markdown: each plan, made to fit nine tenths of a GPU, with its memory, its speed and how long it takes.

    Args:
        plans: Of one model.
        gpu_bytes: Memory of one GPU.
        peak: FLOP/s of one GPU.
        utilisation: Share of the peak that the machine's work, recomputation included, is assumed to reach.
        pairs: Seen in the whole run.
    """
    config = plans[0].config
    rows, columns = config.patch_grid
    count = sum(math.prod(shape) for shape in parameter_shapes(config).values())
    kept = {ckpt: activation_bytes(config, None, ckpt) / 1e6 for ckpt in (False, True)}
    lines = [
        f"{count / 1e6:.0f} M parameters, {rows * columns} patches. Measured (fake tensors on the CPU, bf16 autocast, "
        f"SDPA): a picture keeps {kept[False]:.1f} MB for backward, {kept[True]:.1f} MB with checkpointing.",
        f"Exact: {flops_per_image(config) / 1e9:.1f} GFLOP forward a picture. By formula: the other memory. Assumed, "
        f"not measured: {utilisation:.0%} of {peak / 1e12:,.0f} TFLOP/s, with communication hidden behind it: see "
        "whether the network can send what the last column but one says.",
        "",
        "| pairs a step | GPUs | pairs a GPU | micro-batch | checkpointing | GB a GPU | of it activations | s a step | "
        "pairs/s | MFU | GB/s sent a GPU | days |",
        "|" + "---:|" * 12,
    ]
    for wanted in plans:
        start = f"| {wanted.global_batch:,} | {wanted.gpus} | {wanted.pairs_per_gpu:,} |"
        plan = fit(wanted, 0.9 * gpu_bytes)
        if plan is None:
            lines.append(f"{start} does not fit |" + " |" * 8)
            continue
        memory, (needed, done) = plan.memory(), plan.flops_per_step()
        seconds = done / (peak * utilisation)
        cells = (
            plan.micro_batch or "all",
            "yes" if plan.checkpointing else "no",
            f"{sum(memory.values()) / 1e9:.1f}",
            f"{memory['activations'] / 1e9:.1f}",
            f"{seconds:.3g}",
            f"{plan.global_batch / seconds:,.0f}",
            f"{needed / seconds / peak:.0%}",
            f"{plan.traffic() / seconds / 1e9:.1f}",
            f"{pairs / plan.global_batch * seconds / 86400:.2g}",
        )
        lines.append(f"{start} " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
