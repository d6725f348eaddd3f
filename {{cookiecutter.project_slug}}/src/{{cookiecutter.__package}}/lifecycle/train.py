"""One training run: tracked, measured on held-out rows, registered as the challenger."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow

from .. import data, model
from ..config import EXPERIMENT, MODEL, VIEW, UserError
from ..ops import ownership
from . import batches, contract, folds, record
from .model_store import log_model, prove
from .parts import Rows, rows_of
from .provenance import code_hash, record_files, run_tags, write_origin


def train(changes=None, seed=0, register=True, reports: list[str] | None = None) -> str:
    """Fit the model with `PARAMS` and your `changes`, track the run, register the version.

    `changes` are parameters by name; `seed` sets NumPy's and Python's generators, which
    scikit-learn follows. The rows are those of `load` and the labelled ones that `monitor` kept
    with its reports: with all of them, or with `reports`, which are ids of runs.
    Returns the run's id. Raises `UserError` if no server runs, if `data.py` or `model.py` breaks
    its contract, if the model cannot be fitted, or if a later command could not use it.
    """
    uri = ownership.connect()
    contract.check_names()
    params = contract.check_parameters(model.PARAMS | (changes or {}))
    rows = rows_of_run(params, reports)
    with mlflow.active_run() or mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
        mlflow.set_tags(run_tags() | {record.STEP: "train"})
        mlflow.log_params(params | {"seed": seed})
        print(f"Training on {rows.counts()['training']:,} rows ...", flush=True)
        if rows.labelled.runs:
            print(f"Labelled {rows.labelled}")
        fitted = fit(params, seed, rows, changes)
        X, y = rows.part("held_out")
        metrics = contract.check_metrics(model.measure(fitted, X, y))
        logged = log_model(fitted, params, rows.inputs, X.head(5))
        prove(logged.model_uri, rows)
        made = record.Record(
            run.info.run_id, params, seed, metrics, data.TARGET, rows.columns(), code_hash(),
            rows.digests(), rows.counts(), rows.labelled.runs, rows.labelled.counts(),
        )  # fmt: skip
        record.log_datasets(made, rows.inputs.inputs, logged.model_id)
        record.write(Path(folder), made, rows.hashes, X.assign(**{data.TARGET: y}))
        record.write_plots(Path(folder, "plots"), contract.plots(fitted, X, y))
        write_origin(Path(folder, "origin"))
        mlflow.log_artifacts(folder)
        record_files(run.info.run_id, logged.model_id, Path(folder))
    print("  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    print(f"Run      {uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{VIEW}")
    if register:
        new = mlflow.register_model(logged.model_uri, MODEL, await_registration_for=None)
        mlflow.MlflowClient().set_registered_model_alias(MODEL, "challenger", new.version)
        print(f"Version  {uri}/#/models/{MODEL}/versions/{new.version}{VIEW} (alias challenger)")
    return run.info.run_id


def rows_of_run(params: dict, reports: list[str] | None) -> Rows:
    """Return the rows of `load` and of `reports`, by part and checked; there is no run yet.

    Raises `UserError` if data or model break the contract.
    """
    with run_of_load():
        mlflow.set_experiment(EXPERIMENT)
        rows = rows_of(data.load(), batches.stored(reports))
        contract.check_storable(model.build(**params))
    return rows


@contextmanager
def run_of_load() -> Iterator[None]:
    """Let `load` or `split` log something: MLflow begins a run, which is then that of the caller.

    Raises `UserError` if a run is open already. If the block fails, no run is left open.
    """
    if mlflow.active_run():
        raise UserError("A run is open in this process: end it first with mlflow.end_run().")
    try:
        yield
    except BaseException:
        mlflow.end_run("FAILED")
        raise


def fit(params: dict, seed: int, rows: Rows, changes: dict | None = None):
    """Return the model fitted on the training rows; raise `UserError` if it cannot be fitted."""
    X, y = rows.part("training")
    try:
        return folds.fit(params, seed, rows.with_categories(X), y)
    except (TypeError, ValueError) as error:
        if changes:
            raise UserError(f"The model cannot be fitted with {changes}: {error}") from error
        if isinstance(error, ValueError):
            raise UserError(f"The model cannot be fitted: {error}") from error
        raise
