"""Training from rows to a registered version, on a real server."""

import mlflow
import pytest

from {{ cookiecutter.__package }} import config, data, model
from {{ cookiecutter.__package }}.lifecycle import train


@pytest.mark.usefixtures("tracking_server")
def test_a_run_ends_in_a_version_that_loads_and_predicts():
    train.train(seed=3)

    version = mlflow.MlflowClient().get_model_version_by_alias(config.MODEL, "challenger")
    run = mlflow.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["seed"] == "3"
    assert model.PRIMARY[0] in run.data.metrics

    rows = data.split(data.load())[1].drop(columns=data.TARGET)
    loaded = mlflow.pyfunc.load_model(f"models:/{config.MODEL}@challenger")
    assert len(loaded.predict(rows)) == len(rows)
