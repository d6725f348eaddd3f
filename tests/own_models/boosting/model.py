"""LightGBM's own classifier, without a pipeline."""

import pandas as pd
from lightgbm import LGBMClassifier
from matplotlib.figure import Figure
from sklearn import metrics

TASK = "classifier"
PARAMS = {"n_estimators": 30, "num_leaves": 7, "min_child_samples": 5}
PRIMARY = ("log_loss", "minimize")
THRESHOLDS = {"log_loss": ("<=", 0.5), "accuracy": (">=", 0.85)}
TRUSTED_TYPES = [
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMClassifier",
]


def build(**params) -> LGBMClassifier:
    """Return the unfitted model."""
    return LGBMClassifier(verbose=-1, n_jobs=1, **params)


def space(trial) -> dict:
    """Return the parameters of a trial."""
    return {"num_leaves": trial.suggest_int("num_leaves", 3, 15)}


def measure(model: LGBMClassifier, X: pd.DataFrame, y: pd.Series) -> dict[str, float]:
    """Return the metrics of a fitted model."""
    return {
        "log_loss": metrics.log_loss(y, model.predict_proba(X), labels=model.classes_),
        "accuracy": metrics.accuracy_score(y, model.predict(X)),
    }


def plots(model: LGBMClassifier, X: pd.DataFrame, y: pd.Series) -> dict[str, Figure]:
    """Return how much each column was used."""
    figure = Figure()
    figure.subplots().barh(X.columns, model.feature_importances_)
    return {"importances": figure}
