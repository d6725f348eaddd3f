"""A linear regression, which takes no missing values."""

import pandas as pd
from matplotlib.figure import Figure
from sklearn import metrics
from sklearn.compose import make_column_transformer
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder

TASK = "regressor"
PARAMS = {"alpha": 1.0}
PRIMARY = ("rmse", "minimize")
THRESHOLDS = {"rmse": ("<=", 70), "r2": (">=", 0.3)}
TRUSTED_TYPES = ["numpy.dtype", "sklearn.compose._column_transformer._RemainderColsList"]


def build(**params) -> Pipeline:
    """Return the unfitted pipeline."""
    return make_pipeline(
        make_column_transformer((OneHotEncoder(), ["sex"]), remainder="passthrough"),
        Ridge(**params),
    )


def space(trial) -> dict:
    """Return the parameters of a trial."""
    return {"alpha": trial.suggest_float("alpha", 0.01, 100, log=True)}


def measure(model: Pipeline, X: pd.DataFrame, y: pd.Series) -> dict[str, float]:
    """Return the metrics of a fitted model."""
    predicted = model.predict(X)
    return {
        "rmse": metrics.root_mean_squared_error(y, predicted),
        "r2": metrics.r2_score(y, predicted),
    }


def plots(model: Pipeline, X: pd.DataFrame, y: pd.Series) -> dict[str, Figure]:
    """Return predicted against actual values."""
    figure = Figure()
    metrics.PredictionErrorDisplay.from_estimator(model, X, y, ax=figure.subplots())
    return {"errors": figure}
