"""A sweep on a real server, with the folds measured in this process."""

from concurrent.futures import Future
from contextlib import contextmanager

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests
from mlflow import MlflowClient
from sklearn.linear_model import LogisticRegression

from {{ cookiecutter.__package }} import config, data, model
from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.lifecycle import (
    contract,
    executors,
    trials,
    tune,
)

pytestmark = pytest.mark.usefixtures("tracking_server", "task")


class Here(executors.Workers):
    """A slot in this process."""

    def __init__(self, shared):
        super().__init__()
        self.shared = shared

    def slots(self):
        return 1

    def _submit(self, call):
        future = Future()
        try:
            future.set_result(call.function(self.shared, *call.args))
        except Exception as error:
            future.set_exception(error)
        return future


def load():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(200, 2)), columns=["a", "b"])
    return frame.assign(late=(frame.a + rng.normal(size=200) > 0).astype(int))


def space(trial):
    return {"C": trial.suggest_float("C", 1e-4, 10, log=True)}


@pytest.fixture
def task(monkeypatch):
    """Make data.py and model.py those of a task of the tests' own, and measure folds here."""
    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(data, "split", lambda frame: (frame.iloc[:150], frame.iloc[150:]))
    monkeypatch.setattr(data, "TARGET", "late")
    monkeypatch.setattr(model, "TASK", "classifier")
    monkeypatch.setattr(model, "PARAMS", {"C": 1.0})
    monkeypatch.setattr(model, "PRIMARY", ("accuracy", "maximize"))
    monkeypatch.setattr(model, "space", space, raising=False)
    monkeypatch.setattr(model, "build", lambda C: LogisticRegression(C=C))
    monkeypatch.setattr(model, "measure", lambda model, X, y: {"accuracy": model.score(X, y)})
    monkeypatch.setattr(contract, "THRESHOLDS", {})
    monkeypatch.setattr(contract, "plots", contract.no_plots)

    @contextmanager
    def workers(jobs, cluster, shared):
        yield Here(shared)

    monkeypatch.setattr(tune, "workers", workers)


def children(parent):
    found = MlflowClient().search_runs(
        [mlflow.get_run(parent).info.experiment_id],
        f"tags.`mlflow.parentRunId` = '{parent}'",
        order_by=["attributes.start_time ASC"],
    )
    return found


def test_the_best_of_a_sweep_is_the_challenger(monkeypatch, capsys):
    calls = []
    request = requests.Session.request

    def counting(session, method, url, **others):
        calls.append(url.partition("/mlflow/")[2])
        return request(session, method, url, **others)

    def build(C):
        if C < 1e-3:
            raise ValueError("C is too small")
        return LogisticRegression(C=C)

    monkeypatch.setattr(model, "build", build)
    monkeypatch.setattr(requests.Session, "request", counting)
    logged = []
    log = trials.log

    def logging(*words):
        calls.clear()
        log(*words)
        logged.append(len(calls))

    monkeypatch.setattr(trials, "log", logging)
    sweep = tune.tune(14)
    assert logged == [3] * 14
    runs = children(sweep)
    states = [run.data.tags["state"] for run in runs]
    assert {"COMPLETE", "FAIL", "PRUNED"} == {*states} and len(states) == 14
    statuses = {(run.data.tags["state"], run.info.status) for run in runs}
    assert statuses == {("COMPLETE", "FINISHED"), ("FAIL", "FAILED"), ("PRUNED", "KILLED")}
    failed = next(run for run in runs if run.info.status == "FAILED")
    assert "ValueError: C is too small" in failed.data.tags["error"]
    pruned = next(run for run in runs if run.info.status == "KILLED")
    assert len(MlflowClient().get_metric_history(pruned.info.run_id, "accuracy")) < 5
    values = {run.data.params["C"]: run.data.metrics["value"] for run in runs
              if run.info.status == "FINISHED"}  # fmt: skip
    best = max(values, key=values.get)

    version = MlflowClient().get_model_version_by_alias(config.MODEL, "challenger")
    made = mlflow.get_run(version.run_id)
    assert float(made.data.params["C"]) == float(best)
    assert (made.data.tags["sweep"], made.data.tags["trials"]) == (sweep, "14")
    run = mlflow.get_run(sweep)
    assert run.info.status == "FINISHED" and run.data.metrics["accuracy"] == values[best]
    files = {one.path for one in MlflowClient().list_artifacts(sweep)}
    assert files == {"plots", "trials.html"}
    assert MlflowClient().get_experiment(run.info.experiment_id).name == config.TUNING_EXPERIMENT
    told = capsys.readouterr().out
    assert "is the best so far" in told and "failed: ValueError: C is too small" in told


def test_an_interrupted_sweep_goes_on_and_keeps_what_ended(monkeypatch):
    end, ended = tune.Search._end, []

    def interrupted(search, trial, *words):
        end(search, trial, *words)
        ended.append(trial)
        search.stopped = "Interrupted" if len(ended) == 3 else search.stopped

    with monkeypatch.context() as broken:
        broken.setattr(tune.Search, "_end", interrupted)
        with pytest.raises(UserError, match="Interrupted: 3 trials are kept. Go on with: ") as told:
            tune.tune(6)
    sweep = str(told.value).rpartition(" ")[2]
    running = MlflowClient().create_run(
        mlflow.get_run(sweep).info.experiment_id, tags={"mlflow.parentRunId": sweep}
    )
    MlflowClient().set_tag(sweep, "best_C", "another one")
    assert tune.tune(6, resume=sweep) == sweep
    tagged = mlflow.get_run(sweep).data.tags["best_C"]
    assert tagged != "another one" and not mlflow.get_run(sweep).data.params
    assert len(children(sweep)) == 7
    assert mlflow.get_run(running.info.run_id).info.status == "KILLED"
    numbers = sorted(run.info.run_name for run in children(sweep) if "state" in run.data.tags)
    assert numbers == [f"trial {number}" for number in range(6)]
    other = {"C": "it", "penalty": None}
    monkeypatch.setattr(
        model, "space", lambda trial: {"C": trial.suggest_categorical("C", [*other])}
    )
    with pytest.raises(UserError, match="was changed since this sweep began"):
        tune.tune(8, resume=sweep)
    with pytest.raises(UserError, match="was not made by this project's tune"):
        tune.tune(8, resume=running.info.run_id)


def test_what_cannot_be_searched_gets_a_sentence(monkeypatch):
    monkeypatch.setattr(model, "build", lambda C: 1 / 0)
    with pytest.raises(UserError, match="No trial was measured on all folds"):
        tune.tune(2)
    with mlflow.start_run(), pytest.raises(UserError, match="A run is open in this process"):
        tune.tune(2)
    monkeypatch.delattr(model, "space")
    with pytest.raises(UserError, match=r"has no function space\(trial\)"):
        tune.tune(2)
