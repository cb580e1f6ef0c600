"""Memory of one GPU and days of a training run, computed without a GPU.

Activation bytes are measured. The model of the real config runs forward under bf16 autocast on PyTorch's fake tensors,
which have shapes and no numbers, and the tensors that autograd keeps for the backward pass are counted. FLOPs are exact
(`clippo.training.flops`). The rest of the memory follows formulas. The caller assumes which share of its peak a GPU
reaches. CUDA's context, NCCL's buffers and fragmentation are not included; leave a tenth of the memory free.

Letters: P parameters, B global batch in pairs, b pairs of one GPU, E embedding width.
"""

import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import HfArgumentParser

from clippo.modeling_clippo import ClippoConfig, ClippoModel
from clippo.modeling_clippo.loss_clippo import TILE_NUMBERS
from clippo.training.adafactor import MIN_FACTORED_SIZE
from clippo.training.flops import BACKWARD, flops_per_image

SHARDINGS, OPTIMIZERS = ("ddp", "fsdp"), ("adamw", "adafactor")
FLOAT, HALF = 4, 2  # bytes
LOSS_TILES = 4 * FLOAT * TILE_NUMBERS  # a tile of scores, its softmax, their gradients
MEMORY_SHARE = 0.9  # of a GPU
COLUMNS = (
    "pairs a step", "GPUs", "pairs a GPU", "micro-batch", "checkpointing", "GB a GPU", "of it activations", "s a step",
    "pairs/s", "MFU", "GB/s sent a GPU", "days",
)  # fmt: skip


