"""Model card of a saved checkpoint: front matter for the hub, and how to use the folder."""

PIPELINE_TAGS = {
    "ClippoModel": "zero-shot-image-classification",
    "ClippoVisionModel": "image-feature-extraction",
    "ClippoForImageClassification": "image-classification",
    "ClippoForSequenceClassification": "text-classification",
    "ClippoForConditionalGeneration": "image-text-to-text",
}

EXAMPLES = {
    "zero-shot-image-classification": 'pipe("photo.jpg", candidate_labels=["cat", "Hund"], hypothesis_template="{}")',
    "image-feature-extraction": 'pipe("photo.jpg", pool=True)',
    "image-classification": 'pipe("photo.jpg")',
    "text-classification": 'pipe("What a day!")',
    "image-text-to-text": 'pipe("photo.jpg", "caption en")',
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


# Text for each image tower that is not the shared one; others are names of models whose vectors are given.
IMAGE_TOWERS = {
    "separate": "Images have a tower of their own, `image_model`.",
    "locked": "Images have a tower of their own, `image_model`, which training does not change.",
}
FOREIGN_TOWER = "This model reads texts. Image vectors come from `{name}`: `clippo embed --model {name}` makes them."

PIPELINE_USE = """from transformers import pipeline

pipe = pipeline("{task}", "path/to/this/folder", trust_remote_code=True)
{example}
```

In zero-shot classification `hypothesis_template="{{}}"` gives the model the bare labels. Leave it out for a model that
was trained on sentences like the pipeline's own "This is a photo of ..."."""

VECTORS_USE = """from transformers import AutoModel, AutoTokenizer

folder = "path/to/this/folder"
model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
texts = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)(["a dog", "Hund"], return_tensors="pt")
scores = model(image_embeds=vectors, **texts).logits_per_text  # vectors: (images, width)
```"""


def image_tower_note(class_name: str, config) -> str:
    """Paragraph on the origin of image vectors; empty for the shared tower and for other classes than `ClippoModel`."""
    if class_name != "ClippoModel" or config.image_tower == "shared":
        return ""
    note = IMAGE_TOWERS.get(config.image_tower) or FOREIGN_TOWER.format(name=config.image_tower)
    return f"\n## Image tower\n\n{note}\n"


def active_parameters(config, parameters: int) -> int:
    """Parameters that one token meets: those of the experts that its routers do not choose are left out.

    Args:
        config: `ClippoConfig` of the model.
        parameters: Number of all parameters.
    """
    width, inner = config.hidden_size, config.intermediate_size
    expert = 2 * width * inner + inner + width
    return parameters - len(config.expert_blocks) * (config.num_experts - config.num_experts_per_tok) * expert


def model_card(class_name: str, config, parameters: int) -> str:
    """Write the card as Markdown with the hub's front matter, from the weights and the config alone.

    Args:
        class_name: Name of the model class that is saved.
        config: `ClippoConfig` of the model.
        parameters: Number of parameters.
    """
    task = PIPELINE_TAGS.get(class_name, "zero-shot-image-classification")
    use = PIPELINE_USE.format(task=task, example=EXAMPLES[task])
    if class_name == "ClippoModel" and config.image_tower_is_foreign:
        task, use = "feature-extraction", VECTORS_USE
    height, width = config.canvas_size
    sigmoid = SIGMOID_NOTE if config.loss_type == "sigmoid" and "zero-shot" in use else ""
    experts = ""
    if config.num_experts:
        places = ", ".join(map(str, config.expert_blocks))
        active = active_parameters(config, parameters)
        experts = f"\n| experts | {config.num_experts} in blocks {places}; {active:,} active parameters |"
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
{use}
{sigmoid}{image_tower_note(class_name, config)}
With the package `clippo` installed, `import clippo` replaces `trust_remote_code=True`. Without it, transformers, torch,
pillow and freetype-py are needed.

| | |
|---|---|
| parameters | {parameters:,} |{experts}
| width, depth, heads | {config.hidden_size}, {config.num_hidden_layers}, {config.num_attention_heads} |
| canvas, patch (pixels) | {height} x {width}, {config.patch_size} |
| text patches without ink | {blank} |

## Training data, evaluation, limits

This card was written automatically when the weights were saved. Add here what only the author of the weights knows,
including the licences of weights and font.
"""
