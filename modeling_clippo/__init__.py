"""The CLIPPO model. Import it as `clippo.modeling_clippo`, or simply from `clippo`."""

from .configuration_clippo import ClippoConfig
from .modeling_clippo import (
    ClippoForImageClassification,
    ClippoForSequenceClassification,
    ClippoModel,
    ClippoOutput,
    ClippoPreTrainedModel,
    ClippoVisionModel,
)

__all__ = [
    "ClippoConfig",
    "ClippoForImageClassification",
    "ClippoForSequenceClassification",
    "ClippoModel",
    "ClippoOutput",
    "ClippoPreTrainedModel",
    "ClippoVisionModel",
]
