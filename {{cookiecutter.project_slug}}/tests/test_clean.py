"""Which training runs nothing needs, and that no other one is deleted, on a real server."""

import time
from types import SimpleNamespace

import mlflow
import pytest
from mlflow import MlflowClient

from {{ cookiecutter.__package }}.lifecycle import clean, registry

NAME = "model-of-the-clean-tests"
LATER = 5 * 24 * 3600


@pytest.fixture
def client(tracking_server, monkeypatch):
    """Return a client; the project's model and experiment have names of these tests' own."""
    for module in (clean, registry):
        monkeypatch.setattr(module, "MODEL", NAME)
    monkeypatch.setattr(clean, "EXPERIMENT", NAME)
    return MlflowClient()


def train(client, *aliases, register=True, champion=False):
    """Make a run as `train` does, with a model; return its id."""
    mlflow.set_experiment(NAME)
    with mlflow.start_run(tags={"step": "train"}) as run:
        model = mlflow.initialize_logged_model()
        mlflow.log_outputs([mlflow.entities.LoggedModelOutput(model.model_id, 0)])
        mlflow.log_text("x" * 1000, "kept.txt")
        mlflow.finalize_logged_model(model.model_id, "READY")
    if register:
        source = f"models:/{model.model_id}"
        version = client.create_model_version(
            NAME, source, run.info.run_id, model_id=model.model_id
        )
        for alias in aliases:
            client.set_registered_model_alias(NAME, alias, version.version)
        if champion:
            registry.crown(version, {})
    return run.info.run_id


def test_only_what_nothing_needs_is_deleted(client, capsys, monkeypatch):
    client.create_registered_model(NAME)
    clean.clean(0)
    assert "Nothing to delete" in capsys.readouterr().out
    former, champion = (train(client, champion=True) for _ in range(2))
    kept = {former, champion, train(client, "challenger"), train(client, "mine")}
    unneeded = {train(client), train(client, register=False)}
    with mlflow.start_run(tags={"step": "monitor"}) as report:
        kept.add(report.info.run_id)
    now = SimpleNamespace(time=lambda: time.time() + LATER)
    monkeypatch.setattr(clean, "time", now)
    with mlflow.start_run(tags={"step": "train"}):  # still running
        clean.clean(30, delete=True)
        assert "every run that ended over 30 days ago is needed" in capsys.readouterr().out
        clean.clean(4)
        told = capsys.readouterr().out
        assert all(run_id in told for run_id in unneeded)
        assert not any(run_id in told for run_id in kept)
        assert "Unneeded 2 runs, 0.0 MiB" in told and "clean --days 4 --yes" in told
        assert {one.run_id for one in clean.unneeded(4)} == unneeded
        assert all(one.size >= 1000 for one in clean.unneeded(4))

        clean.clean(4, delete=True)
        assert clean.unneeded(4) == []
    told = capsys.readouterr().out
    assert "Deleted  2 runs" in told and " gc --backend-store-uri " in told
    for run_id in kept | unneeded:
        assert (mlflow.get_run(run_id).info.lifecycle_stage == "active") == (run_id in kept)
    assert len(registry.versions()) == 4
    experiment = client.get_experiment_by_name(NAME).experiment_id
    assert len(client.search_logged_models([experiment])) == 4
    client.delete_registered_model(NAME)
    client.delete_experiment(experiment)
