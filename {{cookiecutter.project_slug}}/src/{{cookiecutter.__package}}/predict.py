"""Score a file with the champion: CSV or Parquet, in chunks, checked against its signature."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from .config import MODEL, ROOT, Refused, setting
from .ops import server
from .promote import version_of

ROWS = 50_000  # of a chunk
ADDED = ("prediction", "probability", "model_version", "predicted_at")
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


def predict(source: Path, target: Path) -> None:
    """Write the rows of `source` with the champion's predictions to `target`.

    Columns that the model does not know pass through. `target` appears whole or not at all.
    Raises `Refused` when a file's ending, a column or a value does not fit, naming it.
    """
    kinds = ending(source), ending(target)
    check_output(target, source)
    server.connect()
    import mlflow

    if not (version := version_of("champion")):
        raise Refused("There is no champion to predict with: promote a version first.")
    place = f"models:/{MODEL}/{version.version}"
    model = mlflow.sklearn.load_model(place)
    signature = mlflow.models.get_model_info(place).signature
    count = 0
    size = source.stat().st_size if source.is_file() else 0
    with writing(target) as write, typer.progressbar(length=size, label="Predicting") as bar:
        for rows, done in chunks(source):
            if taken := [name for name in ADDED if name in rows]:
                raise Refused(f"{source} has a column {taken[0]}, as the output will: rename it.")
            X = fitting(rows, signature.inputs, source)
            answers = scored(model, X)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            if kinds == (".csv", ".parquet"):
                texts = {name: "string" for name in X.select_dtypes(object)}  # even of gaps alone
                rows = rows.assign(**X.astype(texts))  # what was text has a type now
            write(rows.assign(**answers, model_version=version.version, predicted_at=now))
            count += len(rows)
            bar.update(int(size * done) - bar.pos)
    print(f"Wrote    {target}: {count} rows by version {version.version}")


def ending(file: Path) -> str:
    """Return the ending of a file's name, in small letters; refuse all but .csv and .parquet."""
    if (found := file.suffix.lower()) in (".csv", ".parquet"):
        return found
    raise Refused(f"{file} ends neither in .csv nor in .parquet.")


def check_output(target: Path, source: Path) -> None:
    """Refuse an output that is the input, a folder, in no folder, or in the history."""
    place = Path(os.path.realpath(target))
    if place.exists() and source.exists() and place.samefile(source):  # also by a hard link
        raise Refused(f"{target} is the input: name another file for the output.")
    if place.is_dir():
        raise Refused(f"{target} is a folder: name a file for the output.")
    if not place.parent.is_dir():
        raise Refused(f"There is no folder {place.parent}: make it, or name another output.")
    artifacts = setting("MLFLOW_ARTIFACTS_DESTINATION")
    if "://" not in artifacts and place.is_relative_to(os.path.realpath(ROOT / artifacts)):
        raise Refused(f"{target} is inside the history: name an output outside of it.")


def chunks(source: Path) -> Iterator[tuple[pd.DataFrame, float]]:
    """Yield the rows of a file in chunks, each with the part of the file that is read so far.

    Their index counts the rows of the file, from 0. Every value keeps its type in Parquet, and is
    the text that stands there in CSV: what only passes through is written as it was.
    """
    kind = ending(source)
    if not source.is_file():
        raise Refused(f"There is no file {source}.")
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
        raise Refused(f"{source} cannot be read: {error}") from error


def fitting(rows: pd.DataFrame, inputs, source: Path | str) -> pd.DataFrame:
    """Return the columns that the model takes, in its types; the index of `rows` counts from 0.

    Raises `Refused` with the columns that lack or do not fit, and the rows where they do not.
    """
    if missing := [name for name in inputs.input_names() if name not in rows]:
        raise Refused(
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
        raise Refused(
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

    Raises `Refused` when it takes them not, with the rows that lack a value, as `X.index` counts.
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
        raise Refused(f"The model refuses {rows}: {told}") from error
    return answers


@contextmanager
def writing(target: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield what appends rows to `target`, which takes its name when the block has ended well.

    Where `target` is a link, the file that it names is written.
    """
    kind, target = ending(target), Path(os.path.realpath(target))
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".predict-") as folder:
            part = Path(folder, target.name)
            writer: list[pq.ParquetWriter] = []
            with ExitStack() as stack:

                def write(rows: pd.DataFrame) -> None:
                    if kind == ".csv":
                        rows.to_csv(part, mode="a", index=False, header=not part.exists())
                        return
                    table = pa.Table.from_pandas(rows, preserve_index=False)
                    table = table.replace_schema_metadata()  # of pandas' own, for whoever reads
                    if not writer:
                        writer.append(stack.enter_context(pq.ParquetWriter(part, table.schema)))
                    writer[0].write_table(table)

                yield write
            if not part.exists():
                raise Refused("There are no rows to predict.")
            part.replace(target)
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error}.") from error
