"""The CLIPPO model. Import it as `clippo.modeling_clippo`, or from `clippo`."""

from .configuration_clippo import ClippoConfig
from .modeling_clippo import (
    ClippoBackbone,
    ClippoDecoder,
    ClippoForConditionalGeneration,
    ClippoForImageClassification,
    ClippoForSequenceClassification,
    ClippoForVisualQuestionAnswering,
    ClippoModel,
    ClippoOutput,
    ClippoPreTrainedModel,
    ClippoVisionModel,
    ClippoVisionOutput,
)
from .pipeline_clippo import ClippoVisualQuestionAnsweringPipeline
from .pipeline_generation_clippo import ClippoImageTextToTextPipeline

__all__ = [
    "ClippoBackbone",
    "ClippoConfig",
    "ClippoDecoder",
    "ClippoForConditionalGeneration",
    "ClippoForImageClassification",
    "ClippoForSequenceClassification",
    "ClippoForVisualQuestionAnswering",
    "ClippoImageTextToTextPipeline",
    "ClippoModel",
    "ClippoOutput",
    "ClippoPreTrainedModel",
    "ClippoVisionModel",
    "ClippoVisionOutput",
    "ClippoVisualQuestionAnsweringPipeline",
]
