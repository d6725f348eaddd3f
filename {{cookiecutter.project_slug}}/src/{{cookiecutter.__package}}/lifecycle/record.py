"""What `train` records of its run, and how other commands read it."""

import io
import json
from dataclasses import dataclass

import numpy as np

from ..config import UserError

TRAINING, ROWS = "training.json", "data/rows.npz"


@dataclass(frozen=True)
class Record:
    """What `train` recorded of a run."""

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


def write(record: dict, hashes: dict[str, np.ndarray]) -> None:
    """Log a record, and the hashes of the rows, to the active run."""
    import tempfile
    from pathlib import Path

    import mlflow

    mlflow.log_dict({"format": 1, "batches": []} | record, TRAINING)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder, "rows.npz"), **hashes)  # type: ignore[arg-type]
        mlflow.log_artifact(str(Path(folder, "rows.npz")), "data")


def read(run_id: str) -> Record:
    """Return what `train` recorded of a run; raise `UserError` if there is nothing."""
    content = json.loads(_bytes(run_id, TRAINING))
    names = [name for name in Record.__dataclass_fields__ if name != "run_id"]
    return Record(run_id, **{name: content[name] for name in names})


def row_hashes_of(run_id: str) -> dict[str, np.ndarray]:
    """Return the hashes of a run's rows: `training` and `held_out`."""
    with np.load(io.BytesIO(_bytes(run_id, ROWS))) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _bytes(run_id: str, name: str) -> bytes:
    import mlflow

    try:
        with open(mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{name}"), "rb") as file:
            return file.read()
    except (mlflow.MlflowException, OSError) as error:
        raise UserError(
            f"Run {run_id} has no record of its training: train one with this project's train."
        ) from error
