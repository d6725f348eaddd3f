"""Make predictions with the champion: for a file, or for a folder of Parquet files."""

from pathlib import Path

import typer

from ..config import UserError
from ..ops import ownership
from ..ops.shell import counted
from .files import check_output, write
from .folders import check_folders, predict_folder
from .loaded import Loaded, load
from .registry import version_of
from .rows import ending


def predict(source: Path, target: Path, jobs: int = 1, cluster: str = "") -> None:
    """Write the rows of `source` with the champion's predictions to `target`.

    A classifier adds the probability of its prediction, and of each class where there are at most
    20. Columns that the model does not know pass through. `target` appears whole or not at all.
    A folder's Parquet files are written to a folder, by `jobs` processes or by the workers of a
    Dask `cluster`. Raises `UserError` when a file's ending, a column or a value does not fit,
    naming it.
    """
    if source.is_dir():
        check_folders(source, target)
        predict_folder(champion_to_predict(), source, target, jobs, cluster)
        return
    ending(source), ending(target)
    check_output(target, source)
    champion = champion_to_predict()
    size = source.stat().st_size if source.is_file() else 0
    with typer.progressbar(length=size, label="Predicting") as bar:
        count = write(champion, source, target, lambda done: bar.update(int(size * done) - bar.pos))
    print(f"Wrote    {target}: {counted(count, 'row')} by version {champion.version}")


def champion_to_predict() -> Loaded:
    """Return the champion; raise `UserError` if there is none."""
    ownership.connect()
    if not (version := version_of("champion")):
        raise UserError("There is no champion to predict with: promote a version first.")
    return load(version)
