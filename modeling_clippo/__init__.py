"""The CLIPPO model. Import it as `clippo.modeling_clippo`, or simply from `clippo`."""

from .configuration_clippo import ClippoConfig
from .modeling_clippo import (
    ClippoForImageClassification,
    ClippoForSequenceClassification,
    ClippoForVisualQuestionAnswering,
    ClippoModel,
    ClippoOutput,
    ClippoPreTrainedModel,
    ClippoVisionModel,
)
from .pipeline_clippo import ClippoVisualQuestionAnsweringPipeline

__all__ = [
    "ClippoConfig",
    "ClippoForImageClassification",
    "ClippoForSequenceClassification",
    "ClippoForVisualQuestionAnswering",
    "ClippoModel",
    "ClippoOutput",
    "ClippoPreTrainedModel",
    "ClippoVisionModel",
    "ClippoVisualQuestionAnsweringPipeline",
]
