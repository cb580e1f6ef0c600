"""Another canvas for a trained model: higher resolution, or room for a question."""

from collections.abc import Sequence

from transformers import PreTrainedModel

from clippo.conversion.big_vision import change_resolution
from clippo.modeling_clippo import ClippoConfig
from clippo.processing import ClippoProcessor


def resize_canvas(model: PreTrainedModel, processor: ClippoProcessor, image_size: int | Sequence[int]) -> None:
    """Gives model and processor a canvas of another size, in place; positions are resampled as officially.

    Args:
        model: any CLIPPO model with a `vision_model`.
        processor: its `ClippoProcessor`.
        image_size: side, or [height, width], in pixels.
    """
    resized = ClippoConfig(image_size=image_size, patch_size=model.config.patch_size)  # checks the size
    change_resolution(model, image_size)
    height, width = resized.canvas_size
    processor.image_processor.size = {"height": height, "width": width}
    processor.tokenizer.canvas_size = [height, width]
    processor.tokenizer.init_kwargs["canvas_size"] = [height, width]
