"""Labelled rows that `monitor --retrain` has kept: a batch for each report, as files of its run.

`split` draws the sides of a batch when it arrives, and they are stored with it. Deleting the run of
a report forgets its rows.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd

from .. import data
from ..config import MODEL, UserError
from .contract import check_apart, check_split
from .record import file_of
from .rows import Inputs, row_hashes, those_that_fit

TAG = "labelled_rows"  # tag of a report's run that has a batch: the name of the model
FOLDER = "labelled"  # of its files: a table for each side
SIDES = ("training", "held_out")

Sides = Mapping[str, pd.DataFrame]  # a table for each of `SIDES`


class Batch(NamedTuple):
    """The rows of a report by side; the index of each table has the keys of its rows."""

    run_id: str
    sides: Sides


class Labelled(NamedTuple):
    """The labelled rows of all batches, in today's columns and types, by side.

    `runs` are the ids of the reports, `left_out` and `in_load` the numbers of rows that do not fit
    today's columns, and that `load` has by now.
    """

    sides: Sides
    runs: list[str]
    left_out: int = 0
    in_load: int = 0

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each side."""
        return {side: len(rows) for side, rows in self.sides.items()}

    def __str__(self) -> str:
        training, held_out = self.counts().values()
        reports = f"{len(self.runs)} report{'s' * (len(self.runs) > 1)}"
        told = f"{training:,} to train with and {held_out:,} held out, of {reports}"
        told += f"; {self.left_out:,} do not fit today's columns" if self.left_out else ""
        return told + (f"; {self.in_load:,} are in load() by now" if self.in_load else "")


def keyed(rows: pd.DataFrame) -> pd.DataFrame:
    """Return labelled rows under their keys, each once: of rows with the same key the last one.

    The key is the id of the prediction and the row's place in its request, which are the index of
    `rows` where they are known; else the hash of its features.
    """
    if isinstance(rows.index, pd.MultiIndex):
        keys = [f"{name}/{place:g}" for name, place in rows.index]
    else:
        features = [name for name in rows if name != data.TARGET]
        keys = [f"{one:016x}" for one in row_hashes(rows, features)]
    found = rows.set_axis(pd.Index(keys, dtype=object))
    return found[~found.index.duplicated(keep="last")]


def drawn(rows: pd.DataFrame, earlier: list[Batch]) -> Sides:
    """Return the sides of a new batch: rows of earlier batches keep theirs, `split` draws the rest.

    Raises `UserError` if `split` fails for these rows.
    """
    side_of = {key: side for one in earlier for side in SIDES for key in one.sides[side].index}
    known = rows.index.map(side_of)
    new = rows[known.isna()]
    parts = dict.fromkeys(SIDES, new)
    if len(new):
        try:
            parts = dict(zip(SIDES, check_split(new), strict=True))
            one, two = (row_hashes(part, [*new]) for part in parts.values())
            check_apart(one, two, new)
        except Exception as error:  # whatever the user's function raises on such rows
            raise UserError(
                f"split() in data.py cannot split the {len(new)} new labelled rows, so they are "
                f"not kept: {type(error).__name__}: {error}"
            ) from error
    return {side: pd.concat([rows[known == side], parts[side]]) for side in SIDES}


def log(sides: Sides) -> None:
    """Log a batch to the active run, which is that of its report."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for side in SIDES:
            sides[side].to_parquet(Path(folder, f"{side}.parquet"))
        mlflow.log_artifacts(folder, FOLDER)
    mlflow.set_tag(TAG, MODEL)


def stored(runs: list[str] | None = None) -> list[Batch]:
    """Return the batches of all active runs, or of these `runs`, the oldest first.

    Raises `UserError` if one cannot be read.
    """
    if runs is None:
        found = mlflow.search_runs(
            search_all_experiments=True,
            filter_string=f"tags.{TAG} = '{MODEL}'",
            order_by=["attributes.start_time ASC"],
            output_format="list",
        )
        runs = [run.info.run_id for run in found]
    return [read(run_id) for run_id in runs]


def read(run_id: str) -> Batch:
    """Return the batch of a report; raise `UserError` if its run is gone or has none."""
    with file_of(run_id, FOLDER, step="monitor") as folder:
        return Batch(run_id, {side: pd.read_parquet(folder / f"{side}.parquet") for side in SIDES})


def labelled(batches: list[Batch], inputs: Inputs, target: Inputs, load: Sides) -> Labelled:
    """Return the rows of batches in the columns of `inputs` and `target`, each row once.

    The newest label of a row counts. Rows that do not fit, and rows that `load` has by now, are
    left out. `load` are the sides of its rows: a row that it has on both is a value that many rows
    share, and stays.
    """
    both = Inputs([*inputs.inputs, *target.inputs], inputs.notes | target.notes)
    if not batches:
        return Labelled({side: empty(both) for side in SIDES}, [])
    places = [(batch, side) for batch in batches for side in SIDES]
    newest = ~pd.Index(np.concatenate([b.sides[s].index for b, s in places])).duplicated("last")
    starts = np.cumsum([len(batch.sides[side]) for batch, side in places])[:-1]
    found: dict[str, list[pd.DataFrame]] = {side: [empty(both)] for side in SIDES}
    left_out = in_load = 0
    names = inputs.input_names()
    kept = [row_hashes(load[side], names) for side in SIDES]
    for (batch, side), last in zip(places, np.split(newest, starts), strict=True):
        rows = batch.sides[side][last]
        fit = fitting_rows(rows, both)
        hashes = row_hashes(fit, names)
        alone = np.isin(hashes, kept[0]) != np.isin(hashes, kept[1])
        left_out, in_load = left_out + len(rows) - len(fit), in_load + int(alone.sum())
        found[side].append(fit[~alone])
    sides = {side: pd.concat(found[side], ignore_index=True) for side in SIDES}
    return Labelled(sides, [batch.run_id for batch in batches], left_out, in_load)


def fitting_rows(rows: pd.DataFrame, inputs: Inputs) -> pd.DataFrame:
    """Return those rows that fit; none if a column lacks."""
    if {*inputs.input_names()} <= {*rows}:
        return those_that_fit(rows, inputs, "The labelled rows")
    return empty(inputs)


def empty(inputs: Inputs) -> pd.DataFrame:
    """Return a table of no rows with the columns and types of `inputs`."""
    return those_that_fit(pd.DataFrame(columns=inputs.input_names()), inputs, "No rows")
