"""What FSDP2 must leave in float32."""

import torch
from torch.distributed.fsdp import MixedPrecisionPolicy


def keep_loss_in_float32(accelerator) -> None:
    """Let accelerate's FSDP2 compute in bf16 what it is asked to, but not the loss and not the sum of gradients.

    Left alone, accelerate makes every output of every module bf16 under mixed_precision="bf16", the loss included, and
    adds gradients up in bf16 over the processes. To be called between the making of the `Accelerator` and
    `prepare(model)`; does nothing without FSDP2 or without bf16.

    Args:
        accelerator: As `transformers.Trainer` holds it.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.fsdp_version == 2 and accelerator.mixed_precision == "bf16":
        plugin.mixed_precision_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
