"""Store a fitted model, and prove that the later commands can use it."""

import json
import tempfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import Schema

from ..config import UserError
from . import contract
from .parts import Rows
from .provenance import requirements
from .requests import rows_of
from .rows import Inputs, fitting, inputs_of, read, scored

PROOF_ROWS = 1000


def log_model(model, params: dict, inputs: Inputs, example: pd.DataFrame):
    """Log a fitted `model` with the types of its columns and an example; return its info.

    Raises `UserError` if it holds what skops cannot store, or what model.py does not trust.
    """
    outputs = infer_signature(model.predict(example)).inputs
    try:
        return mlflow.sklearn.log_model(
            model,
            name="model",
            params=params,
            input_example=example,
            metadata={"columns": inputs.notes},
            signature=ModelSignature(Schema(inputs.inputs), outputs),
            pip_requirements=requirements(model),
            skops_trusted_types=contract.TRUSTED_TYPES,
        )
    except mlflow.MlflowException:
        contract.check_storable(model)  # says the same in our words, and costs a copy of the model
        raise


def prove(model_uri: str, rows: Rows) -> None:
    """Load a model, and let it answer held-out rows through the code of the later commands.

    The rows come back from a CSV and a Parquet file, as in `predict` and `monitor`, and from a
    request, as in `serve`. Raises `UserError` if a value comes back as another one, or if the model
    rejects the rows.
    """
    loaded = mlflow.pyfunc.load_model(model_uri)
    known = rows.held_out.iloc[telling_rows(rows.held_out)].reset_index(drop=True)
    X = rows.read(known)[0]
    model, inputs = loaded.get_raw_model(), inputs_of(loaded.metadata, "The model")
    for source, found in ways(known, X):
        answered = fitting(found, inputs, source)
        check_same(X, answered, source)
        scored(model, answered, each=True)


def ways(rows: pd.DataFrame, X: pd.DataFrame):
    """Yield `rows` as they come back from each kind of file and from a request, with its name."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        text, table = Path(folder, "proof.csv"), Path(folder, "proof.parquet")
        rows.to_csv(text, index=False)
        yield "A CSV file of data.py's rows", read(text)
        rows.to_parquet(table, index=False)
        yield "A Parquet file of data.py's rows", read(table)
    values = X.astype(object).where(X.notna(), None).to_numpy().tolist()
    body = json.dumps({"dataframe_split": {"columns": [*X], "data": values}}, default=str)
    yield "A request with data.py's rows", pd.DataFrame(rows_of("application/json", body, [*X]))


def telling_rows(rows: pd.DataFrame) -> np.ndarray:
    """Return the positions of at most `PROOF_ROWS` rows, each column's gaps and extremes first."""
    found: list[int] = []
    for _, values in rows.items():
        gaps = np.flatnonzero(values.isna().to_numpy(bool))
        given = np.flatnonzero(values.notna().to_numpy(bool))
        found += gaps[:1].tolist()
        if len(given):
            order = values.iloc[given]
            if not pd.api.types.is_numeric_dtype(order) and order.dtype.kind != "M":
                order = order.astype(str).str.len()
            ranks = order.reset_index(drop=True)
            found += given[[int(ranks.argmin()), int(ranks.argmax())]].tolist()
    drawn = np.random.default_rng(0).permutation(len(rows))[:PROOF_ROWS].tolist()
    return np.array([*dict.fromkeys([*found, *drawn])][:PROOF_ROWS])


def check_same(X: pd.DataFrame, read: pd.DataFrame, source: str) -> None:
    """Raise `UserError` if a value of `X` was read as another one."""
    for name, values in X.items():
        again = read[name].reset_index(drop=True)
        same = (values.isna() & again.isna()) | (values == again)
        if values.dtype.kind == "f":
            same |= np.isclose(values, again, rtol=1e-12, atol=0)
        if not same.all():
            row = int(np.argmin(same))
            raise UserError(
                f"{source} does not keep the column {name!r}: {values[row]!r} is read as "
                f"{again[row]!r}. Change the column in data.py, so that all commands read the same."
            )
