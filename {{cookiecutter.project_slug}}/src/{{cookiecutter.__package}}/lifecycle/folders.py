"""Predictions for a folder of Parquet files, by processes here or by the workers of a cluster."""

import os
import socket
from pathlib import Path

import pyarrow.parquet as pq
import typer

from ..config import UserError
from ..ops.shell import counted
from .executors import workers
from .files import check_outside, write
from .loaded import Loaded


def predict_folder(champion: Loaded, source: Path, target: Path, jobs: int, cluster: str) -> None:
    """Write the Parquet files of a folder, also in its subfolders, with predictions to `target`.

    A file that is there from an interrupted run, newer than its source, with as many rows by the
    same version, is skipped. A file that does not fit is named, and the others are written. Raises
    `UserError` at the end if there was any.
    """
    source, target = (Path(os.path.realpath(place)) for place in (source, target))
    files = sorted(file.relative_to(source) for file in source.rglob("*.parquet"))
    if not files:
        raise UserError(f"{source} has no Parquet files (.parquet).")
    target.mkdir(exist_ok=True)
    version = str(champion.version)
    left = [file for file in files if not is_done(source / file, target / file, version)]
    if skipped := len(files) - len(left):
        print(f"Skipped  {counted(skipped, 'file')} that version {version} has written already")
    if not left:
        return
    failed = rows = 0
    queue = iter(left)
    with (
        workers(min(jobs, len(left)), cluster, champion) as hands,
        typer.progressbar(length=len(left), label="Predicting") as bar,
    ):
        while bar.pos < len(left):
            while hands.idle() > 0 and (file := next(queue, None)):
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                hands.start(file, predict_file, str(source / file), str(target / file))
            for done in hands.wait():
                if done.error:
                    failed += 1
                    typer.echo(f"\nFailed   {done.key}: {done.error}")
                rows += done.value or 0
                bar.update(1)
    print(f"Wrote    {counted(len(left) - failed, 'file')}, {counted(rows, 'row')}, to {target}")
    if failed:
        raise UserError(
            f"{failed} of {counted(len(files), 'file')} failed: mend them and type the same again."
        )


def check_folders(source: Path, target: Path) -> None:
    """Refuse an output that is a file, in no folder, in the history, or in or above the input."""
    source, target = (Path(os.path.realpath(place)) for place in (source, target))
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise UserError(f"{target} and {source} lie in each other: name another output.")
    if target.exists() and not target.is_dir():
        raise UserError(f"{target} is a file, and the input is a folder: name a folder.")
    check_outside(target)


def is_done(source: Path, target: Path, version: str) -> bool:
    """Return whether `target` has the predictions of a version for all rows of `source`."""
    try:
        if target.stat().st_mtime < source.stat().st_mtime:
            return False
        with pq.ParquetFile(target) as written, pq.ParquetFile(source) as given:
            if written.metadata.num_rows != given.metadata.num_rows:
                return False
            first = next(written.iter_batches(1, columns=["model_version"]))
            return str(first.column(0)[0]) == version
    except (OSError, StopIteration, ValueError):  # pyarrow's own are ValueErrors
        return False


def predict_file(champion: Loaded, source: str, target: str) -> int:
    """Write a file with predictions, where a worker runs; return the number of rows."""
    if not (Path(source).is_file() and Path(target).parent.is_dir()):
        raise UserError(
            f"the worker on {socket.gethostname()} cannot see {source} and its output: put both on "
            "storage that all workers see"
        )
    return write(champion, Path(source), Path(target))