def activation_bytes(config: ClippoConfig, patches: int | None = None, checkpointing: bool = False) -> int:
    """Bytes that autograd keeps per image between forward and backward under bf16 autocast with SDPA attention.

    Args:
        config: Model config.
        patches: Number of patches that are read, see `flops_per_image`.
        checkpointing: Whether blocks keep their inputs only. The block that is recomputed at a time is included.
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
    """Bytes of the distinct tensors saved for backward by `batch` images, without parameters."""
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
        config: Model config.
        global_batch: Pairs a step, B.
        gpus: Number of GPUs that share the batch.
        micro_batch: Full canvases whose patches are encoded at a time (`ClippoModel.micro_batch_size`). None for all
            images and texts at once.
        checkpointing: Whether the blocks are checkpointed.
        sharding: "ddp", or "fsdp" for parameters, gradients and optimizer state spread over the GPUs.
        optimizer: "adamw", or "adafactor" as in big_vision.
        text_patches: Inked patches of a text, None for the whole canvas.

    Raises:
        ValueError: The batch does not divide among the GPUs, or a name is unknown.

    Example:
        >>> from clippo import ClippoConfig
        >>> from clippo.training.planning import Plan
        >>> plan = Plan(ClippoConfig.from_preset("Ti/16"), global_batch=4096, gpus=8)
        >>> plan.pairs_per_gpu, f"{plan.memory()['optimizer'] / 1e6:.0f} MB"
        (512, '49 MB')
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
        """Returns the bytes of one GPU by purpose. They are not all in use at once, so the sum is an upper bound."""
        own = self.pairs_per_gpu
        height, width = self.config.canvas_size
        embedding = FLOAT * self.config.projection_dim
        return {
            **self._weights(),
            "activations": self._activations(),
            # own rows of both sides: features, unit vectors, gradients; gathered rows of one side and their gradient
            "loss": (6 * own + 2 * self.global_batch) * embedding + LOSS_TILES,
            "inputs": own * height * width * (FLOAT * self.config.num_channels + 1 / 8),  # floats, packed bits
        }

    def _weights(self) -> dict[str, float]:
        shapes = parameter_shapes(self.config)
        count = sum(math.prod(shape) for shape in shapes.values())
        state = sum(optimizer_bytes(shape, self.optimizer) for shape in shapes.values())
        if self.sharding == "ddp":
            # bf16 copies that autocast keeps during a step; gradients a second time in DDP's buckets
            return {"parameters": (FLOAT + HALF) * count, "gradients": 2 * FLOAT * count, "optimizer": state}
        block = sum(math.prod(shape) for name, shape in shapes.items() if ".layers.0." in name)
        sharded = FLOAT * count / self.gpus + 2 * HALF * block  # two blocks at a time are gathered in bf16
        return {"parameters": sharded, "gradients": sharded, "optimizer": state / self.gpus}

    def _activations(self) -> float:
        image = activation_bytes(self.config, None, self.checkpointing)
        text = activation_bytes(self.config, self.text_patches, self.checkpointing)
        if self.micro_batch is None:
            return self.pairs_per_gpu * (image + text)
        # One part is alive at a time, with at most as many patches as that many full canvases.
        return min(self.pairs_per_gpu * (image + text), self.micro_batch * max(image, text))

    def flops_per_step(self) -> tuple[float, float]:
        """Returns the FLOPs of one GPU: those of the model (the convention of MFU), and those with recomputation."""
        pair = flops_per_image(self.config) + flops_per_image(self.config, self.text_patches)
        forwards = 1 + self.checkpointing + (self.micro_batch is not None)
        return self.pairs_per_gpu * (1 + BACKWARD) * pair, self.pairs_per_gpu * (forwards + BACKWARD) * pair

    def traffic(self) -> float:
        """Returns the bytes one GPU sends a step: gradients in a ring, parameters too if sharded, embeddings."""
        count = sum(math.prod(shape) for shape in parameter_shapes(self.config).values())
        others = (self.gpus - 1) / self.gpus
        # FSDP in bf16: gathered for forward and for backward, gradients scattered. DDP: float32 gradients, both ways.
        weights = 3 * HALF * count if self.sharding == "fsdp" else 2 * FLOAT * count
        return others * (weights + 2 * FLOAT * self.global_batch * self.config.projection_dim)


def parameter_shapes(config: ClippoConfig) -> dict[str, torch.Size]:
    """Returns the shape of every parameter of a `ClippoModel`, without allocating one."""
    with torch.device("meta"):
        return {name: parameter.shape for name, parameter in ClippoModel(config).named_parameters()}


def optimizer_bytes(shape: tuple[int, ...], optimizer: str) -> int:
    """Bytes of one parameter's state: AdamW's two moments; Adafactor's bf16 momentum and factored second moment."""
    numel = math.prod(shape)
    if optimizer == "adamw":
        return 2 * FLOAT * numel
    sides = sorted(shape)[-2:]
    factored = len(sides) == 2 and min(sides) >= MIN_FACTORED_SIZE
    second_moment = sum(numel // side for side in sides) if factored else numel
    return HALF * numel + FLOAT * second_moment


def fit(plan: Plan, gpu_bytes: float) -> Plan | None:
    """Returns the plan with the least recomputation that needs no more than `gpu_bytes`; None if there is none.

    The order is: all at once; micro-batches, the largest power of two that fits; micro-batches with checkpointing.
    """
    micro_batches = [2**k for k in range(plan.pairs_per_gpu.bit_length() - 1, -1, -1)]
    options = [(None, False), *((m, False) for m in micro_batches), *((m, True) for m in micro_batches)]
    for micro_batch, checkpointing in options:
        candidate = replace(plan, micro_batch=micro_batch, checkpointing=checkpointing)
        if sum(candidate.memory().values()) <= gpu_bytes:
            return candidate
    return None


def plan_table(plans: list[Plan], gpu_bytes: float, peak: float, utilisation: float, pairs: float) -> str:
    """Returns a Markdown table: each plan, made to fit nine tenths of a GPU, with its memory, speed and duration.

    Args:
        plans: Plans of one model.
        gpu_bytes: Memory of one GPU.
        peak: FLOP/s of one GPU.
        utilisation: Assumed share of the peak that a GPU reaches, recomputation included.
        pairs: Pairs of the whole run.
    """
    head = ["| " + " | ".join(COLUMNS) + " |", "|" + "---:|" * len(COLUMNS)]
    rows = [_plan_row(wanted, gpu_bytes, peak, utilisation, pairs) for wanted in plans]
    return "\n".join([*_table_notes(plans[0].config, peak, utilisation), "", *head, *rows])


def _table_notes(config: ClippoConfig, peak: float, utilisation: float) -> list[str]:
    rows, columns = config.patch_grid
    count = sum(math.prod(shape) for shape in parameter_shapes(config).values())
    plain, checkpointed = (activation_bytes(config, None, checkpointing) / 1e6 for checkpointing in (False, True))
    return [
        f"{count / 1e6:.0f} M parameters, {rows * columns} patches. Measured (fake tensors on the CPU, bf16 autocast, "
        f"SDPA): an image keeps {plain:.1f} MB for backward, {checkpointed:.1f} MB with checkpointing.",
        f"Exact: {flops_per_image(config) / 1e9:.1f} GFLOP forward an image. By formula: the other memory. Assumed, "
        f"not measured: {utilisation:.0%} of {peak / 1e12:,.0f} TFLOP/s, with communication hidden behind it. Check "
        "that the network can send the rate in the last column but one.",
    ]


def _plan_row(wanted: Plan, gpu_bytes: float, peak: float, utilisation: float, pairs: float) -> str:
    start = f"| {wanted.global_batch:,} | {wanted.gpus} | {wanted.pairs_per_gpu:,} |"
    plan = fit(wanted, MEMORY_SHARE * gpu_bytes)
    if plan is None:
        return f"{start} does not fit |" + " |" * 8
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
    return f"{start} " + " | ".join(map(str, cells)) + " |"


@dataclass
class PlanArguments:
    """Command line of the planner."""

    preset: str = field(default="B/16", metadata={"help": "Size of the model: Ti, S, B, L or H, '/', patch side."})
    image_size: int = field(default=224, metadata={"help": "Side of the canvas in pixels."})
    global_batch: list[int] = field(default_factory=lambda: [10240], metadata={"help": "Pairs a step."})
    gpus: list[int] = field(default_factory=lambda: [8, 32, 64, 128, 256], metadata={"help": "Numbers of GPUs."})
    text_patches: int | None = field(
        default=None, metadata={"help": "Inked patches of a text (28 are two full rows of 224 pixels); default: all."}
    )
    sharding: str = field(
        default="ddp", metadata={"help": "Copies on every GPU, or shards.", "choices": list(SHARDINGS)}
    )
    optimizer: str = field(default="adafactor", metadata={"help": "Optimizer.", "choices": list(OPTIMIZERS)})
    gpu_memory: float = field(default=80.0, metadata={"help": "10^9 bytes of one GPU; nine tenths are used."})
    tflops: float = field(default=989.0, metadata={"help": "Peak of one GPU in bf16; 989 for H100 and H200, dense."})
    utilisation: float = field(default=0.4, metadata={"help": "Assumed share of the peak that is reached."})
    pairs: float = field(default=2.56e9, metadata={"help": "Pairs of the run; the paper has 250,000 steps of 10,240."})


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table of plans that a command line describes (default: `sys.argv[1:]`)."""
    (args,) = HfArgumentParser(PlanArguments).parse_args_into_dataclasses(argv)
    options = dict(sharding=args.sharding, optimizer=args.optimizer, text_patches=args.text_patches)
    try:
        config = ClippoConfig.from_preset(args.preset, image_size=args.image_size)
        plans = [Plan(config, batch, gpus, **options) for batch in args.global_batch for gpus in args.gpus]
        print(plan_table(plans, args.gpu_memory * 1e9, args.tflops * 1e12, args.utilisation, args.pairs))
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None
