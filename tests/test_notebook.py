"""The notebook for Kaggle and Colab, run as it is with a small budget."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from medcot.runs.store import RunStore
from tests.conftest import pairs, tiny_raw

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "medcot.ipynb"
CHANGES = "CHANGES = []"
FORKS = "from medcot import machine; from tests import forkserver; machine.spawn = forkserver.spawn"


def test_it_is_kept_without_outputs_and_names_no_secret():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)
    assert any(CHANGES in cell.source for cell in code)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_plans_trains_evaluates_and_asks(tiny_model, records, runs_dir, tmp_path, monkeypatch):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    changes = json.dumps(pairs(tiny_raw(tiny_model, records)))
    for cell in notebook.cells:
        cell.source = cell.source.replace(CHANGES, f"CHANGES = {changes}")
    notebook.cells.insert(0, nbformat.v4.new_code_cell(FORKS))
    root = str(NOTEBOOK.parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]))
    NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (run,) = RunStore(runs_dir).list()
    assert run.status().state == "finished"
    assert run.latest_summary() is not None
    told = json.dumps(notebook.cells)
    assert "12 records to train on, 4 held out" in told
    assert "Base against tuned" in told
