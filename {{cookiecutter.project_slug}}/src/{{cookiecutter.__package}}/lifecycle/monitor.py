"""Drift and live quality: what was served, or a file, against the reference logged at training.

Each report is a run; the run above all reports on a version has their metrics as curves over time.
"""

from pathlib import Path

import mlflow
import pandas as pd

from ..config import MODEL, VIEW, UserError
from ..data import TARGET
from ..model import TASK
from ..ops import ownership
from ..ops.shell import hush
from . import record, report
from .drawings import draw
from .drift import compare
from .incoming import from_file, from_log, labels_of
from .promote import promote
from .quality import FEWEST, assess, check_words
from .registry import training_run, version_of
from .report import Report, Watched
from .rows import fitting, inputs_of, scored
from .train import train

TO_TRAIN = 200  # labelled rows
CALM = ("stable", "cannot tell")  # verdicts
DONE, ALARM = 0, 3  # exit codes


def monitor(source: Path | None = None, labels: Path | None = None, retrain: bool = False) -> int:
    """Report drift, and live quality where there are labels, as a run; return the exit code.

    About the newest rows that the champion has served, or the last rows of the file `source`.
    `labels` has the target and the `id` of each prediction, and `row`, from 0, for requests of
    several rows. With `retrain`, drift or decay trains on the labelled rows and puts the result
    before the gate. The exit code is 3 on drift or decay, and 0 otherwise or once the gate has
    promoted. Raises `UserError` if there is nothing, or too little, to compare.
    """
    uri = ownership.connect()
    hush()
    check_words()
    if not (champion := version_of("champion")):
        raise UserError("There is no champion to monitor: promote a version first.")
    watched = watch(champion, source, labels)
    lessons = lessons_of(watched) if retrain else None
    found = examine(watched)
    info = report.log(found)
    tell(found)
    page = f"runs/{info.run_id}/artifacts/report.html{VIEW}"
    print(f"Report   {uri}/#/experiments/{info.experiment_id}/{page}")
    print(f"Verdict  on {len(watched.live)} rows of version {champion.version}: {found.verdict}")
    if found.verdict in CALM:
        if lessons is not None:
            print("There is nothing to learn: not retrained.")
        return DONE
    if lessons is None:
        return ALARM
    learn(champion, lessons, info.run_id)
    return DONE


def watch(version, source: Path | None, labels: Path | None) -> Watched:
    """Return a version and what it is asked now, in the types of its signature."""
    run_id = training_run(version).info.run_id
    place = f"models:/{MODEL}/{version.version}"
    told = f"The champion, version {version.version},"
    inputs = inputs_of(mlflow.models.get_model_info(place), told)
    kept = reference_of(run_id)
    reference = fitting(kept, inputs, "The reference").assign(**{TARGET: kept[TARGET]})
    known = labels_of(labels, kept) if labels else None
    came = from_file(source, inputs, kept, known) if source else from_log(run_id, inputs, known)
    if len(came.live) < FEWEST:
        who = f"champion, version {version.version}"
        if not (source or len(came.live) or came.left_out):
            raise UserError(f"The {who}, has served nothing yet: ask `serve`, or name a file.")
        raise UserError(
            f"{source or 'The log'} has {len(came.live)} rows for the {who}: at least {FEWEST} are "
            f"needed to say something. {' '.join(came.remarks)}".strip()
        )
    return Watched(version, mlflow.sklearn.load_model(place), reference, came)


def reference_of(run_id: str) -> pd.DataFrame:
    """Return the held-out rows that a training run kept."""
    rows = record.reference(run_id)
    if TASK == "regressor":  # later labels may be no whole numbers, though these all are
        rows[TARGET] = rows[TARGET].astype("float64")
    elif isinstance(rows[TARGET].dtype, pd.CategoricalDtype):  # a later label may be a new one
        rows[TARGET] = rows[TARGET].astype(rows[TARGET].cat.categories.dtype)
    return rows


def examine(watched: Watched) -> Report:
    """Return what there is to say of a version and what it was asked."""
    old = answered(watched.model, watched.reference.drop(columns=TARGET))
    new = answered(watched.model, watched.live)
    drift, quality = compare(old, new), None
    if watched.came.trouble is not None:
        quality = assess(watched.model, watched.reference, watched.labelled, watched.came.trouble)
    return Report(watched, drift, quality, draw(old, new, drift))


def answered(model, X: pd.DataFrame) -> pd.DataFrame:
    """Return `X` with what `model` answers, as columns of their own."""
    answers = scored(model, X.reset_index(drop=True))
    found = {name: answers[name] for name in ("prediction", "probability") if name in answers}
    if TASK == "classifier":
        found["prediction"] = pd.Series(found["prediction"]).astype(str).to_numpy()
    return X.assign(**found)


def tell(found: Report) -> None:
    """Print what was read, the columns that moved most, and the quality."""
    for remark in found.watched.came.remarks:
        print(f"Rows     {remark}")
    print(report.readable_drift(found.drift.head(5)).set_index("column").to_string())
    if found.quality is not None:
        print(report.readable_quality(found.quality.table).set_index("metric").to_string())
        print(f"Quality  {report.quality_in_words(found.quality)}")


def lessons_of(watched: Watched) -> pd.DataFrame:
    """Return the labelled rows to train on, each once, in the types of the reference."""
    labelled = watched.labelled
    kinds = watched.reference.dtypes[[*labelled]]
    rows = labelled.astype(kinds).drop_duplicates().reset_index(drop=True)
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
