"""Conversion of official big_vision checkpoints, and initialisation from ViTs."""

from clippo.conversion.big_vision import (
    DTYPES,
    Weight,
    check_folder,
    convert_checkpoint,
    export_checkpoint,
    infer_config,
    model_from_params,
    params_from_model,
    weight_table,
)
from clippo.conversion.npz import LAYOUTS, ConversionError, read_checkpoint, write_checkpoint
from clippo.conversion.vit import VitReport, is_vit, load_vit

__all__ = [
    "DTYPES",
    "LAYOUTS",
    "ConversionError",
    "VitReport",
    "Weight",
    "check_folder",
    "convert_checkpoint",
    "export_checkpoint",
    "infer_config",
    "is_vit",
    "load_vit",
    "model_from_params",
    "params_from_model",
    "read_checkpoint",
    "weight_table",
    "write_checkpoint",
]
