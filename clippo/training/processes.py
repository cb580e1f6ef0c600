"""Decisions that all processes of a run share."""

from collections.abc import Callable
from typing import TypeVar

from accelerate.utils import broadcast_object_list
from transformers import TrainingArguments

Result = TypeVar("Result")


class RunRefusedError(RuntimeError):
    """A run does not start. The message has the reason and a remedy."""


def on_main_process(args: TrainingArguments, decide: Callable[[], Result]) -> Result:
    """Calls a function in the main process and gives its result, or its error, to all processes.

    Args:
        args: Arguments of the run; every process calls this function.
        decide: Function whose result can be pickled.

    Example:
        >>> from transformers import TrainingArguments
        >>> from clippo.training.processes import on_main_process
        >>> on_main_process(TrainingArguments("unused", use_cpu=True), lambda: "checkpoint-400")
        'checkpoint-400'
    """
    if args.world_size == 1:
        return decide()
    answer = [None, None]
    if args.process_index == 0:
        try:
            answer[0] = decide()
        except Exception as error:
            answer[1] = error
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]
