"""big_vision's Adafactor, the optimizer CLIPPO was trained with, as a torch optimizer.

Source: big_vision `optax.py` (`scale_by_adafactor`, the order of the steps in `make`), optax 0.1.5
(`scale_by_factored_rms`, `ema`); Shazeer and Stern, Adafactor (2018); Zhai et al., Scaling Vision Transformers (2022).
"""

import math
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from clippo.conversion import weight_table

# Shape of a parameter in the official code, with separate heads but PyTorch's order of axes, and for each of these axes
# its number in the official order. Plain tuples, since they are saved with the optimizer.
Layout = tuple[tuple[int, ...], tuple[int, ...]]

DECAY_RATE = 0.8  # the second moment of step t (from 1) keeps 1 - t^-0.8 of itself
EPSILON = 1e-30  # added to the squared gradient
MIN_FACTORED_SIZE = 32


def own_layout(parameter: torch.Tensor, stacked: bool = False) -> Layout:
    """Layout of a parameter that the official model lacks: its own shape, a matrix transposed as a Dense kernel.

    Args:
        parameter: Parameter of any shape.
        stacked: Whether the first axis counts experts. The other axes then have the layout of one expert's parameter.
    """
    order = list(range(parameter.ndim))
    first = int(stacked)
    if parameter.ndim - first == 2:
        order[first:] = reversed(order[first:])
    return tuple(parameter.shape), tuple(order)


def official_layouts(model: nn.Module) -> dict[str, Layout]:
    """Returns parameter name -> layout for every parameter of a CLIPPO model or head.

    The conversion's weight table has the shape of each parameter in the official model. The shape decides what is
    factored. A query kernel is (width, heads, width / heads) there, so a model of width 64 with 4 heads factors none of
    its attention.

    Args:
        model: `ClippoVisionModel`, or a model that holds one as `vision_model`, with a `ClippoConfig` as `config`.
    """
    table = {weight.name: weight for weight in weight_table(model.config)}
    layouts = {}
    for name, parameter in model.named_parameters():
        # Wrappers add their own names, and the tower alone lacks the prefix that it has inside other models.
        bare = ".".join(part for part in name.split(".") if part not in ("module", "_orig_mod"))
        bare = re.sub("^image_(?=projection)", "", bare.replace("image_model.", "vision_model."))  # a second tower
        weight = table.get(bare) or table.get(f"vision_model.{bare}")
        if weight is not None and math.prod(weight.shape) == parameter.numel():
            layouts[name] = tuple(weight.shape[axis] for axis in weight.axes), weight.axes
        else:
            layouts[name] = own_layout(parameter, stacked=".experts." in name)
    return layouts


def factored_axes(layout: Layout) -> tuple[int, int] | None:
    """Returns the two axes of the layout's shape that the second moment is factored over, the longest last, or None.

    The rule is optax's: the two longest official axes, ties in their official order, if both have 32 or more entries.
    """
    shape, official = layout
    by_size = sorted(range(len(shape)), key=lambda axis: (shape[axis], official[axis]))
    if len(shape) < 2 or shape[by_size[-2]] < MIN_FACTORED_SIZE:
        return None
    return by_size[-2], by_size[-1]


