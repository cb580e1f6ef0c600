"""The pixel LiT of `lit_two_towers.npz`: two towers of the official code with a projection on the text side alone."""

import numpy as np
import torch

import clippo
from clippo.conversion import weight_table

from .conftest import ROOT


def load_golden(shared) -> dict[str, np.ndarray]:
    """Arrays of the golden, from the function of the fixture `shared`."""
    with np.load(shared("goldens", "seeds", "lit_two_towers.npz")) as archive:
        return dict(archive)


def official_two_towers(golden: dict, **fields) -> clippo.ClippoModel:
    """Both towers of `lit_two_towers.npz`: the image tower is that of the tiny CLIPPO, without its projection."""
    config = clippo.ClippoConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=64,
        projection_dim=64,
        image_tower="locked",
        project_images=False,
        **fields,
    )
    model = clippo.ClippoModel(config)
    with np.load(ROOT / "tests" / "goldens" / "tiny_params.npz") as archive:
        image_params = dict(archive)
    tensors = {}
    for weight in weight_table(config):
        key = weight.key.replace("img/", "txt/")
        tensors[weight.name] = weight.to_torch(golden[f"params/{key}"])
        if weight.name.startswith("vision_model."):
            name = weight.name.replace("vision_model.", "image_model.")
            tensors[name] = weight.to_torch(image_params[weight.key])
    model.load_state_dict(tensors)
    return model.eval()


def official_inputs(golden: dict) -> dict[str, torch.Tensor]:
    """Images and texts, uint8 (6, 3, 64, 64)."""
    images, texts = (torch.from_numpy(golden[f"{name}_uint8"]).permute(0, 3, 1, 2) for name in ("images", "texts"))
    return {"pixel_values": images, "text_pixel_values": texts}
