"""A version before the gate: what is recorded of it, its fitted model, and its metrics on rows."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..config import MODEL, UserError
from ..data import TARGET, load, split
from ..model import PRIMARY, measure
from . import batches, gate, record, registry
from .contract import THRESHOLDS
from .parts import columns_of
from .remember import Remembering
from .rows import Inputs, fitting, inputs_of, row_hashes

FEWEST = 20  # held-out rows of a part that no model was trained on, or nothing can be compared
LEFT = 0.5  # share of a version's recorded rows that today's data must still have
SOURCE = "load() in data.py"
LOAD, LABELLED = "load", "labelled"  # the two held-out parts


@dataclass(frozen=True)
class Candidate:
    """A version that is judged under an alias, its record, its model and the columns it takes.

    `hashes` are those of the rows of its run by part: "training" and "held_out".
    """

    alias: str
    version: Any
    record: record.Record
    hashes: dict[str, np.ndarray]
    model: Any
    inputs: Inputs
    trials: str = ""  # number of trials of the sweep that chose its parameters

    def __str__(self) -> str:
        return f"{self.alias}, version {self.version.version}"

    @property
    def columns(self) -> list[str]:
        """The columns that its rows' hashes are made of."""
        return sorted([*self.record.columns, self.record.target])


@dataclass(frozen=True)
class Scored:
    """A candidate on the held-out `rows` of a part, and its metrics there.

    `X` and `y` are the same rows as its model takes them.
    """

    candidate: Candidate
    rows: pd.DataFrame
    X: pd.DataFrame
    y: pd.Series
    metrics: dict[str, float]
    metrics_of: Callable[[np.ndarray], dict[str, float]]  # the same on the rows of some numbers

    def as_trained(self) -> bool:
        """Return whether these are the held-out rows of the version's own run, and no others."""
        then, now = self.candidate.hashes["held_out"], self.rows
        if len(then) != len(now):
            return False
        return np.array_equal(np.sort(then), np.sort(row_hashes(now, self.candidate.columns)))


def candidate_of(alias: str, version) -> Candidate:
    """Return what is known of a version; raise `UserError` if it cannot be judged."""
    import mlflow

    run = registry.training_run(version)
    run_id, trials = run.info.run_id, run.data.tags.get("trials", "")
    found, hashes = record.read(run_id), record.row_hashes_of(run_id)
    label = f"The {alias}, version {version.version},"
    try:
        place = mlflow.artifacts.download_artifacts(f"models:/{MODEL}/{version.version}")
        info, model = mlflow.models.Model.load(place), mlflow.sklearn.load_model(place)
    except Exception as error:  # whatever the reading of a model and its classes raises
        raise UserError(f"{label} cannot be loaded: {type(error).__name__}: {error}") from error
    return Candidate(alias, version, found, hashes, model, inputs_of(info, label), trials)


