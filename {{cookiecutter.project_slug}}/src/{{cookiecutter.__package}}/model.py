"""The model: an unfitted pipeline, how a fitted one is measured, and what is good enough."""

import pandas as pd
from matplotlib.figure import Figure
from sklearn import metrics
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.inspection import permutation_importance
from sklearn.pipeline import Pipeline, make_pipeline

TASK = "classifier"
PARAMS = {"n_estimators": 100, "max_depth": None, "min_samples_leaf": 1}
PRIMARY = ("roc_auc", "maximize")
THRESHOLDS = {"roc_auc": (">=", 0.95), "recall": (">=", 0.85)}

# Models are stored as skops, not as pickle: loading one makes no types but those that skops knows
# and these. Both were read: a column's data type, and the nodes of a tree, which are numbers only.
TRUSTED_TYPES = ["numpy.dtype", "sklearn.tree._tree.Tree"]


def build(**params) -> Pipeline:
    """Return the unfitted pipeline; `params` are those of `PARAMS`."""
    return make_pipeline(SimpleImputer(strategy="median"), RandomForestClassifier(**params))


def space(trial) -> dict:
    """Return the parameters of one `trial` of a sweep (Optuna's `Trial`)."""
    return {
        "n_estimators": trial.suggest_int("n_estimators", 50, 300, step=50),
        "max_depth": trial.suggest_int("max_depth", 2, 16),
        "min_samples_leaf": trial.suggest_int("min_samples_leaf", 1, 10),
    }


def measure(model: Pipeline, X: pd.DataFrame, y: pd.Series) -> dict[str, float]:
    """Return the metrics of a fitted `model` on rows `X` with the true values `y`."""
    predicted = model.predict(X)
    return {
        "roc_auc": metrics.roc_auc_score(y, model.predict_proba(X)[:, 1]),
        "accuracy": metrics.accuracy_score(y, predicted),
        "recall": metrics.recall_score(y, predicted),
    }


def plots(model: Pipeline, X: pd.DataFrame, y: pd.Series) -> dict[str, Figure]:
    """Return pictures of a fitted `model` on rows `X` with the true values `y`, by name."""
    figures = {
        name: Figure(figsize=(7, 5), layout="constrained")
        for name in ("confusion_matrix", "roc_curve", "permutation_importance")
    }
    confusion, roc, importance = (figure.subplots() for figure in figures.values())
    metrics.ConfusionMatrixDisplay.from_estimator(model, X, y, ax=confusion, colorbar=False)
    metrics.RocCurveDisplay.from_estimator(model, X, y, ax=roc, plot_chance_level=True)
    drops = permutation_importance(model, X, y, scoring="roc_auc", n_repeats=5, random_state=0)
    ranked = pd.Series(drops.importances_mean, index=X.columns).sort_values().tail(15)
    importance.barh(ranked.index, ranked)
    importance.set_xlabel("loss of ROC AUC when the feature is shuffled")
    return figures
