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
from . import batches, contract, record, report
from .drawings import draw
from .drift import compare
from .incoming import from_file, from_log, labels_of
from .promote import promote
from .quality import FEWEST, assess
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
    several rows. With `retrain`, drift or decay keeps the labelled rows with the report, trains on
    them together with those of `load` and of earlier reports, and puts the result before the gate.
    The exit code is 3 on drift or decay, and 0 otherwise or once the gate has promoted. Raises
    `UserError` if there is nothing, or too little, to compare.
    """
    uri = ownership.connect()
    contract.check_names()
    if not (champion := version_of("champion")):
        raise UserError("There is no champion to monitor: promote a version first.")
    watched = watch(champion, source, labels)
    batch = batch_of(watched) if retrain else None
    found = examine(watched)
    alarm = found.verdict not in CALM
    info = report.log(found, batch if alarm else None)
    tell(found)
    page = f"runs/{info.run_id}/artifacts/report.html{VIEW}"
    print(f"Report   {uri}/#/experiments/{info.experiment_id}/{page}")
    print(f"Verdict  on {len(watched.live)} rows of version {champion.version}: {found.verdict}")
    if alarm and batch:
        learn(champion, info.run_id)
    elif batch:
        print("There is nothing to learn: not retrained.")
    return ALARM if alarm and not batch else DONE


def watch(version, source: Path | None, labels: Path | None) -> Watched:
    """Return a version and what it is asked now, in the types of its signature."""
    run_id = training_run(version).info.run_id
    place = f"models:/{MODEL}/{version.version}"
    told = f"The champion, version {version.version},"
    inputs = inputs_of(mlflow.models.get_model_info(place), told)
    then = record.read(run_id)
    kept = record.reference(then)
    reference = fitting(kept, inputs, "The reference").assign(**{TARGET: kept[TARGET]})
    known = labels_of(labels, kept) if labels else None
    came = from_file(source, inputs, kept, known) if source else from_log(run_id, inputs, known)
    if then.labelled_alone():
        came.remarks.append("Compared with the held-out labelled rows of its training.")
    if len(came.live) < FEWEST:
        who = f"champion, version {version.version}"
        if not (source or len(came.live) or came.left_out):
            raise UserError(f"The {who}, has served nothing yet: ask `serve`, or name a file.")
        raise UserError(
            f"{source or 'The log'} has {len(came.live)} rows for the {who}: at least {FEWEST} are "
            f"needed to say something. {' '.join(came.remarks)}".strip()
        )
    return Watched(version, mlflow.sklearn.load_model(place), reference, came)


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


def batch_of(watched: Watched) -> batches.Sides:
    """Return the labelled rows by side, in the types of the reference; nothing is stored yet.

    Raises `UserError` if there are too few, or if `split` fails for them.
    """
    labelled = watched.labelled
    rows = labelled.astype(watched.reference.dtypes[[*labelled]])
    if (count := len(rows.drop_duplicates())) < TO_TRAIN:
        raise UserError(
            f"--retrain learns from labels: there are {count} different rows with one, and at "
            f"least {TO_TRAIN} are needed. Name them with --labels FILE."
        )
    return batches.drawn(batches.keyed(rows), batches.stored())


def learn(champion, report_id: str) -> None:
    """Train as the champion was, now with the rows of a report, and put the result to the gate."""
    then = record.read(champion.run_id)
    run_id = train(then.params, then.seed)
    mlflow.MlflowClient().set_tag(run_id, "retrained_after", report_id)
    promote()
