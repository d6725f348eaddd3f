"""Read, check, score and hash rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..config import UserError

ROWS = 50_000  # of a chunk
MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "None")  # as numbers are left out in CSV
TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
# The types of a signature: what is wrong with a value that is none, and NumPy's name.
TYPES = {
    "double": ("is no number", "float64"),
    "float": ("is no number", "float32"),
    "long": ("is no whole number", "int64"),
    "integer": ("is no whole number", "int32"),
    "boolean": ("is neither true nor false", "bool"),
    "datetime": ("is no date of 1678 to 2261", "datetime64[ns]"),
}


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
            file = pq.ParquetFile(source, pre_buffer=False)  # else the whole file stays in memory
            names = file.schema_arrow.names
            if twice := [name for name in names if names.count(name) > 1]:
                raise ValueError(f"it has several columns {twice[0]}")
            done = 0
            for batch in file.iter_batches(ROWS):
                table = pa.Table.from_batches([batch])
                rows = table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
                rows.index += done
                done += len(rows)
                yield rows, done / file.metadata.num_rows
        else:
            with source.open("rb") as raw:
                text = pd.read_csv(raw, chunksize=ROWS, dtype=str, keep_default_na=False)
                for rows in filter(len, text):
                    if not isinstance(rows.index, pd.RangeIndex):  # pandas took a column for names
                        raise ValueError("its rows have more fields than its header has names")
                    yield rows, raw.tell() / source.stat().st_size
    except (OSError, pa.ArrowException, ValueError) as error:  # pandas' own are ValueErrors
        raise UserError(f"{source} cannot be read: {error}") from error


def fitting(rows: pd.DataFrame, inputs, source: Path | str) -> pd.DataFrame:
    """Return the columns that the model takes, in its types; the index of `rows` counts from 0.

    Raises `UserError` with the columns that lack or do not fit, and the rows where they do not.
    """
    if missing := [name for name in inputs.input_names() if name not in rows]:
        raise UserError(
            f"{source} lacks the columns {', '.join(missing)}, which the model needs; it has "
            f"{', '.join(map(str, rows.columns[:5]))}{', ...' if len(rows.columns) > 5 else '.'}"
        )
    return pd.DataFrame(
        {spec.name: fitted(rows[spec.name], spec, source) for spec in inputs.inputs}
    )


def fitted(values: pd.Series, spec, source: Path | str) -> pd.Series:
    """Return a column in the type that the signature has for it."""
    given = values.notna().to_numpy(bool)
    if spec.type.name not in TYPES:
        text = values.astype(str).astype(object)
        return text.where(given & ((text != "") | spec.required), np.nan)
    if pd.api.types.is_string_dtype(values.dtype):
        given = given & ~values.isin(MISSING).to_numpy(bool)
    what, dtype = TYPES[spec.type.name]
    found = parsed(values, np.dtype(dtype))
    wrong = found.isna().to_numpy(bool) & (given | (dtype[:3] in ("int", "boo")))
    if wrong.any():
        where = [str(row + 1) for row in values.index[wrong][:3]]
        raise UserError(
            f"{source}: {spec.name} {what} in {wrong.sum()} rows, as in row {', '.join(where)} "
            f"({values[wrong].tolist()[0]!r})."
        )
    return found.astype(dtype)


def parsed(values: pd.Series, dtype: np.dtype) -> pd.Series:
    """Return values of a NumPy type, missing where they are none."""
    if dtype.kind == "M":
        times = pd.to_datetime(values, errors="coerce", format="mixed", utc=True)
        times = times.dt.tz_localize(None)
        return times.where(times.between(pd.Timestamp.min, pd.Timestamp.max))
    if dtype.kind == "b":
        return values.map(lambda value: TRUTH.get(str(value).lower()))
    found = pd.to_numeric(values, errors="coerce")
    numbers = found.astype("float64")
    if dtype.kind == "f":
        return numbers
    limits = np.iinfo(dtype)
    fits = (numbers == numbers.round()) & (numbers >= limits.min) & (numbers < limits.max + 1.0)
    exact = pd.api.types.is_integer_dtype(found.dtype) and fits.all()  # beyond 2**53, too
    return found if exact else numbers.where(fits)


def scored(model, X: pd.DataFrame) -> dict:
    """Return what `model` says of rows: prediction, and probability where it knows one.

    Raises `UserError` when it takes them not, with the rows that lack a value, as `X.index` counts.
    """
    try:
        answers = {"prediction": model.predict(X)}
        if hasattr(model, "predict_proba"):
            answers["probability"] = model.predict_proba(X).max(axis=1)
    except (AttributeError, TypeError, ValueError) as error:
        gaps = [
            f"{name} is missing in row {column.index[column.isna()][0] + 1}"
            for name, column in X.items()
            if column.isna().any()
        ]
        told = "; ".join([str(error).splitlines()[0], *gaps[:5]])
        rows = f"rows {X.index[0] + 1} to {X.index[-1] + 1}"
        raise UserError(f"The model refuses {rows}: {told}") from error
    return answers


def read(source: Path) -> pd.DataFrame:
    """Return the rows of a file."""
    return pd.concat([rows for rows, _ in chunks(source)] or [pd.DataFrame()], ignore_index=True)


def row_hashes(frame: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """Return a hash of each row's values in `columns`, as uint64: equal rows have equal hashes.

    The order of the columns does not count, nor how a table stores a value: 1 is 1.0 and `True`,
    and a missing value is one whether it is None, NaN or an empty text.
    """
    table = pd.DataFrame({name: comparable(frame[name]) for name in sorted(columns)})
    return pd.util.hash_pandas_object(table, index=False).to_numpy("uint64")


def comparable(values: pd.Series) -> pd.Series:
    """Return values as one of three types: double, microseconds since 1970, or text."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
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
