"""Words weighted by TF-IDF, and a logistic regression over four classes that are text."""

import pandas as pd
from matplotlib.figure import Figure
from sklearn import metrics
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

TASK = "classifier"
PARAMS = {"C": 10.0}
PRIMARY = ("balanced_accuracy", "maximize")
THRESHOLDS = {"balanced_accuracy": (">=", 0.7)}
TRUSTED_TYPES = ["numpy.dtype"]


def build(**params) -> Pipeline:
    """Return the unfitted pipeline."""
    words = make_column_transformer((TfidfVectorizer(), "text"))
    return make_pipeline(words, LogisticRegression(max_iter=1000, **params))


def space(trial) -> dict:
    """Return the parameters of a trial."""
    return {"C": trial.suggest_float("C", 0.1, 100, log=True)}


def measure(model: Pipeline, X: pd.DataFrame, y: pd.Series) -> dict[str, float]:
    """Return the metrics of a fitted model."""
    return {"balanced_accuracy": metrics.balanced_accuracy_score(y, model.predict(X))}


def plots(model: Pipeline, X: pd.DataFrame, y: pd.Series) -> dict[str, Figure]:
    """Return which library is taken for which."""
    figure = Figure()
    metrics.ConfusionMatrixDisplay.from_estimator(model, X, y, ax=figure.subplots())
    return {"confusion": figure}
