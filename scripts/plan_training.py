#!/usr/bin/env python
"""Memory of one GPU and days of a training run, as a table, before any GPU is there.

python scripts/plan_training.py --preset L/16 --global_batch 32768 --gpus 64
python scripts/plan_training.py --preset B/16 --global_batch 10240 32768 --gpus 8 32 128 --text_patches 28
"""

from dataclasses import dataclass, field

from transformers import HfArgumentParser

from clippo.modeling_clippo import ClippoConfig
from clippo.training.planning import OPTIMIZERS, SHARDINGS, Plan, plan_table


@dataclass
class PlanArguments:
    preset: str = field(default="B/16", metadata={"help": "Size of the model: Ti, S, B, L or H, '/', patch side."})
    image_size: int = field(default=224, metadata={"help": "Side of the canvas in pixels."})
    global_batch: list[int] = field(default_factory=lambda: [10240], metadata={"help": "Pairs a step."})
    gpus: list[int] = field(default_factory=lambda: [8, 32, 64, 128, 256], metadata={"help": "How many GPUs."})
    text_patches: int | None = field(
        default=None, metadata={"help": "Patches a text inks (28 are two full rows of 224 pixels); default: all."}
    )
    sharding: str = field(default="ddp", metadata={"help": "Who holds what.", "choices": list(SHARDINGS)})
    optimizer: str = field(default="adafactor", metadata={"help": "Whose state.", "choices": list(OPTIMIZERS)})
    gpu_memory: float = field(default=80.0, metadata={"help": "Of one GPU, in 10^9 bytes; nine tenths are used."})
    tflops: float = field(default=989.0, metadata={"help": "Peak of one GPU in bf16; 989 for H100 and H200, dense."})
    utilisation: float = field(default=0.4, metadata={"help": "Share of the peak that is reached: an assumption."})
    pairs: float = field(default=2.56e9, metadata={"help": "Pairs seen in all; the paper's 250,000 steps of 10,240."})


def main(arguments: list[str] | None = None) -> None:
    (args,) = HfArgumentParser(PlanArguments).parse_args_into_dataclasses(arguments)
    try:
        config = ClippoConfig.from_preset(args.preset, image_size=args.image_size)
        plans = [
            Plan(
                config,
                batch,
                gpus,
                sharding=args.sharding,
                optimizer=args.optimizer,
                text_patches=args.text_patches,
            )
            for batch in args.global_batch
            for gpus in args.gpus
        ]
        print(plan_table(plans, args.gpu_memory * 1e9, args.tflops * 1e12, args.utilisation, args.pairs))
    except ValueError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
