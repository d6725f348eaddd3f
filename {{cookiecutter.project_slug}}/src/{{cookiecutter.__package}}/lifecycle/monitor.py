"""Drift and live quality: what was served, or a file, against the reference logged at training.

Each report is a run; the run above all reports on a version has their metrics as curves over time.
"""

import json
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import typer

from ..config import EXPERIMENT, MODEL, VIEW, UserError
from ..data import TARGET
from ..model import PRIMARY, TASK, measure
from ..ops import ownership
from ..ops.shell import hush
from . import record
from .drift import ALPHA, compare, draw
from .promote import promote
from .registry import version_of
from .remember import Remembering
from .report import Watched, report
from .requests import records, rows_of
from .rows import fitting, inputs_of, read, scored
from .train import train

ROWS = 1000  # a report is about the newest rows that were served
FEWEST, TO_TRAIN = 50, 200  # rows, to say something and to train on
PERMUTATIONS = 199


def monitor(source: Path | None = None, labels: Path | None = None, retrain: bool = False) -> None:
    """Report drift, and live quality where there are labels, as a run; say the verdict.

    About the newest rows that the champion has served, or the rows of the file `source`. `labels`
    has the target and the `id` of each prediction, and `row`, from 0, for requests of several.
    With `retrain`, drift or decay trains on the labelled rows and puts the result before the gate.
    Raises `UserError` when there is nothing, or too little, to compare.
    """
    uri = ownership.connect()
    hush()
    mlflow.set_experiment(EXPERIMENT)
    champion = version_of("champion")
    if not champion:
        raise UserError("There is no champion to monitor: promote a version first.")
    watched = watch(champion, source, labels)
    lessons = lessons_of(watched) if retrain else None
    old = answered(watched.model, watched.reference.drop(columns=TARGET))
    new = answered(watched.model, watched.live)
    drift, quality = compare(old, new), qualities(watched)
    verdict = judgement(drift, quality)
    info = report(watched, drift, quality, verdict, draw(old, new, drift))
    print(drift.head(5)[["kind", "distance", "p", "drift"]].round(4).to_string())
    if quality is not None:
        print(quality.round(4).to_string(na_rep=""))
    page = f"runs/{info.run_id}/artifacts/report.html{VIEW}"
    print(f"Report   {uri}/#/experiments/{info.experiment_id}/{page}")
    print(f"Verdict  on {len(watched.live)} rows of version {champion.version}: {verdict}")
    if lessons is None:
        return
    if verdict == "stable":
        print("There is nothing to learn: not retrained.")
        return
    learn(champion, lessons, info.run_id)


# What came in


def watch(version, source: Path | None, labels: Path | None) -> Watched:
    """Return a version and what it is asked now, in the types of its signature."""
    place = f"models:/{MODEL}/{version.version}"
    inputs = inputs_of(mlflow.models.get_model_info(place), f"Version {version.version}")
    reference = reference_of(version)
    known = labels_of(labels, reference) if labels else None
    if source:
        rows = read(source)
        index = keys(rows) if labels else rows.index
        if not labels and TARGET in rows:
            found = targets(rows, reference, source)
            known = found if len(found) >= FEWEST else None
    else:
        rows, index = served(version, known, inputs.input_names())
    X = last_of_each(fitting(rows, inputs, source or "The log").set_axis(index))
    if len(X) < FEWEST:
        raise UserError(
            f"{source or 'The log'} has {len(X)} rows for the champion, version "
            f"{version.version}: at least {FEWEST} are needed to say something."
        )
    labelled = X.head(0) if known is None else matched(X, known, labels, source)
    old = fitting(reference, inputs, "The reference").assign(**{TARGET: reference[TARGET]})
    live = X if source else X.tail(ROWS)
    return Watched(version, mlflow.sklearn.load_model(place), old, live, labelled)


def reference_of(version) -> pd.DataFrame:
    """Return the held-out rows that the training run of a version kept."""
    rows = record.reference(version.run_id)
    if TASK == "regressor":  # later labels may be no whole numbers, though these all are
        rows[TARGET] = rows[TARGET].astype("float64")
    return rows


def matched(
    X: pd.DataFrame, known: pd.Series, labels: Path | None, source: Path | None
) -> pd.DataFrame:
    """Return the rows of `X` whose label is known, with it."""
    found = X.join(known, how="inner")
    if "row" in X.index.names and not known.index.get_level_values("row").any():
        same = X.index.get_level_values("id").isin(known.index.get_level_values("id"))
        if X[same].index.get_level_values("row").any():
            raise UserError(f"{labels} needs a column row, from 0: a request had several rows.")
    if len(found) < FEWEST:
        ids = f"that of {source}" if source else "the header x-prediction-id of each answer"
        raise UserError(
            f"{labels} labels {len(found)} of the rows: at least {FEWEST} are needed. Its `id` is "
            f"{ids}."
        )
    return found


