"""The README of a saved checkpoint: what the hub needs to know, and how to use the folder."""

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


def model_card(class_name: str, config, parameters: int) -> str:
    """Markdown with the hub's front matter. It states only what the weights and the config tell.

    Args:
        class_name: The model class that is saved.
        config: Its `ClippoConfig`.
        parameters: Number of parameters.
    """
    task = PIPELINE_TAGS.get(class_name, "zero-shot-image-classification")
    height, width = config.canvas_size
    blank = "left out" if config.skip_blank_patches else "read like any other"
    return f"""---
library_name: transformers
pipeline_tag: {task}
tags:
- clippo
- pixels
---

# {class_name}

A CLIPPO model: one vision transformer that reads photographs and text, the text rendered as an image
(*Image-and-Language Understanding from Pixels Only*, CVPR 2023, arXiv 2212.08045). There is no tokenizer: the font in
`font.zip` is the vocabulary.

```python
from transformers import pipeline

pipe = pipeline("{task}", "path/to/this/folder", trust_remote_code=True)
{EXAMPLES[task]}
```

In zero-shot classification `hypothesis_template="{{}}"` shows the model the bare labels; leave it out for a model whose
training texts were sentences like the pipeline's own "This is a photo of ...".

With the package `clippo` installed, `import clippo` takes the place of `trust_remote_code=True`. Without it,
transformers, torch, pillow and freetype-py are needed.

| | |
|---|---|
| parameters | {parameters:,} |
| width, depth, heads | {config.hidden_size}, {config.num_hidden_layers}, {config.num_attention_heads} |
| canvas, patch (pixels) | {height} x {width}, {config.patch_size} |
| text patches without ink | {blank} |

## Training data, evaluation, limits

This card was written when the weights were saved. Whoever trained them knows the rest, the licence of weights and font
included, and should write it here.
"""
