"""One fold of one trial: the task of a sweep. Workers import this without MLflow."""

import random
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.model_selection import KFold, StratifiedKFold

from .. import model

FOLDS = 5


class Folded(NamedTuple):
    """Training rows for cross-validation.

    `fit` are the features as a model is fitted with, `X` as it is asked with, `y` the target;
    `folds` are pairs of row numbers: to fit with, and to measure on.
    """

    fit: pd.DataFrame
    X: pd.DataFrame
    y: pd.Series
    folds: list[tuple[np.ndarray, np.ndarray]]


def folded(fit: pd.DataFrame, X: pd.DataFrame, y: pd.Series) -> Folded:
    """Return rows in `FOLDS` folds, drawn once; each has the classes in the same shares."""
    kind = StratifiedKFold if model.TASK == "classifier" else KFold
    splitter = kind(min(FOLDS, len(X)), shuffle=True, random_state=0)
    return Folded(fit, X, y, [*splitter.split(X, y)])


def fit(params: dict, seed: int, X: pd.DataFrame, y: pd.Series):
    """Return the model of `build`, fitted after NumPy's and Python's generators were set."""
    random.seed(seed)
    np.random.seed(seed)
    return model.build(**params).fit(X, y)


def fold_metrics(rows: Folded, params: dict, fold: int, seed: int) -> dict[str, float]:
    """Return what `measure` says on a fold of a model that is fitted on the others."""
    training, held_out = rows.folds[fold]
    fitted = fit(params, seed, rows.fit.iloc[training], rows.y.iloc[training])
    found = model.measure(fitted, rows.X.iloc[held_out], rows.y.iloc[held_out])
    return {name: float(value) for name, value in found.items()}
