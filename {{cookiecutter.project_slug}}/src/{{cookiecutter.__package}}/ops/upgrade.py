"""Prepare a history for the installed MLflow: create it, or back it up and upgrade it."""

import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

import typer

from ..config import UserError
from .backup import backup
from .history import (
    DATABASE,
    artifacts,
    database,
    how_to_restore,
    keep_private,
    known_backups,
    missing_database,
    row_counts,
    snapshot,
    steps_behind,
)


def refuse_environment() -> None:
    """Raise `UserError` if MLflow cannot create or upgrade a database in this environment.

    Alembic reads a % in the path of MLflow's migrations as a reference to a setting.
    """
    folder = distribution("mlflow").locate_file("")
    if "%" in str(folder):
        raise UserError(
            f"MLflow is installed in {folder}, and it cannot create or upgrade a database from a "
            "path with %: create the environment in another folder."
        )


def prepare() -> None:
    """Create the folders of the history, make them private, and upgrade an older database.

    Raises `UserError`, with nothing changed, if the database is missing, damaged or newer.
    """
    if sentence := missing_database():
        raise UserError(sentence)
    if not database().exists() and known_backups():
        print(f"This starts a new, empty history. {how_to_restore()}", flush=True)
    for folder in (database().parent, artifacts()):
        folder.mkdir(parents=True, exist_ok=True)
    if database().exists() and database().stat().st_size and (steps := steps_behind(database())):
        upgrade(steps)
    keep_private()


def upgrade(steps: int) -> None:
    """Back up, upgrade a copy of the database, and put the copy in place if it is sound."""
    kept, before = backup(), row_counts(database())
    with tempfile.TemporaryDirectory(dir=database().parent, prefix=".upgrade-") as folder:
        copy = Path(folder, DATABASE)
        snapshot(copy)
        done, said = migrate(f"sqlite:///{copy.name}", steps, copy.parent)
        after = row_counts(copy)
        lost = [name for name, count in before.items() if after.get(name, count) < count]
        if not done or lost or steps_behind(copy):
            raise UserError(
                f"{database()} could not be upgraded and was not changed (its backup is {kept}): "
                f"{f'rows of {lost} would be lost' if lost else said}"
            )
        copy.replace(database())


def migrate(uri: str, steps: int, folder: Path | None = None) -> tuple[bool, str]:
    """Upgrade a database with MLflow; return whether that worked, and the last error it printed."""
    words = [sys.executable, "-m", "mlflow", "db", "upgrade", uri]
    told = ""
    with typer.progressbar(length=steps, label="Upgrading") as bar:
        migration = subprocess.Popen(
            words,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        for line in migration.stdout or []:
            told = line.strip() if "Error" in line else told
            bar.update("Running upgrade" in line)
        return migration.wait() == 0, told