def served(
    version, labels: pd.Series | None, names: list[str]
) -> tuple[pd.DataFrame, pd.MultiIndex]:
    """Return the newest rows that a version has served, and all that have `labels`.

    The newest come last. Beside them: the id of each one's prediction, and its row in the request.
    """
    wanted = set() if labels is None else set(labels.index.get_level_values("id"))
    places: list[tuple[str, int]] = []
    rows: list[dict] = []
    for line in records():
        if len(rows) >= ROWS and not wanted:
            break
        of_version = line.get("run_id") == version.run_id  # numbers come again after a restore
        if of_version and (len(rows) < ROWS or line["id"] in wanted):
            found = rows_of(line["type"], line["input"], names)
            places += [(line["id"], row) for row in reversed(range(len(found)))]
            rows += found[::-1]
            wanted.discard(line["id"])
    if not rows:
        raise UserError(
            f"The champion, version {version.version}, has served nothing yet: ask `serve`, or "
            "name a file."
        )
    newest = pd.DataFrame(rows[::-1], dtype=object)  # a value keeps its type beside others
    return newest, pd.MultiIndex.from_tuples(places[::-1], names=["id", "row"])


def keys(rows: pd.DataFrame) -> pd.MultiIndex:
    """Return the id of each row's prediction, and its row in the request."""
    if "id" not in rows:
        raise UserError("Labels are joined by id: both files need a column id.")
    ids = rows["id"].astype(str).str.strip()
    places = pd.to_numeric(rows["row"], errors="coerce") if "row" in rows else [0] * len(rows)
    return pd.MultiIndex.from_arrays([ids, places], names=["id", "row"])


def last_of_each(rows):
    """Return a table, or a column, without those that come again with the same key."""
    return rows[~rows.index.duplicated(keep="last")]


def labels_of(labels: Path, reference: pd.DataFrame) -> pd.Series:
    """Return the labels of a file, by the id and the row of their predictions."""
    rows = read(labels)
    if lacking := sorted({"id", TARGET} - {*rows}):
        raise UserError(f"{labels} lacks the column {' and '.join(lacking)}.")
    known = targets(rows, reference, labels)
    return last_of_each(known.set_axis(keys(rows).take(known.index)))


def targets(rows: pd.DataFrame, reference: pd.DataFrame, source: Path) -> pd.Series:
    """Return the target of those `rows` that have one, in the type of the reference's."""
    known = rows[rows[TARGET].notna() & (rows[TARGET].astype(str) != "")]
    inputs = mlflow.models.infer_signature(reference[[TARGET]]).inputs
    return fitting(known, inputs, source)[TARGET].astype(reference[TARGET].dtype)


def answered(model, X: pd.DataFrame) -> pd.DataFrame:
    """Return `X` with what `model` answers, as columns of their own."""
    answers = scored(model, X.reset_index(drop=True))
    if TASK == "classifier":
        answers["prediction"] = answers["prediction"].astype(str)
    return X.assign(**answers)


# What it is worth


def qualities(watched: Watched) -> pd.DataFrame | None:
    """Return the metrics at promotion and now; `p` says how likely a loss is by chance.

    It is that of the primary metric, between held-out rows of training and the labelled ones, by
    a permutation test, which is exact whatever the metric.
    """
    if watched.labelled.empty:
        return None
    old, new = watched.reference, watched.labelled
    rows = pd.concat([old, new[[*old]]], ignore_index=True)
    X, y = rows.drop(columns=TARGET), rows[TARGET]
    model = Remembering(watched.model, X)
    name, direction = PRIMARY
    sign = 1 if direction == "maximize" else -1

    def both(order) -> tuple[dict, dict, float]:
        then, now = (
            measure(model, X.iloc[part], y.iloc[part]) for part in np.split(order, [len(old)])
        )
        return then, now, sign * (then[name] - now[name])

    then, now, loss = both(np.arange(len(rows)))
    generator = np.random.default_rng(0)
    with typer.progressbar(range(PERMUTATIONS), label="Comparing") as rounds:
        chance = [both(generator.permutation(len(rows)))[2] for _ in rounds]
    promoted = json.loads(watched.version.tags.get("metrics_of_challenger", "{}"))
    found = pd.DataFrame({"promoted": then | {k: promoted[k] for k in then.keys() & promoted}})
    found["live"] = pd.Series(now)
    smaller = np.array(chance) < loss - 1e-12  # where a metric is undefined, it is none
    found.loc[name, "p"] = (1 + np.sum(~smaller)) / (1 + PERMUTATIONS)
    return found


def judgement(drift: pd.DataFrame, quality: pd.DataFrame | None) -> str:
    """Return the verdict: stable, drift, decay, or drift and decay."""
    decay = quality is not None and quality.loc[PRIMARY[0], "p"] < ALPHA
    said = ["drift"] * bool(drift["drift"].any()) + ["decay"] * bool(decay)
    return " and ".join(said) or "stable"


def lessons_of(watched: Watched) -> pd.DataFrame:
    """Return the labelled rows to train on, each once, in the types of the reference."""
    kinds = watched.reference.dtypes[[*watched.labelled]]
    rows = watched.labelled.astype(kinds).drop_duplicates().reset_index(drop=True)
    if len(rows) < TO_TRAIN:
        raise UserError(
            f"--retrain learns from labels: there are {len(rows)} different rows with one, and at "
            f"least {TO_TRAIN} are needed. Name them with --labels FILE."
        )
    return rows


def learn(champion, rows: pd.DataFrame, report_id: str) -> None:
    """Train as the champion was, on labelled rows alone, and put the result before the gate."""
    then = record.read(champion.run_id)
    run_id = train(then.params, then.seed, frame=rows)
    mlflow.MlflowClient().set_tag(run_id, "retrained_after", report_id)
    promote(rows)


# The report
