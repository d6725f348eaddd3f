"""Prepare a history for the installed MLflow; upgrade an older one after a backup."""

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
    backups,
    database,
    gone,
    keep_private,
    rows,
    snapshot,
    steps_behind,
    way_back,
)


def refuse_environment() -> None:
    """Refuse an environment in which MLflow cannot create or upgrade a database.

    Alembic takes a % in the path of MLflow's migrations for a reference to a setting.
    """
    folder = distribution("mlflow").locate_file("")
    if "%" in str(folder):
        raise UserError(
            f"MLflow is installed in {folder}, and it cannot create or upgrade a database from a "
            "path with %: make the environment in another folder."
        )


def prepare() -> None:
    """Leave the history private, and with the schema of the installed MLflow.

    Raises `UserError`, with nothing changed, when the database is gone, damaged or newer.
    """
    if sentence := gone():
        raise UserError(sentence)
    if not database().exists() and backups():
        print(f"A new history begins. {way_back()}", flush=True)
    for folder in (database().parent, artifacts()):
        folder.mkdir(parents=True, exist_ok=True)
    if database().exists() and database().stat().st_size and (steps := steps_behind(database())):
        upgrade(steps)
    keep_private()


def upgrade(steps: int) -> None:
    """Upgrade a copy of the database, after a backup, and put it in place once it is sound."""
    kept, before = backup(), rows(database())
    with tempfile.TemporaryDirectory(dir=database().parent, prefix=".upgrade-") as folder:
        copy = Path(folder, DATABASE)
        snapshot(copy)
        done, said = migrate(copy, steps)
        after = rows(copy)
        lost = [name for name, count in before.items() if after.get(name, count) < count]
        if not done or lost or steps_behind(copy):
            raise UserError(
                f"{database()} could not be upgraded and is as it was (its backup is {kept}): "
                f"{f'rows of {lost} would be lost' if lost else said}"
            )
        copy.replace(database())


def migrate(file: Path, steps: int) -> tuple[bool, str]:
    """Let MLflow upgrade a database; return whether it says so, and its last word on errors."""
    words = [sys.executable, "-m", "mlflow", "db", "upgrade", f"sqlite:///{file.name}"]
    told = ""
    with typer.progressbar(length=steps, label="Upgrading") as bar:
        migration = subprocess.Popen(
            words,
            cwd=file.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
        for line in migration.stdout or []:
            told = line.strip() if "Error" in line else told
            bar.update("Running upgrade" in line)
        return migration.wait() == 0, told
