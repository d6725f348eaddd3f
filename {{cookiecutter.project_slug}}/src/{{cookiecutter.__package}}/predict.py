"""Score a file with the champion: CSV or Parquet, in chunks, checked against its signature."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from .config import MODEL, Refused
from .ops import server

ROWS = 50_000  # of a chunk
ADDED = ("prediction", "probability", "model_version", "predicted_at")
NUMBERS = {"double": "float64", "float": "float32", "long": "int64", "integer": "int32"}


def predict(source: Path, target: Path) -> None:
    """Write the rows of `source` with the champion's predictions to `target`.

    Columns that the model does not know pass through. `target` appears whole or not at all.
    Raises `Refused` when a file's ending, a column or a value does not fit, naming it.
    """
    for file in (source, target):
        if file.suffix not in (".csv", ".parquet"):
            raise Refused(f"{file} ends neither in .csv nor in .parquet.")
    if not source.is_file():
        raise Refused(f"There is no file {source}.")
    server.connect()
    import mlflow

    try:
        version = mlflow.MlflowClient().get_model_version_by_alias(MODEL, "champion")
    except mlflow.MlflowException as error:
        raise Refused("There is no champion to predict with: promote a version first.") from error
    place = f"models:/{MODEL}/{version.version}"
    model = mlflow.sklearn.load_model(place)
    signature = mlflow.models.get_model_info(place).signature
    count = 0
    size = source.stat().st_size
    with writing(target) as write, typer.progressbar(length=size, label="Predicting") as bar:
        for rows, done in filter(lambda chunk: len(chunk[0]), chunks(source)):
            X = fitting(rows, signature.inputs, source, count)
            write(scored(rows, model, X, version.version))
            count += len(rows)
            bar.update(int(size * done) - bar.pos)
    print(f"Wrote    {target}: {count} rows by version {version.version}")


def chunks(source: Path) -> Iterator[tuple[pd.DataFrame, float]]:
    """Yield the rows of a file in chunks, each with the part of the file that is read so far."""
    try:
        if source.suffix == ".parquet":
            file = pq.ParquetFile(source)
            done = 0
            for batch in file.iter_batches(ROWS):
                done += len(batch)
                yield batch.to_pandas(), done / file.metadata.num_rows
        else:
            with source.open("rb") as raw:
                for rows in pd.read_csv(raw, chunksize=ROWS, low_memory=False):
                    yield rows, raw.tell() / source.stat().st_size
    except (pa.ArrowException, ValueError) as error:  # pandas' own are ValueErrors
        raise Refused(f"{source} cannot be read: {error}") from error


def fitting(rows: pd.DataFrame, inputs, source: Path, first: int) -> pd.DataFrame:
    """Return the columns that the model takes, in its types; `first` is the number of rows before.

    Raises `Refused` with the columns that lack or do not fit, and the rows where they do not.
    """
    if missing := [name for name in inputs.input_names() if name not in rows]:
        raise Refused(f"{source} lacks the columns {', '.join(missing)}, which the model needs.")
    if taken := [name for name in ADDED if name in rows]:
        raise Refused(f"{source} has a column {taken[0]}, which the output gets: rename it.")
    return pd.DataFrame(
        {spec.name: fitted(rows[spec.name], spec, source, first) for spec in inputs.inputs}
    )


def fitted(values: pd.Series, spec, source: Path, first: int) -> pd.Series:
    """Return a column in the type that the signature has for it."""
    if spec.type.name not in NUMBERS:
        return values
    numbers = pd.to_numeric(values, errors="coerce")
    kind = np.dtype(NUMBERS[spec.type.name])
    wrong = numbers.isna() & values.notna()
    what = "is no number"
    if kind.kind == "i":
        wrong |= numbers.isna() | (numbers != numbers.round())
        what = "is no whole number"
    if wrong.any():
        where = [str(first + 1 + place) for place in np.flatnonzero(wrong)[:3]]
        shown = values[wrong].iloc[0]
        raise Refused(
            f"{source}: {spec.name} {what} in {wrong.sum()} rows, as in row {', '.join(where)} "
            f"({shown!r})."
        )
    return numbers.astype(kind)


def scored(rows: pd.DataFrame, model, X: pd.DataFrame, version: str) -> pd.DataFrame:
    """Return `rows` with what the model says of them, the version and the time (UTC)."""
    try:
        found = rows.assign(prediction=model.predict(X))
        if hasattr(model, "predict_proba"):
            found["probability"] = model.predict_proba(X).max(axis=1)
    except ValueError as error:
        raise Refused(f"The model refuses these rows: {error}") from error
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return found.assign(model_version=version, predicted_at=now)


@contextmanager
def writing(target: Path) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield what appends rows to `target`, which takes its name when the block has ended well."""
    target = target.absolute()
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".predict-") as folder:
            part = Path(folder, target.name)
            writer: list[pq.ParquetWriter] = []

            def write(rows: pd.DataFrame) -> None:
                if target.suffix == ".csv":
                    rows.to_csv(part, mode="a", index=False, header=not part.exists())
                    return
                table = pa.Table.from_pandas(rows, preserve_index=False)
                if not writer:
                    writer.append(pq.ParquetWriter(part, table.schema))
                writer[0].write_table(table)

            yield write
            for opened in writer:
                opened.close()
            if not part.exists():
                raise Refused("There are no rows to predict.")
            part.replace(target)
    except OSError as error:
        raise Refused(f"{target} cannot be written: {error}.") from error
