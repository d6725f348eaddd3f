"""What came in: the newest rows that a version has served, or those of a file, and their labels."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import mlflow
import pandas as pd

from ..config import UserError
from ..data import TARGET
from .quality import FEWEST, NEWEST
from .requests import records, rows_of
from .rows import chunks, fitting, those_that_fit

ROWS = 1000  # served rows that a report is about


class Labels(NamedTuple):
    """The labels of a file, by the id of a prediction and the row in its request."""

    file: Path
    values: pd.Series
    has_row: bool  # whether the file has a column row


class Incoming(NamedTuple):
    """New rows: their features, in the types of a signature, and those rows that have a label.

    `remarks` say what was left out, and `left_out` how many rows did not fit. `trouble` says why
    the labels cannot be used; it is None where there are none.
    """

    live: pd.DataFrame
    labelled: pd.DataFrame
    remarks: list[str]
    trouble: str | None
    left_out: int = 0


class Newest:
    """The newest of many rows: the last `most`, and of those with the same key the last one."""

    def __init__(self, most: int) -> None:
        self.most, self.added = most, 0
        self.rows = pd.DataFrame()

    def add(self, rows: pd.DataFrame) -> None:
        """Add newer rows."""
        self.added += len(rows)
        both = pd.concat([self.rows, rows]) if len(self.rows) else rows
        self.rows = last_of_each(both).tail(self.most)


@dataclass
class Gathered:
    """New rows as they are read, and how the labels of a file fit them."""

    labels: Labels | None
    live: Newest
    labelled: Newest = field(default_factory=lambda: Newest(NEWEST))
    found: int = 0  # labels that found their row
    several: bool = False  # whether a labelled request had several rows
    left_out: int = 0  # rows that do not fit
    remarks: list[str] = field(default_factory=list)

    def incoming(self, ids: str) -> Incoming:
        """Return what came in; `ids` says what the id of a label is."""
        trouble = "" if self.labels or self.labelled.added else None
        if self.labels:
            file, count = self.labels.file, len(self.labels.values)
            self.remarks.append(
                f"{self.found:,} of {count:,} labels of {file.name} found their row, "
                f"{count - self.found:,} found none."
            )
            if self.several and not self.labels.has_row:
                trouble = f"{file.name} needs a column row, from 0: a request had several rows"
            elif self.found < FEWEST:
                trouble = (
                    f"{file.name} labels {self.found} of the rows, at least {FEWEST} are needed; "
                    f"its id is {ids}"
                )
        if self.labelled.added > NEWEST:
            self.remarks.append(
                f"{self.labelled.added:,} rows have a label: the newest {NEWEST:,} are measured."
            )
        return Incoming(self.live.rows, self.labelled.rows, self.remarks, trouble, self.left_out)


def last_of_each(rows):
    """Return a table, or a column, without those that come again with the same key."""
    return rows[~rows.index.duplicated(keep="last")]


def labels_of(file: Path, reference: pd.DataFrame) -> Labels:
    """Return the labels of a file, in the type of the reference's target."""
    found, has_row = [], False
    for rows, _ in chunks(file):
        if lacking := sorted({"id", TARGET} - {*rows}):
            raise UserError(f"{file} lacks the column {' and '.join(lacking)}.")
        known = targets(rows, reference, file)
        found.append(known.set_axis(keys(rows, file).take(known.index - rows.index[0])))
        has_row |= "row" in rows
    if not found:
        raise UserError(f"{file} has no rows.")
    return Labels(file, last_of_each(pd.concat(found)), has_row)


def keys(rows: pd.DataFrame, source: Path) -> pd.MultiIndex:
    """Return the id of each row's prediction, and its row in the request."""
    if "id" not in rows:
        raise UserError(f"{source} lacks the column id: labels are joined by it.")
    ids = rows["id"].astype(str).str.strip()
    places = pd.to_numeric(rows["row"], errors="coerce") if "row" in rows else [0] * len(rows)
    return pd.MultiIndex.from_arrays([ids, places], names=["id", "row"])


