"""What `train` records of its run, and how other commands read it.

A run may hold anything else: what its user, autolog or MLflow logged. Only these files are read.
"""

import json
import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient, MlflowException
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Run
from mlflow.types import Schema

from ..config import UserError

FORMAT = 1  # of the file below
RECORD = "training.json"
HASHES = "data/rows.npz"  # of training and held-out rows, 8 bytes each
REFERENCE, LABELLED = "data/reference.parquet", "data/reference_labelled.parquet"
REFERENCE_ROWS = 5000  # held-out rows of each part that are kept for `monitor`
ENOUGH = 200  # labelled held-out rows that are a reference alone
STEP = "step"  # tag of a run: the command that made it


@dataclass(frozen=True)
class Record:
    """A training run: what went in, and what `measure` returned.

    `code` and `digest` are hashes: of the package's files, and of the rows by part ("training",
    "held_out"). `batches` are the ids of the reports whose labelled rows were used, and `labelled`
    says how many of the rows of each part these are; they come after those of `load`.
    """

    run_id: str
    params: dict
    seed: int
    metrics: dict[str, float]
    target: str
    columns: list[str]
    code: str
    digest: dict[str, str]
    rows: dict[str, int]
    batches: list[str]
    labelled: dict[str, int] = field(default_factory=dict)

    def labelled_alone(self) -> bool:
        """Return whether new rows are compared with the labelled held-out rows alone.

        A model that was retrained is asked about their population: beside all held-out rows it
        would look drifted for ever.
        """
        return self.labelled.get("held_out", 0) >= ENOUGH


def write(folder: Path, record: Record, hashes: dict[str, np.ndarray], reference) -> None:
    """Write the files of a record into a folder whose content becomes the run's artifacts.

    `reference` are the held-out rows, of which `REFERENCE_ROWS` of `load` and as many labelled ones
    are kept.
    """
    (folder / "data").mkdir(exist_ok=True)
    known = {name: value for name, value in vars(record).items() if name != "run_id"}
    text = json.dumps(encoded({"format": FORMAT, **known}), indent=1, allow_nan=False)
    (folder / RECORD).write_text(text, "utf-8")
    np.savez(folder / HASHES, **hashes)  # type: ignore[arg-type]
    first = len(reference) - record.labelled.get("held_out", 0)
    for name, rows in ((REFERENCE, reference[:first]), (LABELLED, reference[first:])):
        if len(rows):
            kept = rows.sample(min(len(rows), REFERENCE_ROWS), random_state=0)
            kept.to_parquet(folder / name, index=False)


def write_plots(folder: Path, figures: dict) -> None:
    """Write pictures into a new folder, each under its name."""
    folder.mkdir(parents=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png")


def log_datasets(record: Record, inputs: list, model_id: str) -> None:
    """Log training and held-out rows as inputs of the run, and the metrics of the held-out ones."""
    client, now = MlflowClient(), int(time.time() * 1000)
    sets = [
        Dataset(
            part,
            digest,
            "code",
            json.dumps({"tags": {}}),
            json.dumps({"mlflow_colspec": Schema(inputs).to_dict()}),
            json.dumps({"num_rows": record.rows[part]}),
        )
        for part, digest in record.digest.items()
    ]
    inputs = [DatasetInput(one, [InputTag("mlflow.data.context", one.name)]) for one in sets]
    client.log_inputs(record.run_id, inputs)
    metrics = [
        Metric(name, value, now, 0, model_id, "held_out", record.digest["held_out"], record.run_id)
        for name, value in record.metrics.items()
    ]
    client.log_batch(record.run_id, metrics)


def read(run_id: str) -> Record:
    """Return the record of a run.

    Raises `UserError` if the run does not exist, is deleted, was not made by `train`, or its files
    cannot be read.
    """
    with file_of(run_id, RECORD) as file:
        known = json.loads(file.read_text("utf-8"))
    if known.pop("format", None) != FORMAT:
        raise UserError(f"Run {run_id} was recorded by another version of this project.")
    names = {one.name for one in fields(Record)}
    return Record(run_id, **{name: one for name, one in decoded(known).items() if name in names})


def row_hashes_of(run_id: str) -> dict[str, np.ndarray]:
    """Return the hashes of the rows of a run by part; raises `UserError` as `read` does."""
    with file_of(run_id, HASHES) as file, np.load(file) as hashes:
        return dict(hashes)


def reference(of: Record) -> pd.DataFrame:
    """Return the held-out rows to compare new ones with; raises `UserError` as `read` does."""
    names = [LABELLED] * bool(of.labelled.get("held_out"))
    names += [] if of.labelled_alone() else [REFERENCE]
    tables = []
    for name in names:
        with file_of(of.run_id, name) as file:
            tables.append(pd.read_parquet(file))
    return pd.concat(tables, ignore_index=True)


@contextmanager
def file_of(run_id: str, name: str, step: str = "train") -> Iterator[Path]:
    """Yield a copy of a file or folder of a run that the command `step` made; raises as `read`."""
    place = f"{checked_run(run_id, step).info.artifact_uri}/{name}"  # runs:/ asks twice as often
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            copy = mlflow.artifacts.download_artifacts(place, dst_path=folder)
        except (MlflowException, OSError) as error:
            raise UserError(
                f"{name} of run {run_id} cannot be read: `doctor` says which files are missing."
            ) from error
        yield Path(copy)


def checked_run(run_id: str, step: str = "train") -> Run:
    """Return a run; raise `UserError` if it is not there, is deleted, or was not made by `step`."""
    client = MlflowClient()
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise UserError(f"There is no run {run_id} in this history.") from error
    if run.info.lifecycle_stage == "deleted":
        raise UserError(
            f"Run {run_id} is deleted, alone or with its experiment: restore it in the browser, "
            "then repeat the command."
        )
    if run.data.tags.get(STEP) != step:
        raise UserError(f"Run {run_id} was not made by this project's {step}: name one that was.")
    return run


# Values of JSON that keep their Python type


def encoded(value):
    """Return a value as JSON that keeps its type; raises `TypeError` with the type that has none.

    What JSON lacks is an object with one name: a number {"$float": text}, a tuple {"$tuple": list},
    a dict with other keys than text {"$dict": pairs}.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return [encoded(one) for one in value]
    if type(value) is tuple:
        return {"$tuple": [encoded(one) for one in value]}
    if type(value) is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: encoded(one) for key, one in value.items()}
        return {"$dict": [[encoded(key), encoded(one)] for key, one in value.items()]}
    raise TypeError(f"of type {type(value).__name__}")


def decoded(value):
    """Return the value that `encoded` was given."""
    if isinstance(value, list):
        return [decoded(one) for one in value]
    if not isinstance(value, dict):
        return value
    if "$float" in value:
        return float(value["$float"])
    if "$tuple" in value:
        return tuple(decoded(value["$tuple"]))
    if "$dict" in value:
        return {decoded(key): decoded(one) for key, one in value["$dict"]}
    return {name: decoded(one) for name, one in value.items()}
