"""Compiled blocks in a transformers.Trainer."""

from accelerate.utils import DynamoBackend
from transformers import Trainer


def compile_blocks(trainer: Trainer) -> None:
    """Compiles the blocks of a trainer's model, and turns off accelerate's compilation of the whole model.

    With `torch_compile`, Trainer compiles the whole model for one set of shapes. The number of kept patches then breaks
    the graph, and another number compiles it again. Blocks share one graph for sequences of any length. Weights keep
    their names.

    Args:
        trainer: Trainer of a CLIPPO model. `torch_compile_backend` and `torch_compile_mode` of its arguments apply.

    Raises:
        ValueError: The model has no blocks to compile.
    """
    if not hasattr(trainer.model, "compile_blocks"):
        raise ValueError(
            f"{type(trainer.model).__name__} has no compile_blocks, so its blocks cannot be compiled; leave out "
            "compile_blocks and torch_compile."
        )
    args = trainer.args
    names = {"backend": args.torch_compile_backend, "mode": args.torch_compile_mode}
    trainer.model.compile_blocks(**{name: value for name, value in names.items() if value})
    trainer.accelerator.state.dynamo_plugin.backend = DynamoBackend.NO
