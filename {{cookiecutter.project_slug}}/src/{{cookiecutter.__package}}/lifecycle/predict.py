"""Score a file with the champion: CSV or Parquet, in chunks, checked against its signature."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer

from ..config import ROOT, UserError, setting
from ..ops import ownership
from .loaded import load
from .registry import version_of
from .rows import added, chunks, ending, fitting, scored


def predict(source: Path, target: Path) -> None:
    """Write the rows of `source` with the champion's predictions to `target`.

    A classifier adds the probability of its prediction, and of each class where there are at most
    20. Columns that the model does not know pass through. `target` appears whole or not at all.
    Raises `UserError` when a file's ending, a column or a value does not fit, naming it.
    """
    kinds = ending(source), ending(target)
    check_output(target, source)
    ownership.connect()
    if not (version := version_of("champion")):
        raise UserError("There is no champion to predict with: promote a version first.")
    champion, count = load(version), 0
    names = added(champion.classes)
    size = source.stat().st_size if source.is_file() else 0
    with writing(target) as write, typer.progressbar(length=size, label="Predicting") as bar:
        for rows, done in chunks(source):
            if taken := [name for name in names if name in rows]:
                raise UserError(f"{source} has a column {taken[0]}, as the output will: rename it.")
            X = fitting(rows, champion.inputs, source)
            answers = scored(champion.model, X, each=True)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            if kinds == (".csv", ".parquet"):
                texts = {name: "string" for name in X.select_dtypes(object)}  # even of gaps alone
                rows = rows.assign(**X.astype(texts))  # what was text has a type now
            write(rows.assign(**answers, model_version=version.version, predicted_at=now))
            count += len(rows)
            bar.update(int(size * done) - bar.pos)
    print(f"Wrote    {target}: {count} row{'' if count == 1 else 's'} by version {version.version}")


def check_output(target: Path, source: Path) -> None:
    """Refuse an output that is the input, a folder, in no folder, or in the history."""
    place = Path(os.path.realpath(target))
    if place.exists() and source.exists() and place.samefile(source):  # also by a hard link
        raise UserError(f"{target} is the input: name another file for the output.")
    if place.is_dir():
        raise UserError(f"{target} is a folder: name a file for the output.")
    if not place.parent.is_dir():
        raise UserError(f"There is no folder {place.parent}: make it, or name another output.")
    artifacts = setting("MLFLOW_ARTIFACTS_DESTINATION")
    if "://" not in artifacts and place.is_relative_to(os.path.realpath(ROOT / artifacts)):
        raise UserError(f"{target} is inside the history: name an output outside of it.")


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
