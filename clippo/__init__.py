"""CLIPPO for Hugging Face transformers: one vision transformer reads photographs and rendered text.

`import clippo` registers every Auto class, so that `AutoModel.from_pretrained`, `AutoProcessor.from_pretrained` and
`pipeline("zero-shot-image-classification")` know the model type "clippo".
"""

from pathlib import Path

__version__ = "0.1.0"

# In a bare checkout the model and processing folders stand beside this one, not inside it: make
# `clippo.modeling_clippo` and `clippo.processing` importable there too (setup.py maps them when installed).
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "modeling_clippo" / "modeling_clippo.py").is_file():
    __path__.append(str(_checkout))

from transformers import (  # noqa: E402 - the path above has to be there first
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForSequenceClassification,
    AutoModelForVisualQuestionAnswering,
    AutoModelForZeroShotImageClassification,
    AutoProcessor,
    AutoTokenizer,
)
from transformers.pipelines import PIPELINE_REGISTRY  # noqa: E402

from clippo.modeling_clippo import (  # noqa: E402
    ClippoConfig,
    ClippoForImageClassification,
    ClippoForSequenceClassification,
    ClippoForVisualQuestionAnswering,
    ClippoModel,
    ClippoVisionModel,
    ClippoVisualQuestionAnsweringPipeline,
)
from clippo.processing import ClippoImageProcessor, ClippoProcessor, ClippoTokenizer  # noqa: E402

AutoConfig.register(ClippoConfig.model_type, ClippoConfig, exist_ok=True)
AutoModel.register(ClippoConfig, ClippoModel, exist_ok=True)
AutoModelForZeroShotImageClassification.register(ClippoConfig, ClippoModel, exist_ok=True)
AutoModelForImageClassification.register(ClippoConfig, ClippoForImageClassification, exist_ok=True)
AutoModelForSequenceClassification.register(ClippoConfig, ClippoForSequenceClassification, exist_ok=True)
AutoModelForVisualQuestionAnswering.register(ClippoConfig, ClippoForVisualQuestionAnswering, exist_ok=True)
AutoImageProcessor.register(ClippoConfig, image_processor_classes={"pil": ClippoImageProcessor}, exist_ok=True)
AutoTokenizer.register(ClippoConfig, ClippoTokenizer, exist_ok=True)
AutoProcessor.register(ClippoConfig, ClippoProcessor, exist_ok=True)
# transformers removed the task "visual-question-answering" and refuses it; under that name the pipeline comes out of
# the checkpoint's own code, see pipeline_clippo.py.
PIPELINE_REGISTRY.register_pipeline(
    "clippo-visual-question-answering",
    pipeline_class=ClippoVisualQuestionAnsweringPipeline,
    pt_model=(AutoModelForVisualQuestionAnswering,),
    type="multimodal",
)

# From here on every save_pretrained, Trainer's checkpoints too, carries the code beside the weights, so that the folder
# opens with trust_remote_code=True where this package is not installed.
ClippoConfig.register_for_auto_class()
ClippoModel.register_for_auto_class("AutoModel")
ClippoVisionModel.register_for_auto_class("AutoModel")
ClippoForImageClassification.register_for_auto_class("AutoModelForImageClassification")
ClippoForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
ClippoForVisualQuestionAnswering.register_for_auto_class("AutoModelForVisualQuestionAnswering")
ClippoImageProcessor.register_for_auto_class("AutoImageProcessor")
ClippoTokenizer.register_for_auto_class("AutoTokenizer")
ClippoProcessor.register_for_auto_class("AutoProcessor")

__all__ = [
    "ClippoConfig",
    "ClippoForImageClassification",
    "ClippoForSequenceClassification",
    "ClippoForVisualQuestionAnswering",
    "ClippoImageProcessor",
    "ClippoModel",
    "ClippoProcessor",
    "ClippoTokenizer",
    "ClippoVisionModel",
    "ClippoVisualQuestionAnsweringPipeline",
]
