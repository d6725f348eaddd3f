"""The notebook runs from its first cell to its last one, whatever directory it is run in."""

import mlflow
import nbformat
import pytest
from nbclient import NotebookClient

from {{ cookiecutter.__package }} import config
from {{ cookiecutter.__package }}.lifecycle import train

NOTEBOOK = config.ROOT / "notebooks" / "explore.ipynb"


@pytest.mark.usefixtures("tracking_server")
def test_it_compares_runs_and_explains_a_prediction_of_the_champion(tmp_path):
    train.train()
    client = mlflow.MlflowClient()
    version = client.get_model_version_by_alias(config.MODEL, "challenger").version
    client.set_registered_model_alias(config.MODEL, "champion", version)

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, resources=place).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert sum("image/png" in output.get("data", {}) for output in shown) == 2
