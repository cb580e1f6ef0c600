"""The notebook runs from its first cell to its last, and is stored without outputs."""

import pytest

from ..conftest import ROOT

nbclient = pytest.importorskip("nbclient", reason="the extra test is not installed")
nbformat = pytest.importorskip("nbformat")

NOTEBOOK = ROOT / "notebooks" / "clippo_in_ten_minutes.ipynb"


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_stored_without_outputs(notebook):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 5
    assert [cell.source for cell in cells if cell.outputs or cell.execution_count] == []


def test_every_cell_runs(notebook):
    """Opened in its own folder, as Jupyter does. The cells hold assertions."""
    client = nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(NOTEBOOK.parent)}})
    client.execute()
    printed = [output.text for cell in notebook.cells for output in cell.get("outputs", ()) if "text" in output]
    assert any("5,797,633 parameters" in text for text in printed)
    assert any("8 after" in text for text in printed)
