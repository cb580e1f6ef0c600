"""Checks that the vectors of a run are those that its model reads for."""

from itertools import islice
from typing import Any

from transformers import TrainingArguments

from clippo.data import SourcePairs
from clippo.data.sampling import EndlessKeys
from clippo.data.vectors import Vectors
from clippo.modeling_clippo import ClippoConfig
from clippo.training.arguments import DataArguments
from clippo.training.trainer import data_seed


def check_vectors(config: ClippoConfig, train: Any, validation: Any, args: DataArguments) -> None:
    """Checks model, width and mixture before anything is trained.

    Args:
        config: Config of the model.
        train: Training set.
        validation: Validation set, or None.
        args: Arguments of the data.

    Raises:
        ValueError: Vectors come from another model or have another width; images and vectors are mixed; images would be
            augmented, of which only vectors are there; the model needs vectors, and there are none.
    """
    sources = [source for source in getattr(train, "sources", [train]) if isinstance(source, SourcePairs)]
    with_images = [source.spec.name for source in sources if source.spec.kind == "image_text"]
    given = [(source.spec.name, source.vectors.vectors) for source in sources if source.vectors is not None]
    for name, vectors in given:
        _check_origin(config, name, vectors)
    if given and with_images:
        raise ValueError(f"{given[0][0]} has vectors and {with_images[0]} has images; train on one kind at a time.")
    if given and (args.flip or args.randaugment or getattr(args, "random_crop", None)):
        raise ValueError("Vectors were made of images as they are: leave out flip, randaugment and random_crop.")
    if not given and config.image_tower_is_foreign and (with_images or not sources):
        raise ValueError(
            f"The model compares texts with vectors of {config.image_tower!r} (config.image_tower); make them with "
            "`clippo embed`, and train on sources of kind vectors."
        )
    if isinstance(validation, SourcePairs) and validation.vectors is not None:
        _check_origin(config, validation.spec.name, validation.vectors.vectors)


def _check_origin(config: ClippoConfig, name: str, vectors: Vectors) -> None:
    about, projected = vectors.about, config.image_embed_dim is not None
    if config.image_tower != about.model:
        raise ValueError(
            f"{name}: the vectors in {vectors.folder} were made by {about.model!r}, and the model reads for "
            f"image_tower={config.image_tower!r}. For a new model set config_overrides: "
            f"{{image_tower: {about.model!r}, project_images: false, projection_dim: {about.width}}}."
        )
    field = "image_embed_dim" if projected else "projection_dim"
    if getattr(config, field) != about.width:
        raise ValueError(
            f"{name}: the vectors in {vectors.folder} are {about.width} numbers wide, and {field} is "
            f"{getattr(config, field)}; set it to {about.width}."
        )


def given_items(train: Any, count: int, args: TrainingArguments) -> list[dict[str, Any]]:
    """Draws samples with vectors in the order of a training run.

    Args:
        train: Mixture of sources.
        count: Number of samples.
        args: Arguments of the run.

    Raises:
        ValueError: No source has vectors.
    """
    if not any(getattr(source, "vectors", None) for source in getattr(train, "sources", [])):
        raise ValueError(f"fit_projection={count} needs sources of kind vectors; leave it out.")
    keys = EndlessKeys(train.train_sampler(args.train_batch_size, data_seed(args)))  # later epochs have other captions
    given = (key for key in keys if train.sources[key.source].vectors is not None)
    return [train[key] for key in islice(given, count)]
