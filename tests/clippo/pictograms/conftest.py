"""The data set built of the fake packages."""

import pytest

from clippo.pictograms import build_pictograms

from .fake_packages import write_packages


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """Folder of the fake packages."""
    return write_packages(tmp_path_factory.mktemp("node_modules"))


@pytest.fixture(scope="session")
def pictograms(packages, tmp_path_factory):
    """(folder, info) of the data set, with the set "copies" held out."""
    pytest.importorskip("resvg")
    folder = tmp_path_factory.mktemp("pictograms")
    return folder, build_pictograms(folder, packages, side=48, workers=1, held_out_sets=("copies",))
