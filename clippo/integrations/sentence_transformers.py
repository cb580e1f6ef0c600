"""Module for sentence-transformers that encodes mixed lists of texts and images.

`SentenceTransformer("folder")` without this module encodes texts or images, but not both in one call.
"""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel, AutoProcessor

from clippo.evaluation.encoder import check_finite
from clippo.modeling_clippo import ClippoModel

try:
    from sentence_transformers.base.modality import is_image_url_or_path
    from sentence_transformers.base.modules import InputModule
except ImportError as error:
    raise ImportError("This needs sentence-transformers: pip install 'clippo[sentence-transformers]'.") from error


# The trainer of sentence-transformers finds the features of a column by a few known names. It would read the column
# "anchor_text_pixel_values" as pixel values of a column "anchor_text", so texts are called what other models call them.
TEXTS, IMAGES = "input_ids", "pixel_values"


class ClippoSentenceModule(InputModule):
    """Embeds texts and images of one list as projected vectors.

    A string is an image if it ends like an image file and names a file or a URL, as everywhere in
    sentence-transformers. All other strings are texts.

    Args:
        model: `ClippoModel`.
        processor: `ClippoProcessor` of the model.

    Example:
        >>> from sentence_transformers import SentenceTransformer
        >>> module = ClippoSentenceModule.load("checkpoints/clippo-emoji")
        >>> SentenceTransformer(modules=[module], device="cpu").encode(["cat", "猫"]).shape
        (2, 256)
    """

    config_keys: list[str] = []

    def __init__(self, model: Any, processor: Any):
        super().__init__()
        self.model, self.processor, self.tokenizer = model, processor, processor.tokenizer
        self._only = {"pooled_only": True} if isinstance(model, ClippoModel) else {}

    @property
    def modalities(self) -> list[str]:
        """Kinds of input. sentence-transformers calls a mixed batch "message"."""
        return ["text", "image", "message"]

    def preprocess(self, inputs: list, prompt: str | None = None, **kwargs) -> dict[str, torch.Tensor]:
        """Returns pixel values of both kinds, and the places in `inputs` that they belong to."""
        is_text = [isinstance(item, str) and not is_image_url_or_path(item) for item in inputs]
        features: dict[str, torch.Tensor] = {}
        texts = [(prompt or "") + item for item, text in zip(inputs, is_text, strict=True) if text]
        images = [item for item, text in zip(inputs, is_text, strict=True) if not text]
        if texts:
            features[TEXTS] = self.processor(text=texts, return_tensors="pt")["text_pixel_values"]
        if images:
            features[IMAGES] = self.processor(images=images, return_tensors="pt")["pixel_values"]
        return {**features, "is_text": torch.tensor(is_text)}

    def forward(self, features: dict[str, torch.Tensor], **kwargs) -> dict[str, torch.Tensor]:
        """Adds `sentence_embedding` (B, E), without normalization."""
        parts = {}
        if TEXTS in features:
            parts[True] = self.model.get_text_features(features[TEXTS], **self._only).pooler_output
        if IMAGES in features:
            parts[False] = self.model.get_image_features(features[IMAGES], **self._only).pooler_output
        is_text = features["is_text"]
        some = next(iter(parts.values()))
        embeddings = some.new_zeros(len(is_text), some.shape[-1])
        for kind, vectors in parts.items():
            places = (is_text == kind).nonzero().flatten()
            embeddings = embeddings.index_copy(0, places, vectors.to(embeddings.dtype))
        if not self.training:  # a training step in half precision may overflow on purpose
            check_finite(embeddings, "input")
        return {**features, "sentence_embedding": embeddings}

    def get_embedding_dimension(self) -> int:
        """Returns the width E of the embeddings."""
        return self.model.config.projection_dim

    def save(self, output_path: str, *args, safe_serialization: bool = True, **kwargs) -> None:
        self.model.save_pretrained(output_path)
        self.processor.save_pretrained(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, **kwargs) -> "ClippoSentenceModule":
        options = {
            name: kwargs[old]
            for old, name in (("token", "token"), ("revision", "revision"), ("cache_folder", "cache_dir"))
            if kwargs.get(old) is not None
        }
        model = AutoModel.from_pretrained(model_name_or_path, **options, **(kwargs.get("model_kwargs") or {}))
        return cls(model, AutoProcessor.from_pretrained(model_name_or_path, **options))


def add_to_folder(folder: str | Path) -> None:
    """Writes a `modules.json` into a model folder, so that `SentenceTransformer(folder)` uses this module.

    The other files of the folder do not change.

    Raises:
        FileNotFoundError: The folder holds no model.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"No model in {folder}: save one there first.")
    kind = f"{ClippoSentenceModule.__module__}.{ClippoSentenceModule.__name__}"
    modules = [{"idx": 0, "name": "0", "path": "", "type": kind}]
    (folder / "modules.json").write_text(json.dumps(modules, indent=2) + "\n", encoding="utf-8")