class BigVisionAdafactor(torch.optim.Optimizer):
    """Adafactor with momentum in bfloat16 and a weight decay that the learning rate does not scale.

    In step t (from 1), with gradient g:

        beta2 = min(beta2_cap, 1 - t^-0.8)
        v     = beta2 v + (1 - beta2) (g^2 + 1e-30)        factored into rows and columns, see factored_axes
        m     = momentum m + (1 - momentum) g / sqrt(v)    not debiased; m is rounded to bfloat16 after its use
        p     = p - s (lr m + weight_decay p)              s: multiplier of the schedule, 1 without one

    Updates are not clipped; the official clipping of the gradient's global norm at 1.0 is Trainer's `max_grad_norm`.
    `momentum` acts as its nearest bfloat16, 0.8984375 for 0.9, because the official code multiplies bfloat16 numbers.
    Everything else is float32, whatever the type of the parameters.

    The optimizer works on whole parameters: one process, DDP, and FSDP2. FSDP2 gathers the gradient of each factored
    parameter for a moment. Momentum and unfactored second moments are sharded as the parameters are.

    Args:
        params: Parameters or groups. A group may have "layouts", a list with one `Layout` per parameter, see
            `official_layouts`; the default is `own_layout`.
        lr: Base learning rate, positive. Weight decay follows the multiple of it that a scheduler sets.
        weight_decay: Share of a parameter that one step takes away at the full learning rate. The paper's 1e-4
            compares to 0.1 in AdamW at lr 1e-3.
        momentum: Decay of the momentum; 0 keeps none.
        beta2_cap: Upper bound of beta2.

    Raises:
        ValueError: A number is out of its range, or layouts do not fit parameters.
        RuntimeError: In `step`: a gradient is sparse, or FSDP1 or DeepSpeed ZeRO cut or flattened a parameter.

    Example:
        >>> import torch
        >>> from clippo.training.adafactor import BigVisionAdafactor
        >>> parameter = torch.nn.Parameter(torch.ones(64, 32))
        >>> optimizer = BigVisionAdafactor([parameter], lr=1e-3)
        >>> parameter.square().sum().backward()
        >>> optimizer.step()
        >>> sorted(optimizer.state[parameter])  # a factored second moment
        ['column', 'momentum', 'row', 'step']
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        beta2_cap: float = 0.999,
    ):
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, beta2_cap=beta2_cap))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        group.setdefault("layouts", [own_layout(parameter) for parameter in group["params"]])
        if not group["lr"] > 0:
            raise ValueError(f"lr={group['lr']} must be positive: weight decay follows the schedule as lr / base.")
        if not group["weight_decay"] >= 0:
            raise ValueError(f"weight_decay={group['weight_decay']} must not be negative.")
        for name in ("momentum", "beta2_cap"):
            if not 0 <= group[name] < 1:
                raise ValueError(f"{name}={group[name]} must be at least 0 and less than 1.")
        if len(group["layouts"]) != len(group["params"]):
            raise ValueError(f"{len(group['layouts'])} layouts do not describe {len(group['params'])} parameters.")
        for parameter, (shape, _) in zip(group["params"], group["layouts"], strict=True):
            if math.prod(shape) != parameter.numel():
                raise ValueError(f"The layout {shape} does not fit a parameter of shape {tuple(parameter.shape)}.")
        group.setdefault("base_lr", group["lr"])

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            schedule = group["lr"] / group["base_lr"]
            for parameter, layout in zip(group["params"], group["layouts"], strict=True):
                if parameter.grad is None:
                    continue
                own = local_part(parameter)
                change = self._direction(parameter, layout, group).mul_(group["lr"])
                if group["weight_decay"]:
                    change.add_(own, alpha=schedule * group["weight_decay"])
                own.copy_(own.float().sub_(change) if own.dtype != torch.float32 else own.sub_(change))
        return loss

    def _direction(self, parameter: nn.Parameter, layout: Layout, group: dict[str, Any]) -> torch.Tensor:
        """Updates the state and returns the float32 step, before the learning rate, of this process's part."""
        _check_gradient(parameter, layout)
        axes, state = factored_axes(layout), self.state[parameter]
        if not state:
            _init_state(state, parameter, layout, axes, group["momentum"])
        state["step"] += 1
        beta2 = min(group["beta2_cap"], 1.0 - state["step"].item() ** -DECAY_RATE)
        if axes:
            direction = _factored_direction(state, parameter, layout, axes, beta2)
        else:
            gradient = local_part(parameter.grad).float()
            moment = local_part(state["second_moment"])
            moment.mul_(beta2).add_(gradient.square().add_(EPSILON), alpha=1 - beta2)
            direction = gradient * moment.rsqrt()
        if group["momentum"]:
            momentum = local_part(state["momentum"])
            rate = torch.tensor(group["momentum"]).bfloat16().item()
            direction.mul_(1 - group["momentum"]).add_(momentum * rate)  # the product is rounded to bfloat16
            momentum.copy_(direction)
        return direction

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads a state as torch does, but every tensor keeps its precision instead of taking the parameter's."""
        super().load_state_dict(state_dict)
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            for parameter, index in zip(group["params"], saved["params"], strict=True):
                state = self.state.get(parameter, {})
                for name, tensor in state.items():
                    state[name] = state_dict["state"][index][name].to(tensor.device, copy=True)


def _check_gradient(parameter: nn.Parameter, layout: Layout) -> None:
    if parameter.grad.is_sparse:
        raise RuntimeError("adafactor_big_vision takes no sparse gradients; use Trainer's optimizer for this model.")
    if math.prod(layout[0]) != parameter.numel():
        raise RuntimeError(
            f"adafactor_big_vision needs whole parameters, but one of shape {layout[0]} has become "
            f"{tuple(parameter.shape)}; use FSDP version 2 or DDP instead of FSDP 1 or DeepSpeed ZeRO."
        )


def _init_state(
    state: dict[str, torch.Tensor],
    parameter: nn.Parameter,
    layout: Layout,
    axes: tuple[int, int] | None,
    momentum: float,
) -> None:
    state["step"] = torch.tensor(0.0)  # on the CPU, as torch's own optimizers keep it
    if axes:
        for name, axis in (("row", axes[1]), ("column", axes[0])):
            kept = [1 if i == axis else size for i, size in enumerate(layout[0])]
            state[name] = torch.zeros(kept, dtype=torch.float32, device=parameter.grad.device)
    else:
        state["second_moment"] = torch.zeros_like(parameter, dtype=torch.float32)
    if momentum:
        state["momentum"] = torch.zeros_like(parameter, dtype=torch.bfloat16)


def _factored_direction(
    state: dict[str, torch.Tensor], parameter: nn.Parameter, layout: Layout, axes: tuple[int, int], beta2: float
) -> torch.Tensor:
    # Means over a sharded axis need the whole gradient; only this process's part of the result is kept.
    gradient = _whole(parameter.grad).float().reshape(layout[0])
    squared = gradient.square().add_(EPSILON)
    row = state["row"].mul_(beta2).add_(squared.mean(axes[1], keepdim=True), alpha=1 - beta2)
    column = state["column"].mul_(beta2).add_(squared.mean(axes[0], keepdim=True), alpha=1 - beta2)
    direction = gradient * (row / row.mean(axes[0], keepdim=True)).rsqrt_()
    return _part_of(direction.mul_(column.rsqrt()).reshape(parameter.shape), parameter)


def local_part(tensor: torch.Tensor) -> torch.Tensor:
    """Returns this process's part of a tensor that FSDP2 may have sharded."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _whole(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _part_of(whole: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """Returns this process's part of a tensor that every process has, sharded as the parameter is."""
    if not isinstance(parameter, DTensor):
        return whole
    # No source rank: every process has computed the same tensor, so nothing needs to be sent.
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None).to_local()