def targets(rows: pd.DataFrame, reference: pd.DataFrame, source: Path) -> pd.Series:
    """Return the target of those `rows` that have one, in the type of the reference's."""
    known = rows[rows[TARGET].notna() & (rows[TARGET].astype(str) != "")]
    inputs = mlflow.models.infer_signature(reference[[TARGET]]).inputs
    return fitting(known, inputs, source)[TARGET].astype(reference[TARGET].dtype)


def from_file(file: Path, inputs: Any, reference: pd.DataFrame, labels: Labels | None) -> Incoming:
    """Return the last rows of a file, which has its labels itself where there are no `labels`.

    Raises `UserError` if a row does not fit.
    """
    gathered, found = Gathered(labels, Newest(NEWEST)), set()
    for rows, _ in chunks(file):
        X = fitting(rows, inputs, file)
        if labels:
            X = X.set_axis(keys(rows, file))
            known = X.join(labels.values, how="inner")
            gathered.labelled.add(known)
            found |= {*known.index}
            asked = X.index.isin(labels.values.index.get_level_values("id"), level="id")
            gathered.several |= bool((X.index[asked].get_level_values("row") > 0).any())
        elif TARGET in rows:
            known = targets(rows, reference, file)
            gathered.labelled.add(X.loc[known.index].assign(**{TARGET: known}))
        gathered.live.add(X)
    gathered.found = len(found)
    if (count := gathered.live.added) > NEWEST:
        gathered.remarks.append(
            f"{file.name} has {count:,} rows: the last {NEWEST:,} are compared."
        )
    return gathered.incoming(f"that of {file.name}")


def from_log(run_id: str, inputs: Any, labels: Labels | None) -> Incoming:
    """Return the newest rows that the model of a run has served, and all that have `labels`.

    Rows that do not fit are left out and counted. A version is known by its run: its number comes
    again, after a restore for example.
    """
    index = labels.values.index if labels else pd.MultiIndex.from_arrays([[], []])
    of_labels, wanted = {*index}, {*index.get_level_values(0)}
    live: list[tuple] = []  # pairs of a key and a row, the newest first
    labelled: list[tuple] = []
    gathered = Gathered(labels, Newest(ROWS))
    for record in records():
        if len(live) >= ROWS and not wanted:
            break
        asked = record.get("id") in wanted
        if record.get("run_id") != run_id or not (asked or len(live) < ROWS):
            continue
        try:
            rows = rows_of(record["type"], record["input"], inputs.input_names())
            pairs = [((record["id"], place), row) for place, row in enumerate(rows)][::-1]
        except (KeyError, TypeError, UserError, ValueError):
            gathered.left_out += 1
            continue
        live += pairs if len(live) < ROWS else []
        if asked:
            wanted.discard(record["id"])
            gathered.several |= len(pairs) > 1
            known = [pair for pair in pairs if pair[0] in of_labels]
            gathered.found += len(known)
            labelled += known if len(labelled) < NEWEST else []
    for X in that_fit(live, inputs):
        gathered.live.add(X)
    if labels:
        for X in that_fit(labelled, inputs):
            gathered.labelled.add(X.join(labels.values, how="inner"))
        gathered.labelled.added = gathered.found
    gathered.left_out += len(live) - gathered.live.added
    if count := gathered.left_out:
        what = "1 row of the log does" if count == 1 else f"{count} rows of the log do"
        gathered.remarks.append(f"{what} not fit the model: left out.")
    return gathered.incoming("the header x-prediction-id of each answer")


def that_fit(pairs: list[tuple], inputs: Any) -> Iterator[pd.DataFrame]:
    """Yield those rows of a log that fit, the oldest first; `pairs` begin with the newest."""
    names = {*inputs.input_names()}
    kept = [pair for pair in reversed(pairs) if isinstance(pair[1], dict) and names <= {*pair[1]}]
    if kept:
        index = pd.MultiIndex.from_tuples([key for key, _ in kept], names=["id", "row"])
        rows = pd.DataFrame([row for _, row in kept], dtype=object)
        X = those_that_fit(rows, inputs, "The log")
        yield X.set_axis(index.take(X.index))
