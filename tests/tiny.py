"""The tiny random model that all tests share: its config, the model, its processor and a saved folder.

Every function takes config fields as keyword arguments, which replace those of `SHAPE`.
"""

import torch

import clippo

# 16 patches of 16 pixels, or 4 patches on a canvas of 32 pixels. Tests that count patches rely on these numbers.
SHAPE = dict(
    hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, projection_dim=24, image_size=64
)


def tiny_config(**fields) -> clippo.ClippoConfig:
    """Config of the tiny model."""
    return clippo.ClippoConfig(**{**SHAPE, **fields})


def tiny_model(model_class=clippo.ClippoModel, noise=0.1, seed=0, attention=None, **fields):
    """Random model in eval mode, the same weights in every call.

    Args:
        model_class: A model class of clippo.
        noise: Standard deviation of the noise that is added to every parameter. Without noise, biases are zero and all
            images look alike to a new model; 0 keeps the official initialisation.
        seed: Seed of the weights. The global generator continues after the weights were drawn.
        attention: Attention backend, such as "eager".
        fields: Config fields.
    """
    torch.manual_seed(seed)
    model = model_class._from_config(tiny_config(**fields), attn_implementation=attention)
    if noise:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
    return model.eval()


def tiny_processor(config=None, **options) -> clippo.ClippoProcessor:
    """Processor for the canvas of a config.

    Args:
        config: A `ClippoConfig`; None means `tiny_config()`.
        options: Options of the tokenizer.
    """
    size = SHAPE["image_size"] if config is None else config.image_size
    return clippo.ClippoProcessor.from_size(size, **options)


def save_tiny(
    folder, model_class=clippo.ClippoModel, noise=0.1, dtype=torch.float32, processor=None, attention=None, **fields
) -> str:
    """Save the tiny model and its processor.

    Args:
        folder: Folder to write.
        model_class: A model class of clippo.
        noise: As in `tiny_model`.
        dtype: Type of the saved weights.
        processor: Options of the tokenizer, as a dict.
        attention: As in `tiny_model`.
        fields: Config fields.

    Returns:
        The folder as a string.
    """
    model = tiny_model(model_class, noise, attention=attention, **fields)
    model.to(dtype).save_pretrained(folder)
    tiny_processor(model.config, **(processor or {})).save_pretrained(folder)
    return str(folder)
