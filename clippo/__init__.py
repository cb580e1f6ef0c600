"""CLIPPO for Hugging Face transformers: one Vision Transformer embeds images and rendered text.

`import clippo` registers every Auto class. `AutoModel.from_pretrained`, `AutoProcessor.from_pretrained` and
`pipeline("zero-shot-image-classification")` then know the model type "clippo".
"""

from pathlib import Path

__version__ = "0.2.0"

# In a checkout the folders of model and processing lie beside this one, not inside it. This line makes
# `clippo.modeling_clippo` and `clippo.processing` importable there too; setup.py maps them in an installation.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "modeling_clippo" / "modeling_clippo.py").is_file():
    __path__.append(str(_checkout))

from transformers import (  # noqa: E402 - needs the path above
    AutoBackbone,
    AutoConfig,
    AutoFeatureExtractor,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoModelForVisualQuestionAnswering,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.pipelines import PIPELINE_REGISTRY  # noqa: E402

from clippo import _moved  # noqa: E402
from clippo.modeling_clippo import (  # noqa: E402
    ClippoBackbone,
    ClippoConfig,
    ClippoForConditionalGeneration,
    ClippoForImageClassification,
    ClippoForSequenceClassification,
    ClippoForVisualQuestionAnswering,
    ClippoImageTextToTextPipeline,
    ClippoModel,
    ClippoVisionModel,
    ClippoVisualQuestionAnsweringPipeline,
)
from clippo.processing import ClippoImageProcessor, ClippoProcessor, ClippoTokenizer  # noqa: E402

_moved.install()

AutoConfig.register(ClippoConfig.model_type, ClippoConfig, exist_ok=True)
AutoModel.register(ClippoConfig, ClippoModel, exist_ok=True)
AutoBackbone.register(ClippoConfig, ClippoBackbone, exist_ok=True)
AutoModelForZeroShotImageClassification.register(ClippoConfig, ClippoModel, exist_ok=True)
AutoModelForImageClassification.register(ClippoConfig, ClippoForImageClassification, exist_ok=True)
AutoModelForSequenceClassification.register(ClippoConfig, ClippoForSequenceClassification, exist_ok=True)
AutoModelForVisualQuestionAnswering.register(ClippoConfig, ClippoForVisualQuestionAnswering, exist_ok=True)
AutoModelForImageTextToText.register(ClippoConfig, ClippoForConditionalGeneration, exist_ok=True)
AutoFeatureExtractor.register(ClippoConfig, ClippoImageProcessor, exist_ok=True)
AutoImageProcessor.register(ClippoConfig, image_processor_classes={"pil": ClippoImageProcessor}, exist_ok=True)
AutoTokenizer.register(ClippoConfig, ClippoTokenizer, exist_ok=True)
AutoProcessor.register(ClippoConfig, ClippoProcessor, exist_ok=True)
# transformers dropped the task "visual-question-answering" and refuses that name here. A checkpoint's own code still
# registers it (pipeline_clippo.py).
PIPELINE_REGISTRY.register_pipeline(
    "clippo-visual-question-answering",
    pipeline_class=ClippoVisualQuestionAnsweringPipeline,
    pt_model=(AutoModelForVisualQuestionAnswering,),
    type="multimodal",
)
PIPELINE_REGISTRY.register_pipeline(
    "clippo-image-text-to-text",
    pipeline_class=ClippoImageTextToTextPipeline,
    pt_model=(AutoModelForImageTextToText,),
    type="multimodal",
)

# Every save_pretrained, also that of Trainer, then writes the code beside the weights. The saved folder opens with
# trust_remote_code=True where this package is not installed.
ClippoConfig.register_for_auto_class()
ClippoModel.register_for_auto_class("AutoModel")
ClippoVisionModel.register_for_auto_class("AutoModel")
ClippoBackbone.register_for_auto_class("AutoBackbone")
ClippoForImageClassification.register_for_auto_class("AutoModelForImageClassification")
ClippoForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
ClippoForVisualQuestionAnswering.register_for_auto_class("AutoModelForVisualQuestionAnswering")
ClippoForConditionalGeneration.register_for_auto_class("AutoModelForImageTextToText")
ClippoImageProcessor.register_for_auto_class("AutoImageProcessor")
ClippoTokenizer.register_for_auto_class("AutoTokenizer")
ClippoProcessor.register_for_auto_class("AutoProcessor")

__all__ = [
    "ClippoBackbone",
    "ClippoConfig",
    "ClippoForConditionalGeneration",
    "ClippoForImageClassification",
    "ClippoForSequenceClassification",
    "ClippoForVisualQuestionAnswering",
    "ClippoImageProcessor",
    "ClippoImageTextToTextPipeline",
    "ClippoModel",
    "ClippoProcessor",
    "ClippoTokenizer",
    "ClippoVisionModel",
    "ClippoVisualQuestionAnsweringPipeline",
]
