"""A version of the model, loaded to answer: what is missing or wrong with it gets a sentence."""

import tempfile
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from ..config import MODEL, UserError
from .rows import Inputs, fitting, inputs_of


class MissingCode(UserError):
    """A version whose classes are not in the code that runs; `what` says so."""

    def __init__(self, told: str, error: Exception) -> None:
        self.what = f"{told} needs code that is not there ({error})"
        super().__init__(f"{self.what}: bring it back, or promote another version.")


@dataclass(frozen=True)
class Loaded:
    """A version of the registered model, ready to answer."""

    version: str
    run_id: str  # the run that made it
    model: Any  # scikit-learn's estimator
    inputs: Inputs
    example: pd.DataFrame | None = field(default=None, repr=False)  # rows that the model takes

    @property
    def classes(self) -> list | None:
        """Return the classes that the model has a probability for, or None."""
        known = hasattr(self.model, "predict_proba") and hasattr(self.model, "classes_")
        return list(self.model.classes_) if known else None


def load(version) -> Loaded:
    """Return a version of the registered model (MLflow's `ModelVersion`), loaded.

    Raises `UserError` if its files are gone, if its code is gone, if it has no signature, or if it
    is not a model of scikit-learn.
    """
    import mlflow

    told = f"Version {version.version}"
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            place = f"models:/{MODEL}/{version.version}"
            whole = mlflow.pyfunc.load_model(place, dst_path=folder)
            given = whole.metadata
            example = whole.input_example if given.signature else None
        model = whole.get_raw_model()
    except (AttributeError, ImportError) as error:
        raise MissingCode(told, error) from error
    except NotImplementedError as error:
        raise UserError(f"{told} is not a model of scikit-learn: promote another one.") from error
    except Exception as error:  # whatever MLflow, skops and the model raise
        raise UserError(f"{told} cannot be loaded: {str(error)[:300]}") from error
    inputs = inputs_of(given, told)
    rows = None
    if isinstance(example, pd.DataFrame):
        rows = fitting(example.reset_index(drop=True), inputs, f"The example of {told.lower()}")
    return Loaded(version.version, version.run_id, model, inputs, rows)
