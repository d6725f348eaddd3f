"""One training run: tracked, measured on held-out rows, registered as the challenger."""

import hashlib
import random

import numpy as np
import pandas as pd

from ..config import EXPERIMENT, MODEL, VIEW, UserError
from ..data import TARGET, load, split
from ..model import PARAMS, TRUSTED_TYPES, build, measure, plots
from ..ops import ownership
from ..ops.shell import hush
from . import record
from .provenance import code_hash, origin, record_files, requirements, run_tags
from .rows import row_hashes

ROWS = "data/rows.parquet"  # kept by a run whose rows are not those of `load`
REFERENCE, MOST = "data/reference.parquet", 5000  # held-out rows that `monitor` compares with


def train(changes=None, seed=0, register=True, frame: pd.DataFrame | None = None) -> str:
    """Fit the model with `PARAMS` and your `changes`, track the run, register the version.

    `changes` are parameters by name; `seed` sets NumPy's and Python's generators, which
    scikit-learn follows; a `frame` replaces the rows of `load`, and is kept with the run.
    Returns the run's id. Raises `UserError` when no server runs or a parameter does not fit.
    """
    uri = ownership.connect()
    import mlflow  # late: it takes seconds, which a missing server need not cost

    hush()
    params = PARAMS | (changes or {})
    training, held_out = split(load() if frame is None else frame)
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(tags=run_tags()) as run:
        print(f"Training on {len(training)} rows ...", flush=True)
        mlflow.log_params(params | {"seed": seed})
        log_data(training, "training")
        if frame is not None:
            mlflow.log_table(frame, ROWS)
        model = fit(params, seed, training, changes)
        logged, metrics = log_results(model, params, held_out)
        for name, text in origin().items():
            mlflow.log_text(text, f"origin/{name}")
        columns = [name for name in training if name != TARGET]
        kept = {"training": training, "held_out": held_out}
        hashes = {name: row_hashes(rows, sorted(rows)) for name, rows in kept.items()}
        record.write(
            {
                "params": params,
                "seed": seed,
                "code": code_hash(),
                "metrics": metrics,
                "target": TARGET,
                "columns": columns,
                "digest": {name: digest(rows) for name, rows in kept.items()},
                "rows": {name: len(rows) for name, rows in kept.items()},
            },
            hashes,
        )
        record_files(run.info.run_id, logged.model_id)
    print("  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
    print(f"Run      {uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{VIEW}")
    if register:
        made = mlflow.register_model(logged.model_uri, MODEL, await_registration_for=None)
        mlflow.MlflowClient().set_registered_model_alias(MODEL, "challenger", made.version)
        print(f"Version  {uri}/#/models/{MODEL}/versions/{made.version}{VIEW} (alias challenger)")
    return run.info.run_id


def fit(params: dict, seed: int, rows: pd.DataFrame, changes: dict | None):
    """Return the model fitted on `rows`; refuse `changes` of parameters that it cannot take."""
    random.seed(seed)
    np.random.seed(seed)
    try:
        return build(**params).fit(rows.drop(columns=TARGET), rows[TARGET])
    except (TypeError, ValueError) as error:
        if changes:
            raise UserError(f"The model cannot be fitted with {changes}: {error}") from error
        raise


def digest(rows: pd.DataFrame) -> str:
    """Return a hash of all `rows`."""
    return hashlib.sha256(row_hashes(rows, sorted(rows)).tobytes()).hexdigest()[:32]


def log_data(rows: pd.DataFrame, context: str):
    """Log `rows` as a data set with their hash, and a hash of each row; return the data set."""
    import mlflow
    from mlflow.data.pandas_dataset import from_pandas

    hashes = "\n".join(f"{row:016x}" for row in row_hashes(rows, [*rows]))
    dataset = from_pandas(rows, targets=TARGET, name=context, digest=digest(rows))
    mlflow.log_input(dataset, context)
    mlflow.log_text(hashes, f"data/{context}_rows.txt")
    return dataset


def log_results(model, params: dict, rows: pd.DataFrame):
    """Log a fitted `model`, and how it does on held-out `rows`; return its info and metrics."""
    import mlflow

    X, y = rows.drop(columns=TARGET), rows[TARGET]
    dataset = log_data(rows, "testing")
    mlflow.log_table(rows.sample(min(len(rows), MOST), random_state=0), REFERENCE)
    for name, figure in plots(model, X, y).items():
        mlflow.log_figure(figure, f"plots/{name}.png")
    logged = log_model(model, params, X)
    metrics = measure(model, X, y)
    mlflow.log_metrics(metrics, dataset=dataset, model_id=logged.model_id)
    return logged, metrics


def log_model(model, params: dict, X: pd.DataFrame):
    """Log a fitted `model` with signature and example, prove that it loads; return its info."""
    import mlflow
    import skops.io

    unknown = set(skops.io.get_untrusted_types(data=skops.io.dumps(model))) - set(TRUSTED_TYPES)
    if unknown:
        raise UserError(
            f"The model holds types that skops does not know: {', '.join(sorted(unknown))}. "
            "Read what they are, then add them to TRUSTED_TYPES in model.py."
        )
    logged = mlflow.sklearn.log_model(
        model,
        name="model",
        params=params,
        input_example=X.head(5),
        signature=mlflow.models.infer_signature(X, model.predict(X)),
        pip_requirements=requirements(model),
        skops_trusted_types=TRUSTED_TYPES,
    )
    if not (logged.signature and logged.signature.inputs):
        raise UserError(
            "MLflow cannot describe the columns: in data.py make nullable ones float64."
        )
    mlflow.pyfunc.load_model(logged.model_uri).predict(X.head(5))
    return logged
