"""Read, check, score and hash rows: a row means the same wherever it comes from.

`load`'s frame, a CSV or Parquet file, a request and the log of requests all become what the model
takes in `fitting`.
"""

import csv
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..config import UserError
from .values import TYPES, fitted, misfits, plain

CHUNK = 50_000  # rows
UTF8 = "utf-8-sig"  # with or without a byte-order mark

OUTPUT = ("prediction", "probability", "model_version", "predicted_at")  # columns of `predict`
MOST_CLASSES = 20  # that get a column of probabilities each


# Reading


def ending(file: Path) -> str:
    """Return the ending of a file's name, in small letters; refuse all but .csv and .parquet."""
    if (found := file.suffix.lower()) in (".csv", ".parquet"):
        return found
    raise UserError(f"{file} ends neither in .csv nor in .parquet.")


def chunks(source: Path) -> Iterator[tuple[pd.DataFrame, float]]:
    """Yield the rows of a file in chunks, each with the part of the file that is read so far.

    Their index counts the rows of the file, from 0. Every value keeps its type in Parquet, and is
    the text that stands there in CSV: what only passes through is written as it was.
    """
    kind = ending(source)
    if not source.is_file():
        raise UserError(f"There is no file {source}.")
    try:
        if kind == ".parquet":
            yield from parquet_rows(source, source)
            return
        with source.open("rb") as raw:
            for rows in csv_rows(raw, source):
                yield rows, raw.tell() / source.stat().st_size
    except (OSError, pa.ArrowException, ValueError) as error:  # pandas' own are ValueErrors
        raise UserError(f"{source} cannot be read: {str(error).splitlines()[0]}") from error


def parquet_rows(
    file: Path | BinaryIO, source: object, threads: bool = True
) -> Iterator[tuple[pd.DataFrame, float]]:
    """Yield the rows of a Parquet file in chunks, each with the part that is read so far."""
    opened = pq.ParquetFile(file, pre_buffer=False)  # else the whole file stays in memory
    names = opened.schema_arrow.names
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"{source} has several columns {twice[0]}: leave one.")
    done = 0
    for batch in opened.iter_batches(CHUNK, use_threads=threads):
        table = pa.Table.from_batches([batch])
        rows = table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
        rows.index += done
        done += len(rows)
        yield rows, done / opened.metadata.num_rows


def csv_rows(raw: BinaryIO, source: object) -> Iterator[pd.DataFrame]:
    """Yield the rows of an open CSV file in chunks, each value as the text that stands there.

    Raises `UserError` if it is not UTF-8 or not separated by commas, and says how to save it.
    """
    header = raw.readline().decode("latin-1")
    raw.seek(0)
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if fields(header, ",") == 1 < fields(header, separator):
            raise UserError(
                f"{source} separates its columns by {name}. Save it with commas between columns "
                f"and points in numbers, for example: "
                f"pandas.read_csv(OLD, sep={separator!r}, decimal=',').to_csv(NEW, index=False)"
            )
    try:
        text = pd.read_csv(raw, chunksize=CHUNK, dtype=str, keep_default_na=False, encoding=UTF8)
        for rows in filter(len, text):
            if not isinstance(rows.index, pd.RangeIndex):  # pandas took a column for names
                raise UserError(f"{source} cannot be read: a row has more fields than the header.")
            yield rows
    except UnicodeDecodeError as error:
        raise UserError(
            f"{source} is not UTF-8. Save it as UTF-8 (in Excel: CSV UTF-8), for example: "
            "pandas.read_csv(OLD, encoding='latin-1').to_csv(NEW, index=False)"
        ) from error


def fields(header: str, separator: str) -> int:
    """Return how many fields the first line of a CSV file has."""
    return len(next(csv.reader([header], delimiter=separator), []))


def read(source: Path) -> pd.DataFrame:
    """Return the rows of a file."""
    return pd.concat([rows for rows, _ in chunks(source)] or [pd.DataFrame()], ignore_index=True)


# Checking


@dataclass(frozen=True)
class Inputs:
    """The columns that a model takes (MLflow's `ColSpec`), and what `described` says of them."""

    inputs: list
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def input_names(self) -> list[str]:
        """Return the names of the columns, in order."""
        return [spec.name for spec in self.inputs]


def inputs_of(info, told: str) -> Inputs:
    """Return the columns that a model takes; `info` is MLflow's `Model` or `ModelInfo`.

    Raises `UserError`, which begins with `told` (a name of the model), if it has no signature or
    takes a column that neither a file nor a request can hold.
    """
    if not (info.signature and info.signature.inputs and info.signature.inputs.has_input_names()):
        raise UserError(
            f"{told} has no signature, so nobody knows which columns it takes: train one with this "
            "project's train, and promote it."
        )
    for spec in info.signature.inputs:
        if getattr(spec.type, "name", None) not in TYPES:
            raise UserError(
                f"{told} takes the column {spec.name} of type {spec.type}, which no row of a file "
                "or a request can hold: train one with this project's train, which says what to do."
            )
    return Inputs(list(info.signature.inputs), (info.metadata or {}).get("columns", {}))


