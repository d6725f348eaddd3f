"""Trials of a sweep: as Optuna knows them, and as runs below the run of the sweep."""

import json
import time
import traceback
from dataclasses import dataclass, field
from typing import Any

import mlflow
import numpy as np
import optuna
from mlflow.entities import Metric, Param, RunTag
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from optuna.study import StudyDirection
from optuna.trial import TrialState

from .. import model
from ..config import UserError
from .record import STEP, decoded, encoded

TRIAL = "trial"  # tag of a trial's run: what `stored` reads
STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}
LONGEST = 5000  # characters of a tag


@dataclass
class Trial:
    """A trial that runs: Optuna's, the parameters of `build`, and the metrics of its folds."""

    optuna: Any
    params: dict
    begun: float = field(default_factory=time.time)
    folds: list[dict[str, float]] = field(default_factory=list)

    def value(self) -> float:
        """Return the mean of the primary metric over the folds so far."""
        return float(np.mean([fold[model.PRIMARY[0]] for fold in self.folds]))


def log(parent: str, experiment: str, trial: Trial, state: TrialState, error: Any = None) -> None:
    """Log a trial that ended as a run below the sweep's `parent`, in three requests."""
    client, number = mlflow.MlflowClient(), trial.optuna.number
    told = {
        "state": state.name,
        "value": trial.value() if trial.folds else None,
        "suggested": encoded(trial.optuna.params),
        "params": encoded(trial.params),
        "folds": trial.folds,
    }
    tags = {
        MLFLOW_PARENT_RUN_ID: parent, "mlflow.runName": f"trial {number}", STEP: "trial",
        TRIAL: json.dumps(encoded(told)),
    }  # fmt: skip
    if error is not None:
        lines = "".join(traceback.format_exception(error))
        tags["error"] = lines[-LONGEST:]
    made = client.create_run(experiment, start_time=int(trial.begun * 1000), tags=tags)
    run_id, now = made.info.run_id, int(time.time() * 1000)
    metrics = [
        Metric(name, value, now, step)
        for step, fold in enumerate(trial.folds)
        for name, value in fold.items()
    ]
    if trial.folds:
        metrics.append(Metric("value", trial.value(), now, 0))
    params = [Param(name, str(value)[:LONGEST]) for name, value in trial.params.items()]
    client.log_batch(run_id, metrics, params, [RunTag("state", state.name)])
    client.set_terminated(run_id, STATUS[state])


def stored(parent: str) -> list[dict]:
    """Return what the trials of a sweep have logged, the oldest first."""
    runs = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent}'",
        order_by=["attributes.start_time ASC"],
        output_format="list",
    )
    for run in runs:
        if run.info.status == "RUNNING":  # a crash between the requests of `log`
            mlflow.MlflowClient().set_terminated(run.info.run_id, "KILLED")
    return [decoded(json.loads(run.data.tags[TRIAL])) for run in runs if TRIAL in run.data.tags]


def study_of(seed: int, known: list[dict]) -> optuna.Study:
    """Return a study that knows the trials of an interrupted sweep.

    Raises `UserError` if a trial lies outside of the search space, which was changed since.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        direction=StudyDirection[model.PRIMARY[1].upper()],
        sampler=optuna.samplers.TPESampler(seed=seed + len(known), constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=1),
    )
    for one in known:
        study.add_trial(frozen(one))
    return study


def frozen(known: dict) -> optuna.trial.FrozenTrial:
    """Return a trial that was logged, as Optuna knows it; raises `UserError` as `study_of` does."""
    state = TrialState[known["state"]]
    if state == TrialState.FAIL:
        return optuna.trial.create_trial(state=state)
    fixed = optuna.trial.FixedTrial(known["suggested"])
    values = [fold[model.PRIMARY[0]] for fold in known["folds"]]
    try:
        model.space(fixed)
        return optuna.trial.create_trial(
            state=state,
            value=known["value"] if state == TrialState.COMPLETE else None,
            params=fixed.params,
            distributions=fixed.distributions,
            intermediate_values={n: float(np.mean(values[: n + 1])) for n, _ in enumerate(values)},
        )
    except ValueError as error:
        raise UserError(
            f"space() in model.py was changed since this sweep began ({error}): begin a new one."
        ) from error
