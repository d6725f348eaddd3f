"""Predictions for one file: CSV or Parquet, in chunks, whole or not at all."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..config import ROOT, UserError, setting
from .loaded import Loaded
from .rows import added, chunks, ending, fitting, scored


def write(champion: Loaded, source: Path, target: Path, tick: Callable = lambda done: None) -> int:
    """Write the rows of a file with predictions to another one; return the number of rows.

    `tick` is called with the part of the file that is done. Raises `UserError` as `predict` does.
    """
    names, count = added(champion.classes), 0
    typed = (ending(source), ending(target)) == (".csv", ".parquet")
    with writing(target) as append:
        for rows, done in chunks(source):
            if taken := [name for name in names if name in rows]:
                raise UserError(f"{source} has a column {taken[0]}, as the output will: rename it.")
            X = fitting(rows, champion.inputs, source)
            answers = scored(champion.model, X, each=True)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            if typed:
                texts = {name: "string" for name in X.select_dtypes(object)}  # even of gaps alone
                rows = rows.assign(**X.astype(texts))  # what was text has a type now
            version = champion.version
            append(rows.assign(**answers, model_version=version, predicted_at=now))
            count += len(rows)
            tick(done)
    return count


def check_output(target: Path, source: Path) -> None:
    """Refuse an output that is the input, a folder, in no folder, or in the history."""
    place = Path(os.path.realpath(target))
    if place.exists() and source.exists() and place.samefile(source):  # also by a hard link
        raise UserError(f"{target} is the input: name another file for the output.")
    if place.is_dir():
        raise UserError(f"{target} is a folder: name a file for the output.")
    check_outside(place)


def check_outside(place: Path) -> None:
    """Refuse an output in no folder, or in the history."""
    if not place.parent.is_dir():
        raise UserError(f"There is no folder {place.parent}: make it, or name another output.")
    artifacts = setting("MLFLOW_ARTIFACTS_DESTINATION")
    if "://" not in artifacts and place.is_relative_to(os.path.realpath(ROOT / artifacts)):
        raise UserError(f"{place} is inside the history: name an output outside of it.")


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
                raise UserError("There are no rows to predict.")
            part.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error}.") from error
