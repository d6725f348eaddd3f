"""What `train` records of its run, and how other commands read it."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..config import UserError

REFERENCE = "data/reference.parquet"


@dataclass(frozen=True)
class Record:
    """What `train` recorded of a run."""

    run_id: str
    params: dict
    seed: int


def read(run_id: str) -> Record:
    """Return what `train` recorded of a run."""
    import mlflow

    from .provenance import parameters

    return Record(run_id, *parameters(mlflow.get_run(run_id)))


def reference(run_id: str) -> pd.DataFrame:
    """Return at most 5000 held-out rows of a run."""
    import mlflow

    try:
        place = mlflow.artifacts.download_artifacts(f"runs:/{run_id}/{REFERENCE}")
        return pd.read_parquet(Path(place))
    except (mlflow.MlflowException, OSError) as error:
        raise UserError(
            f"Run {run_id} has no reference: train one with this project's train."
        ) from error
