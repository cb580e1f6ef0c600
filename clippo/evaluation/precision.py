"""Type of the weights in an evaluation."""

import torch

FAST = "fast"


def resolve_dtype(name: str, device: torch.device) -> str:
    """Type of the weights that a name means on a device.

    Args:
        name: "float32", "bfloat16" or "float16", returned as it is. "fast" is bfloat16 where the device has matrix
            units for it, which are GPUs and CPUs with AMX, and float32 elsewhere. On a CPU with AVX-512 alone bfloat16
            is slower than float32.
        device: Device of the model.

    Example:
        >>> from clippo.evaluation.precision import resolve_dtype
        >>> resolve_dtype("float16", torch.device("cpu"))
        'float16'
    """
    if name != FAST:
        return name
    if device.type == "cpu":
        has_units = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    else:
        has_units = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if has_units else "float32"
