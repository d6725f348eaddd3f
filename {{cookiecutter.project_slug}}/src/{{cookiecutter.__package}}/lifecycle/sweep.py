"""The pictures and the page of a sweep: its history, what mattered, and a table of its trials."""

import html
import warnings

import optuna
import pandas as pd
from matplotlib.figure import Figure
from optuna.trial import TrialState

from ..config import MODEL
from ..model import PRIMARY
from .report import drawn, number, page_head, table

SIZE = (7, 4)


def figures(study: optuna.Study) -> dict[str, Figure]:
    """Return the history of a study, and the importance of its parameters where it can be told."""
    found = {"history": history(study)}
    try:
        with warnings.catch_warnings(action="ignore"):  # with few trials all matter alike
            shares = optuna.importance.get_param_importances(study)
    except (RuntimeError, ValueError):  # too few trials, or all of one value
        return found
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    names = [*shares][::-1]
    axes.barh(range(len(names)), [shares[name] for name in names])
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_xlabel(f"importance for {PRIMARY[0]}")
    return found | {"importance": figure}


def history(study: optuna.Study) -> Figure:
    """Return a picture of the values of all trials, and of the best so far."""
    values = pd.Series({one.number: one.value for one in complete(study)}, dtype=float)
    best = values.cummax() if PRIMARY[1] == "maximize" else values.cummin()
    figure = Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    axes.plot(values.index, values, "o", label="trial")
    axes.step(best.index, best, where="post", label="best so far")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{PRIMARY[0]}, mean over the folds")
    axes.legend()
    return figure


def complete(study: optuna.Study) -> list:
    """Return the trials that were measured on all folds."""
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])


def trials_of(study: optuna.Study) -> pd.DataFrame:
    """Return a table of all trials, the best first."""
    rows = [
        {"trial": str(one.number), "state": one.state.name.lower(), "value": value_of(one)}
        | {name: str(value) for name, value in one.params.items()}
        for one in study.get_trials(deepcopy=False)
    ]
    found = pd.DataFrame(rows)
    ascending = PRIMARY[1] == "minimize"
    return found.sort_values("value", ascending=ascending).assign(
        value=lambda rows: rows["value"].map(number)
    )


def value_of(trial) -> float:
    """Return the value of a trial, or what was known of it when it ended early."""
    if trial.value is not None:
        return trial.value
    return [*trial.intermediate_values.values()][-1] if trial.intermediate_values else float("nan")


def page(study: optuna.Study, pictures: dict[str, Figure]) -> str:
    """Return the sweep as a page that needs no other file."""
    title = html.escape(f"{MODEL}: {len(study.get_trials(deepcopy=False))} trials")
    return f"""{page_head(title)}
<h1>{title}</h1>
<p>{html.escape(PRIMARY[0])}: mean over the folds of a cross-validation on the training rows. The
gate's held-out rows were not used.</p>
{drawn(pictures)}<h2>trials</h2>{table(trials_of(study))}
"""
