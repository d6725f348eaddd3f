"""Training from rows to a registered version, on a real server, for a task of the tests' own."""

import math

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from {{ cookiecutter.__package }} import config, data, model
from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.lifecycle import (
    contract,
    record,
    reproduce,
    train,
)

pytestmark = pytest.mark.usefixtures("tracking_server", "task")
CHALLENGER = f"models:/{config.MODEL}@challenger"


def load():
    """Return visits with the types that people have: gaps, text, a category, booleans."""
    generator = np.random.default_rng(0)
    visits = generator.integers(0, 9, 200)
    return pd.DataFrame(
        {
            "visits": pd.array(visits, "Int64"),
            "cost $ {€}\n": np.where(visits == 3, np.nan, visits * 1.5),
            "site": pd.Categorical(np.where(visits % 2, "Lyon", "Graz")),
            "open": pd.array(visits > 2, "boolean"),
            "when": pd.date_range("2026-01-01", periods=200, tz="Europe/Madrid"),
            "remark": np.where(visits == 8, "full", None),
            "late": (visits + generator.normal(0, 2, 200) > 4).astype(int),
        }
    ).assign(visits=lambda frame: frame["visits"].mask(frame["visits"] == 5))


def build(**params):
    """Return a pipeline that takes gaps and text."""
    text = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="none"),
        OneHotEncoder(handle_unknown="ignore"),
    )
    columns = make_column_transformer(
        (text, ["site", "remark"]), ("drop", ["when"]), remainder=SimpleImputer()
    )
    return make_pipeline(columns, LogisticRegression(max_iter=500, **params))


@pytest.fixture
def task(monkeypatch):
    """Make data.py and model.py those of the task above; they lack every optional name."""
    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(data, "split", lambda frame: (frame.iloc[::2], frame.iloc[1::2]))
    monkeypatch.setattr(data, "TARGET", "late")
    monkeypatch.setattr(model, "TASK", "classifier")
    monkeypatch.setattr(model, "PARAMS", {"C": math.inf, "class_weight": {0: 1.0, 1: 2.0}})
    monkeypatch.setattr(model, "PRIMARY", ("accuracy", "maximize"))
    monkeypatch.setattr(model, "build", build)
    monkeypatch.setattr(model, "measure", lambda model, X, y: {"accuracy": model.score(X, y)})
    monkeypatch.setattr(contract, "THRESHOLDS", {})
    types = ["numpy.dtype", "sklearn.compose._column_transformer._RemainderColsList"]
    monkeypatch.setattr(contract, "TRUSTED_TYPES", types)
    monkeypatch.setattr(contract, "plots", contract.no_plots)


def runs():
    """Return the training runs, the newest first."""
    experiment = MlflowClient().get_experiment_by_name(config.EXPERIMENT)
    return MlflowClient().search_runs([experiment.experiment_id]) if experiment else []


def test_a_run_ends_in_a_version_that_loads_and_predicts():
    run_id = train.train(seed=3)

    version = MlflowClient().get_model_version_by_alias(config.MODEL, "challenger")
    run = mlflow.get_run(version.run_id)
    assert (version.run_id, run.info.status) == (run_id, "FINISHED")
    assert run.data.params["seed"] == "3" and "accuracy" in run.data.metrics
    inputs = {one.dataset.name: one.dataset.digest for one in run.inputs.dataset_inputs}
    then = record.read(run_id)
    assert inputs == then.digest and then.rows == {"training": 100, "held_out": 100}
    assert then.params == model.PARAMS and then.seed == 3
    assert {part: len(found) for part, found in record.row_hashes_of(run_id).items()} == then.rows
    assert list(record.reference(then)) == list(load())

    signature = mlflow.models.get_model_info(CHALLENGER).signature
    found = {spec.name: (spec.type.name, spec.required) for spec in signature.inputs.inputs}
    assert found["visits"] == ("double", False) and found["site"] == ("string", True)


def test_what_load_logs_is_in_the_run_and_a_broken_contract_leaves_none(monkeypatch):
    before = len(runs())

    def logging(**changes):
        mlflow.log_param("source", "tests")
        return load().assign(**changes)

    monkeypatch.setattr(data, "load", logging)
    assert mlflow.get_run(train.train()).data.params["source"] == "tests"
    monkeypatch.setattr(data, "load", lambda: logging(late=1))
    with pytest.raises(UserError, match="one class only"):
        train.train()
    assert runs()[0].info.status == "FAILED" and mlflow.active_run() is None
    monkeypatch.setattr(data, "load", lambda: load().assign(late=1))
    with pytest.raises(UserError, match="one class only"):
        train.train()
    assert len(runs()) == before + 2
    assert not MlflowClient().get_experiment("0").name.startswith(config.EXPERIMENT)
    assert not MlflowClient().search_runs(["0"])


def test_nothing_is_registered_if_a_later_command_could_not_use_it(monkeypatch):
    train.train()
    version = MlflowClient().get_model_version_by_alias(config.MODEL, "challenger").version

    def refused(what):
        with pytest.raises(UserError, match=what):
            train.train()
        assert runs()[0].info.status == "FAILED"
        known = MlflowClient().get_model_version_by_alias(config.MODEL, "challenger").version
        assert known == version

    monkeypatch.setattr(train, "prove", lambda place, rows: contract.check_metrics({}))
    refused("returns nothing")
    monkeypatch.setattr(contract, "TRUSTED_TYPES", [])
    refused("skops does not know: numpy.dtype")
    monkeypatch.setattr(model, "measure", lambda model, X, y: {"recall": 1.0})
    refused("PRIMARY names the metric 'accuracy'")


def test_a_run_is_reproduced_whatever_else_it_holds(monkeypatch, capsys):
    """Parameters keep their types; metrics and parameters of others do not count."""
    run_id = train.train(seed=1)
    MlflowClient().log_metric(run_id, "system/disk", 5)
    MlflowClient().log_param(run_id, "memory", "None")
    experiment = mlflow.get_run(run_id).info.experiment_id
    MlflowClient().rename_experiment(experiment, "another name")
    try:
        reproduce.reproduce(run_id)
    finally:
        taken = MlflowClient().get_experiment_by_name(config.EXPERIMENT)
        MlflowClient().rename_experiment(taken.experiment_id, "renamed since")
        MlflowClient().rename_experiment(experiment, config.EXPERIMENT)
    told = capsys.readouterr().out
    assert "Reproduced, within 1e-06" in told and "system/disk" not in told


def test_a_run_that_is_no_training_gets_a_sentence():
    run_id = train.train(register=False)
    with mlflow.start_run(experiment_id=mlflow.get_run(run_id).info.experiment_id) as other:
        mlflow.log_param("seed", 0)
    for wrong, what in (("0" * 32, "There is no run"), (other.info.run_id, "not made by")):
        with pytest.raises(UserError, match=what):
            reproduce.reproduce(wrong)
    count = len(runs())
    MlflowClient().delete_run(run_id)
    with pytest.raises(UserError, match="is deleted.*restore it"):
        reproduce.reproduce(run_id)
    assert len(runs()) == count - 1  # nothing was trained first
    MlflowClient().restore_run(run_id)
    assert record.read(run_id).run_id == run_id
