"""The tables of recipes/sharing describe models that exist, the same ones for a GPU and for CPU cores."""

import pytest
import yaml

from clippo import ClippoConfig

from ..conftest import ROOT

FOLDER = ROOT / "recipes" / "sharing"
TABLES = ("variants", "ablations", "text_pairs")
NOT_FIELDS = {"tokens", "image_tower_from", "texts_per_image", "text_pairs", "steps"}


def load(name: str) -> dict:
    return yaml.safe_load((FOLDER / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("file", ["emoji.yaml", "emoji_cpu.yaml"])
@pytest.mark.parametrize("table", TABLES)
def test_every_variant_is_a_config(file, table):
    recipe = load(file)
    for name, fields in recipe[table].items():
        config = ClippoConfig(**{**recipe["base"], **{k: v for k, v in fields.items() if k not in NOT_FIELDS}})
        source = fields.get("image_tower_from")
        assert source is None or recipe[table][source]["image_tower"] == "separate", name
        assert (config.image_tower == "locked") == (source is not None), name


def test_both_files_have_the_same_variants():
    gpu, cpu = load("emoji.yaml"), load("emoji_cpu.yaml")
    for table in TABLES:
        assert list(gpu[table]) == list(cpu[table])