def fitting(rows: pd.DataFrame, schema, source: object) -> pd.DataFrame:
    """Return the columns that the model takes, in its types; the index of `rows` counts from 0.

    `schema` is an `Inputs` or MLflow's `Schema`; `source` names the rows in messages.
    Raises `UserError` with the columns that lack or do not fit, and the rows where they do not.
    """
    X, wrong = converted(rows, schema, source)
    for spec in schema.inputs:
        if (bad := wrong[spec.name]).any():
            values = needed(rows, schema, source)[spec.name][bad]
            raise UserError(f"{source}: {misfits(values, spec)}")
    return X


def those_that_fit(rows: pd.DataFrame, schema, source: object) -> pd.DataFrame:
    """Return `fitting` of the rows whose values fit, under their own index; leave out the others.

    Raises `UserError` if columns lack.
    """
    _, wrong = converted(rows, schema, source)
    return fitting(rows[~np.any(list(wrong.values()), axis=0)], schema, source)


def converted(rows: pd.DataFrame, schema, source: object) -> tuple[pd.DataFrame, dict]:
    """Return the model's columns in its types, and for each which values do not fit."""
    notes = schema.notes if isinstance(schema, Inputs) else {}
    given, found, wrong = needed(rows, schema, source), {}, {}
    for spec in schema.inputs:
        note = notes.get(str(spec.name), {})
        found[spec.name], wrong[spec.name] = fitted(given[spec.name], spec, note)
    return pd.DataFrame(found, rows.index), wrong


def needed(rows: pd.DataFrame, schema, source: object) -> dict:
    """Return the columns that the model takes, as they are; files and requests name them by text.

    Raises `UserError` if one of them lacks or is there several times.
    """
    names = [str(name) for name in rows.columns]
    wanted = {str(name): name for name in schema.input_names()}
    if missing := [name for name in wanted if name not in names]:
        raise UserError(
            f"{source} lacks the column{'s' if len(missing) > 1 else ''} {some(missing)}, which "
            f"the model needs; it has {some(names) or 'none'}."
        )
    if len({*names}) < len(names) and (twice := [one for one in wanted if names.count(one) > 1]):
        raise UserError(f"{source} has several columns {twice[0]}: leave one.")
    columns = zip(names, rows.items(), strict=True)
    return {wanted[name]: values for name, (_, values) in columns if name in wanted}


def some(names: list[str]) -> str:
    """Return the first of several names."""
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


# Answers


def added(classes: Collection | None) -> list[str]:
    """Return the names of the columns that `predict` adds, for a model of these classes or none."""
    each = classes if classes is not None and len(classes) <= MOST_CLASSES else ()
    return [*OUTPUT, *(f"probability_{one}" for one in each)]


@contextmanager
def refusing(X: pd.DataFrame) -> Iterator[None]:
    """Turn an exception of a model that is given `X` into a `UserError` that names the gaps."""
    try:
        yield
    except Exception as error:  # whatever a model raises
        gaps = [
            f"{name} is missing in row {values.index[values.isna()][0] + 1}"
            for name, values in X.items()
            if values.isna().any()
        ]
        what = str(error).splitlines()[0] if str(error) else type(error).__name__
        rows = f"rows {X.index[0] + 1} to {X.index[-1] + 1}" if len(X) > 1 else "row 1"
        raise UserError(f"The model refuses {rows}: {'; '.join([what, *gaps[:5]])}") from error


def scored(model, X: pd.DataFrame, each: bool = False) -> dict[str, np.ndarray]:
    """Return what `model` says of rows: the prediction, and its probability if it knows one.

    With `each`, also the probability of each class, where there are at most `MOST_CLASSES`.
    Raises `UserError` if the model rejects the rows, with those that lack a value.
    """
    with refusing(X):
        answers = {"prediction": model.predict(X)}
        if hasattr(model, "predict_proba"):
            shares = model.predict_proba(X)
            answers["probability"] = shares.max(axis=1)
            if each and (names := added(getattr(model, "classes_", None))[len(OUTPUT) :]):
                answers |= dict(zip(names, shares.T, strict=True))
    return answers


def row_hashes(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Return a hash of each row's values in `columns`, as uint64: equal rows have equal hashes.

    The order of the columns does not count, nor how a table stores a value: 1 is 1.0 and `True`,
    and a missing value is one whether it is None, NaN or an empty text.
    """
    table = pd.DataFrame({name: comparable(frame[name]) for name in sorted(columns)})
    return pd.util.hash_pandas_object(table, index=False).to_numpy("uint64")


def comparable(values: pd.Series) -> pd.Series:
    """Return values as one of three types: double, microseconds since 1970, or text."""
    values = plain(values)
    if values.dtype == object:
        kind = pd.api.types.infer_dtype(values, skipna=True)
        if kind in ("integer", "floating", "mixed-integer-float", "boolean", "decimal"):
            values = values.astype("float64")
        elif kind in ("datetime", "datetime64", "date"):
            values = pd.to_datetime(values, utc=True)
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        numbers = values.to_numpy("float64", na_value=np.nan) + 0.0  # -0.0 is 0.0
        return pd.Series(np.where(np.isnan(numbers), np.nan, numbers), values.index)
    if pd.api.types.is_datetime64_any_dtype(values):
        times = pd.to_datetime(values, utc=True).dt.tz_localize(None)
        return times.astype("datetime64[us]").astype("int64")
    text = values.astype(str).astype(object)
    return text.where(values.notna().to_numpy(bool), "")
