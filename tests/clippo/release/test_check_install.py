"""The check of an installation passes for the wheel's content and names what is wrong."""

import importlib.metadata

import pytest

import clippo
from clippo.release import check_install

from ...conftest import ROOT

PICTURE = str(ROOT / "docs" / "pictures" / "cat.webp")


class Installed:
    """Metadata of an installation in a given folder."""

    def __init__(self, folder, version=clippo.__version__):
        self.folder, self.version = folder, version

    def locate_file(self, name):
        return self.folder / name


def test_it_passes_for_the_imported_package(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(check_install, "distribution", lambda name: Installed(ROOT))
    check_install.main(["--model", str(ROOT / "checkpoints" / "clippo-emoji"), "--image", PICTURE])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"clippo {clippo.__version__}: font, recipes and command are there"
    assert "clippo-emoji: cat 0.9" in lines[1]


def test_another_copy_another_version_and_another_label(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(check_install, "distribution", lambda name: Installed(tmp_path))
    with pytest.raises(SystemExit, match="was imported, not the installed package"):
        check_install.main([])
    monkeypatch.setattr(check_install, "distribution", lambda name: Installed(ROOT, "9.9"))
    with pytest.raises(SystemExit, match=r"`clippo --version` printed .* and the package is 9\.9"):
        check_install.main([])
    with pytest.raises(RuntimeError, match="was labelled 'cat', not 'Hund'"):
        check_install.check_model(str(ROOT / "checkpoints" / "clippo-emoji"), PICTURE, "Hund")


def test_without_an_installation_the_name_is_said(monkeypatch):
    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(check_install, "distribution", missing)
    with pytest.raises(importlib.metadata.PackageNotFoundError, match="clippo"):
        check_install.check_package()
