"""Model card of a saved checkpoint: front matter for the hub, and how to use the folder."""

PIPELINE_TAGS = {
    "ClippoModel": "zero-shot-image-classification",
    "ClippoVisionModel": "image-feature-extraction",
    "ClippoForImageClassification": "image-classification",
    "ClippoForSequenceClassification": "text-classification",
}

EXAMPLES = {
    "zero-shot-image-classification": 'pipe("photo.jpg", candidate_labels=["cat", "Hund"], hypothesis_template="{}")',
    "image-feature-extraction": 'pipe("photo.jpg", pool=True)',
    "image-classification": 'pipe("photo.jpg")',
    "text-classification": 'pipe("What a day!")',
}


# The zero-shot pipeline of transformers applies sigmoid to models named "siglip" only, softmax to all others.
SIGMOID_NOTE = """
This model was trained with the sigmoid loss: each label has its own probability. The zero-shot pipeline applies softmax
over the labels, so its scores are relative. These two lines give the model's own probabilities:

```python
inputs = pipe.image_processor(image, return_tensors="pt") | pipe.tokenizer(labels, return_tensors="pt")
scores = pipe.model(**inputs).logits_per_image.sigmoid()
```
"""


def model_card(class_name: str, config, parameters: int) -> str:
    """Write the card as Markdown with the hub's front matter, from the weights and the config alone.

    Args:
        class_name: Name of the model class that is saved.
        config: `ClippoConfig` of the model.
        parameters: Number of parameters.
    """
    task = PIPELINE_TAGS.get(class_name, "zero-shot-image-classification")
    height, width = config.canvas_size
    sigmoid = SIGMOID_NOTE if class_name == "ClippoModel" and config.loss_type == "sigmoid" else ""
    blank = "skipped" if config.skip_blank_patches else "computed like all others"
    return f"""---
library_name: transformers
pipeline_tag: {task}
tags:
- clippo
- pixels
---

# {class_name}

A CLIPPO model: one vision transformer embeds images and text, and text is rendered as an image first
(*Image-and-Language Understanding from Pixels Only*, CVPR 2023, arXiv 2212.08045). There is no tokenizer and no
vocabulary; text is drawn with the font in `font.zip`.

```python
from transformers import pipeline

pipe = pipeline("{task}", "path/to/this/folder", trust_remote_code=True)
{EXAMPLES[task]}
```

In zero-shot classification `hypothesis_template="{{}}"` gives the model the bare labels. Leave it out for a model that
was trained on sentences like the pipeline's own "This is a photo of ...".
{sigmoid}
With the package `clippo` installed, `import clippo` replaces `trust_remote_code=True`. Without it, transformers, torch,
pillow and freetype-py are needed.

| | |
|---|---|
| parameters | {parameters:,} |
| width, depth, heads | {config.hidden_size}, {config.num_hidden_layers}, {config.num_attention_heads} |
| canvas, patch (pixels) | {height} x {width}, {config.patch_size} |
| text patches without ink | {blank} |

## Training data, evaluation, limits

This card was written automatically when the weights were saved. Add here what only the author of the weights knows,
including the licences of weights and font.
"""
