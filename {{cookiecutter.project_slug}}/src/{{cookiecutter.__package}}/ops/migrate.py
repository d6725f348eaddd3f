"""Move the whole history to PostgreSQL and an object store, with every id.

Everything is checked first. Artifacts go first: what is stored is kept if the move is interrupted.
The tables follow in one transaction, which ends only if both sides are equal. The source is read.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..config import SETTINGS, UserError
from . import history, objects, ownership, shared, tables
from .history import artifacts, database
from .shell import command, counted, one_line, size

if TYPE_CHECKING:
    from psycopg import Connection

PROXIED = "mlflow-artifacts:/%"
LOCATIONS = {
    "runs": "artifact_uri",
    "experiments": "artifact_location",
    "logged_models": "artifact_location",
    "model_versions": "storage_location",
}
KEYS = {
    "webhooks": "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
    "secrets": "MLFLOW_CRYPTO_KEK_PASSPHRASE",
}


def migrate(target: str, destination: str = "") -> None:
    """Copy database and artifacts of this project's history to `target` and `destination`.

    Without a `destination` the artifacts stay where they are. Raises `UserError`, with nothing
    changed at the target's database, if anything cannot be held there or differs afterwards.
    """
    shared.refuse_elsewhere("moving")
    if target.startswith("sqlite"):
        raise UserError("migrate goes from SQLite to PostgreSQL only: --to postgresql://…")
    if not database().is_file():
        raise UserError(f"There is no history to move: {database()} does not exist.")
    if sentence := ownership.in_use():
        raise UserError(sentence)
    with history.owning("a move to PostgreSQL"):
        if history.steps_behind(database()):
            line = command("start-server")
            raise UserError(f"{database()} is of an older MLflow: {line} --check upgrades it.")
        with closing(read_only(database())) as source:
            check_places(source)
            with shared.upgrading(target) as connection:
                move(source, connection, target, destination)


def move(
    source: sqlite3.Connection, connection: "Connection", target: str, destination: str
) -> None:
    """Check, copy and compare; print what was moved and what to change then."""
    import psycopg

    both = tables.tables(source, connection)
    check(source, connection, both, target)
    if destination:
        move_files(destination)
    try:
        with connection.transaction():
            moved = move_rows(source, connection, both)
        connection.execute("ANALYZE")
    except psycopg.Error as error:
        raise UserError(
            f"{shared.shown(target)} was not changed ({one_line(error)}): mend this and type "
            "the same again."
        ) from error
    for name, content in moved.items():
        if content.rows:
            print(f"  {name:<34} {content.rows:>10}")
    if names := tables.left_behind(source, both):
        print(f"Not moved: {', '.join(names)} (logins and rights: make them again at the target)")
    print(f"Moved    {counted(sum(one.rows for one in moved.values()), 'row')}, each compared")
    print(f"\nNow write into {SETTINGS}:\n\n  {shared.STORE}={target}")
    if destination:
        print(f"  {shared.DESTINATION}={destination}")
    print("\nand set PGPASSWORD and AWS_* in the environment of start-server.")
    for name, key in KEYS.items():
        if name in moved and moved[name].rows:
            print(f"Set {key} there as it was here: it is the key of the {name}.")


def read_only(file: Path) -> sqlite3.Connection:
    """Return a connection on which nobody can write while it lives, this process included."""
    opened = sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True, timeout=30)
    opened.isolation_level = None
    opened.execute("BEGIN")
    opened.execute("SELECT count(*) FROM alembic_version").fetchone()  # takes the lock for reading
    return opened


def check_places(source: sqlite3.Connection) -> None:
    """Raise `UserError` if files of the history are not in its own folder of artifacts."""
    for name, column in LOCATIONS.items():
        sql = f"""SELECT count(*) FROM {name} WHERE {column} NOT LIKE '{PROXIED}'
            AND ({column} LIKE '%/%' OR {column} LIKE '%\\%')"""  # a prompt has a name there
        if count := source.execute(sql).fetchone()[0]:
            raise UserError(
                f"The files of {counted(count, 'row')} of {name} are in another place than this "
                f"history ({column} is not {PROXIED[:-1]}…), and would stay there: move them first."
            )


def check(
    source: sqlite3.Connection, connection: "Connection", both: list[tables.Table], target: str
) -> None:
    """Raise `UserError` if the target has rows, or if it cannot hold all of the source."""
    for table in both:
        if count := tables.occupied(connection, table):
            raise UserError(
                f"{shared.shown(target)} has a history already ({table.name}: "
                f"{counted(count, 'row')}): name an empty database."
            )
    faults = [fault for table in both for fault in tables.unheld(source, table)]
    broken = source.execute("PRAGMA foreign_key_check").fetchall()
    faults += [f"{table}: row {row} refers to a missing row of {other}"
               for table, row, other, _ in broken]  # fmt: skip
    if faults:
        listed = "\n  ".join(faults[:20])
        raise UserError(
            f"PostgreSQL cannot hold all of this history, so nothing was moved:\n  {listed}\n"
            "Change or delete these through the server, then type the same again."
        )


def move_files(destination: str) -> None:
    """Copy the artifacts; print how many."""
    if "://" not in destination and Path(destination).resolve() == artifacts().resolve():
        raise UserError(f"The artifacts are in {destination} already: leave --artifacts out.")
    shared.probe(destination)
    files = objects.files_of(artifacts())
    total = sum((artifacts() / file).stat().st_size for file in files)
    with typer.progressbar(length=max(total, 1), label="Artifacts") as bar:
        sent = objects.copy_files(artifacts(), destination, bar.update)
        bar.update(1 if not total else 0)
    print(f"Stored   {counted(sent, 'file')} in {destination}; all {len(files)} ({size(total)}) "
          "were read back and are equal")  # fmt: skip


def move_rows(
    source: sqlite3.Connection, connection: "Connection", both: list[tables.Table]
) -> dict[str, tables.Content]:
    """Copy the rows of all tables and compare them; raise `UserError` if any differs."""
    counts = {
        table.name: source.execute(f'SELECT count(*) FROM "{table.name}"').fetchone()[0]
        for table in both
    }
    bar = typer.progressbar(length=max(sum(counts.values()), 1), label="Rows")
    with bar, tables.without_foreign_keys(connection, both):
        for name in tables.OWN_ROWS.keys() & counts.keys():
            connection.execute(f'DELETE FROM "{name}" WHERE {tables.OWN_ROWS[name]}')
        moved = {table.name: tables.copy(source, connection, table, bar.update) for table in both}
    with typer.progressbar(both, label="Comparing") as compared:
        for table in compared:
            tables.continue_sequences(connection, table)
            there = tables.content(connection, table)
            if there != moved[table.name]:
                raise UserError(
                    f"The rows of {table.name} differ after the copy ({moved[table.name].rows} "
                    f"here, {there.rows} there), so nothing was moved: has the target triggers or "
                    "rules?"
                )
    return moved