class Today:
    """Today's rows, and their hashes, which are computed once for each set of columns.

    `parts` are the held-out rows, those of `load` first; `frames` have all rows.
    """

    def __init__(self) -> None:
        frame = load()
        if TARGET not in frame:
            raise UserError(f"{SOURCE} returns no column {TARGET}, which is TARGET there.")
        training, held_out = split(frame)
        self.frames, self.parts = [frame], {LOAD: held_out}
        if kept := batches.stored():
            own = {"training": training, "held_out": held_out}
            sides = batches.labelled(kept, *columns_of(frame), own).sides
            self.frames += sides.values()
            if (count := len(sides["held_out"])) >= FEWEST:
                self.parts[LABELLED] = sides["held_out"]
            else:
                print(f"Labelled {count} held-out rows: too few to judge on ({FEWEST} are needed)")
        self._hashes: dict[tuple[str, ...], tuple[np.ndarray, dict[str, np.ndarray]]] = {}

    def hashes(self, columns: tuple[str, ...]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return the hashes of all rows, and of the held-out rows by part."""
        if columns not in self._hashes:
            whole = np.concatenate([row_hashes(frame, columns) for frame in self.frames])
            parts = {name: row_hashes(rows, columns) for name, rows in self.parts.items()}
            self._hashes[columns] = whole, parts
        return self._hashes[columns]


def unseen_rows(candidate: Candidate, today: Today) -> dict[str, pd.DataFrame]:
    """Return the held-out rows of each part that a version was not trained on.

    The rows are compared over the columns of the version's own run: one that was added later does
    not count. Raises `UserError` if the challenger was trained on any held-out row, the champion on
    too many, or if this cannot be known.
    """
    known, columns = candidate.record, candidate.columns
    if known.target != TARGET:
        raise UserError(
            f"The {candidate}, predicts {known.target}, but TARGET in data.py is {TARGET}: they "
            "are not comparable."
        )
    if missing := [str(name) for name in columns if name not in today.frames[0]]:
        raise UserError(
            f"The {candidate}, needs columns that your data lacks, so it is not comparable: "
            f"{', '.join(missing[:5])}{', ...' if missing[5:] else '.'}"
        )
    whole, parts = today.hashes(tuple(columns))
    if gate.share_left(np.concatenate([*candidate.hashes.values()]), whole) < LEFT:
        raise UserError(
            f"Fewer than half of the rows that the {candidate}, was trained and tested on are in "
            "your data today. Either rows were replaced (or a report with labelled rows deleted) "
            "or values in them have changed, so nobody can tell new rows from those that it was "
            "trained on."
            f"{' Train a new challenger.' if candidate.alias == 'challenger' else ''}"
        )
    found = {}
    for part, held_out in parts.items():
        fresh = gate.unseen(whole, held_out, candidate.hashes["training"])
        check_unseen(candidate, part, fresh)
        found[part] = today.parts[part][fresh]
    return found


def check_unseen(candidate: Candidate, part: str, fresh: np.ndarray) -> None:
    """Raise `UserError` if too few held-out rows of a part are `fresh` to a version."""
    left, leaked = int(fresh.sum()), int((~fresh).sum())
    if leaked and candidate.alias == "challenger":
        raise UserError(
            f"{leaked} of the {len(fresh)} held-out rows ({part}) were among the training rows of "
            f"the {candidate}: no verdict. Does split() keep them apart?"
        )
    if leaked and left < FEWEST:
        raise UserError(
            f"The {candidate}, was trained on {leaked} of the {len(fresh)} held-out rows ({part}), "
            f"which leaves too few rows to compare ({left}; at least {FEWEST} are needed): get new "
            "rows."
        )
    if leaked:
        print(f"Judging  on {left} of {len(fresh)} held-out rows: the champion saw the others")


def score(candidate: Candidate, rows: pd.DataFrame) -> Scored:
    """Return what `measure` says of a version on rows, in the columns and types of its signature.

    Raises `UserError` if it fails, or if a metric that decides is missing or not finite.
    """
    import mlflow

    numbered = rows.reset_index(drop=True)
    target = mlflow.models.infer_signature(numbered[[TARGET]]).inputs
    X, y = (fitting(numbered, schema, SOURCE) for schema in (candidate.inputs, target))
    y = y[TARGET]
    model = Remembering(candidate.model, X)

    def metrics_of(numbers: np.ndarray) -> dict[str, float]:
        found = measure(model, X.iloc[numbers], y.iloc[numbers])
        return {name: float(value) for name, value in found.items()}

    try:
        metrics = metrics_of(np.arange(len(X)))
    except Exception as error:  # whatever the user's function raises
        raise UserError(
            f"measure() in model.py fails for the {candidate}: {type(error).__name__}: {error}"
        ) from error
    for name in [PRIMARY[0], *(THRESHOLDS if candidate.alias == "challenger" else ())]:
        if not math.isfinite(metrics.get(name, math.nan)):
            why = f"it is {metrics[name]}" if name in metrics else "measure() does not return it"
            raise UserError(f"The {candidate}, has no {name} on these rows: {why}.")
    return Scored(candidate, rows, X, y, metrics, metrics_of)
