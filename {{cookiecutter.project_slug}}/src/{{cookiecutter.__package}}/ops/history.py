"""The history on disk: its lock, its database and schema, and the list of its backups.

Everything here works on files. MLflow has no public way to read the schema of a database: it is
read from the private table `alembic_version` and from the files in MLflow's folder of migrations.
"""

import gzip
import io
import json
import os
import re
import shutil
import socket
import sqlite3
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import distribution, version
from pathlib import Path

from filelock import FileLock, Timeout

from ..config import MODEL, ROOT, UserError, how_to_fix, setting
from .shell import command, counted, quoted

DATABASE, MANIFEST = "mlflow.db", "manifest.json"  # in a backup, beside artifacts/
BACKUP_DIR, OLD_BACKUP_DIR = "PROJECT_BACKUP_DIR", "MLFLOW_BACKUP_DIR"  # and its old name
RUNS_HEADER = "MLFLOW.runs"  # header of a backup: number of runs
DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)
# Errors of SQLite that do not mean damage: locked, not permitted, disk full.
TEMPORARY_NAMES = ("BUSY", "CANTOPEN", "FULL", "IOERR", "LOCKED", "PERM", "READONLY")
TEMPORARY = [getattr(sqlite3, f"SQLITE_{name}") for name in TEMPORARY_NAMES]
ELSEWHERE = ROOT / "backups" / "elsewhere.txt"  # list of the backups in other folders
LEAST_FREE = 50 << 20  # bytes; a disk with less counts as full
PATH_ERRORS = "surrogateescape"  # a path may hold bytes that are not text
WAIT_SECONDS = 30  # for a server that is stopping


def artifacts() -> Path:
    """Return the artifact folder of the settings; raise `UserError` if it is not a local path."""
    place = setting("MLFLOW_ARTIFACTS_DESTINATION")
    if "://" in place:
        name = "MLFLOW_ARTIFACTS_DESTINATION"
        raise UserError(f"{name} is {place}, not the path of a folder: {how_to_fix(name)}.")
    return ROOT / place


def database(beside: str = "") -> Path:
    """Return the database file of the settings, or the file `beside` it with that ending.

    Raises `UserError` if the setting is not an SQLite file.
    """
    place = setting("MLFLOW_BACKEND_STORE_URI")
    if not place.startswith("sqlite:///"):
        name = "MLFLOW_BACKEND_STORE_URI"
        raise UserError(f"{name} is not of the form sqlite:///FILE: {how_to_fix(name)}.")
    return ROOT / (place.removeprefix("sqlite:///") + beside)


# One owner


@contextmanager
def owning(what: str, seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Lock the history while the block runs, so that no other process serves or changes it.

    The operating system frees the lock when this process ends, however it ends.
    Raises `UserError` if another process keeps the lock for longer than `seconds`.
    """
    lock, note = FileLock(database(".lock")), database(".owner")
    try:
        database().parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=seconds)
        note.write_text(f"{what} (process {os.getpid()})", "utf-8")
    except Timeout:
        remedy = "wait for it, or press Ctrl-C in its terminal"
        raise UserError(f"{database()} is in use by {owner()}: {remedy}.") from None
    except OSError as error:
        raise UserError(f"The history cannot be written to: {error}.") from error
    try:
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def owner() -> str | None:
    """Return what the owner of the lock wrote about itself; None if nobody has the lock."""
    if not database(".lock").exists():
        return None
    try:
        with FileLock(database(".lock")).acquire(timeout=0):
            return None
    except Timeout:
        with suppress(OSError):
            return database(".owner").read_text("utf-8", PATH_ERRORS).partition("\n")[0]
    return "a process that is starting or stopping"


def mark() -> None:
    """Record host, inode and path of the open database in the owner's note."""
    file = database().resolve()
    with suppress(OSError), database(".owner").open("a", -1, "utf-8", PATH_ERRORS) as note:
        note.write(f"\n{socket.gethostname()}\n{file.stat().st_ino}\n{file}")


def database_moved() -> bool:
    """Return whether the owner's database was moved, deleted or replaced while it was open.

    SQLite makes the same comparison, and then refuses to write. A note from another machine is not
    compared: its paths mean nothing here.
    """
    try:
        _, host, inode, file = database(".owner").read_text("utf-8", PATH_ERRORS).split("\n", 3)
        return host == socket.gethostname() and Path(file).stat().st_ino != int(inode)
    except FileNotFoundError:
        return database(".owner").exists()  # else its owner has just ended
    except (OSError, ValueError):  # nothing recorded yet
        return False


# The database


def open_database(file: Path) -> sqlite3.Connection:
    """Return a connection to an existing database, after SQLite's recovery from a crash."""
    return sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=WAIT_SECONDS)


@contextmanager
def open_read_only(file: Path) -> Iterator[sqlite3.Connection]:
    """Yield a read-only connection to an existing database."""
    uri = f"{file.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
        yield connection


def migrations() -> dict[str, str]:
    """Return the schema revisions of the installed MLflow, each with its predecessor."""
    folder = Path(str(distribution("mlflow").locate_file("mlflow/store/db_migrations/versions")))
    names = re.compile(r"^(down_revision|revision)\s*=\s*['\"]?(\w+)", re.MULTILINE)
    found = [dict(names.findall(file.read_text("utf-8"))) for file in folder.glob("*_*.py")]
    return {one["revision"]: one["down_revision"] for one in found if one}


def steps_behind(file: Path) -> int:
    """Return the number of migrations that a database needs.

    Raises `UserError` if a newer MLflow wrote it, or if it cannot be read.
    """
    return steps_from(schema(file), file)


def steps_from(reached: str, where: Path | str) -> int:
    """Return the number of migrations from a revision to the newest; from "", of all."""
    known = migrations()
    if not reached:
        return len(known)
    if reached not in known:
        raise UserError(newer_schema(where, reached))
    behind = [next(iter(known.keys() - known.values()))]
    while behind[-1] != reached:
        behind.append(known[behind[-1]])
    return len(behind) - 1


def newer_schema(file: Path | str, reached: str) -> str:
    """Return the sentence on a database whose schema the installed MLflow does not know."""
    return (
        f"{file} was written by a newer MLflow than the installed {version('mlflow')} (its schema "
        f"is {reached}): install the project's locked versions, or that MLflow, and try again."
    )


@contextmanager
def open_sound(file: Path, check: str = "quick_check") -> Iterator[sqlite3.Connection]:
    """Yield a connection to a database that passed `check`; raise `UserError` if it did not."""
    try:
        with closing(open_database(file)) as connection:
            if (found := connection.execute(f"PRAGMA {check}(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
            yield connection
    except sqlite3.Error as error:
        raise UserError(unreadable(file, error)) from error


def unreadable(file: Path, error: sqlite3.Error) -> str:
    """Return the sentence on a database error: a locked database is not a damaged one."""
    if getattr(error, "sqlite_errorcode", 0) & 255 in TEMPORARY:
        return (
            f"{file} cannot be used now ({error}): another process may be using it, or you may "
            "not have permission to write to it."
        )
    return f"{file} is damaged, or is not an MLflow database ({error}). {how_to_restore()}"


def schema(file: Path) -> str:
    """Return the schema revision of a sound database."""
    with open_sound(file) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return found[0] if found else "none"


def row_counts(file: Path, check: str = "integrity_check") -> dict[str, int]:
    """Return the number of rows of each table of a sound database."""
    with open_sound(file, check) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        count = 'SELECT count(*) FROM "{}"'
        return {name: connection.execute(count.format(name)).fetchone()[0] for (name,) in tables}


def snapshot(target: Path) -> dict[str, int]:
    """Write a consistent copy of the database to `target`; return its row counts."""
    with open_sound(database()) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)  # in one step: otherwise each write would restart it
    return row_counts(target)


def full_disk() -> str:
    """Return a sentence if a disk of the history is full, else ""."""
    with suppress(UserError):  # the history is not on a local disk
        for folder in (database().parent, artifacts().parent):
            if folder.is_dir() and shutil.disk_usage(folder).free < LEAST_FREE:
                return f"The disk of {folder} is full: free some space and try again."
    return ""


def missing_database() -> str:
    """Return a sentence if the database is missing or empty beside files of a history, else ""."""
    kept = artifacts().is_dir() and any(file.name != ".owner" for file in artifacts().iterdir())
    replaced = sorted(database().parent.glob("replaced-*"))
    if (database().exists() and database().stat().st_size) or not (kept or replaced):
        return ""
    before = f"The files that a restore replaced are in {replaced[-1]}. " if replaced else ""
    return f"{database()} is missing or empty, but its artifacts exist. {before}{how_to_restore()}"


def keep_private() -> None:
    """Make database and artifact folder readable by this user only."""
    for place, mode in ((artifacts(), 0o700), (database(), 0o600)):
        with suppress(OSError):  # another user's, or missing
            place.chmod(mode)


def backup_folder() -> Path:
    """Return the default folder for backups."""
    place = next(filter(None, map(os.environ.get, (BACKUP_DIR, OLD_BACKUP_DIR))), "backups")
    return ROOT / Path(place).expanduser()


def renamed_setting() -> str:
    """Return a sentence if the backup folder is set by its old name, else ""."""
    return f"{OLD_BACKUP_DIR} is called {BACKUP_DIR} now" if os.environ.get(OLD_BACKUP_DIR) else ""


def known_backups() -> list[Path]:
    """Return the known backups that exist, the oldest first."""
    folders = {backup_folder(), ROOT / "backups"}
    found = {file for folder in folders for file in folder.glob(f"{MODEL}-*.tar.gz")}
    with suppress(OSError):
        found |= {Path(line) for line in ELSEWHERE.read_text("utf-8").splitlines()}
    return sorted(filter(Path.is_file, found), key=lambda file: file.stat().st_mtime)


def how_to_restore() -> str:
    """Return a sentence with the newest backup, its number of runs, and how to restore it."""
    restore = f"{command(MODEL)} restore"
    if not (found := known_backups()):
        return f"No backup is known. If you have one, restore it with: {restore} FILE"
    held, have = runs_in_backup(found[-1]), runs_in_database(database())
    told = "cannot be read" if held is None else f"has {counted(held, 'run')}"
    told += "" if have is None else f" (this history has {have})"
    return f"The newest backup {told}; restore it with: {restore} {quoted(found[-1])}"


def runs_in_database(file: Path) -> int | None:
    """Return the number of runs in a database; None if it is missing or unreadable."""
    with suppress(sqlite3.Error), open_read_only(file) as opened:
        return opened.execute("SELECT count(*) FROM runs").fetchone()[0]
    return None


def runs_in_backup(file: Path) -> int | None:
    """Return the number of runs in a backup; None if it cannot be read.

    A backup by an earlier version has no header, and is read to its end.
    """
    with suppress(*DAMAGE, OSError, LookupError, TypeError, ValueError), tarfile.open(file) as one:
        if head := one.pax_headers.get(RUNS_HEADER):
            return int(head)
        content = one.extractfile(MANIFEST)
        return json.load(content or io.BytesIO())["rows"]["runs"]
    return None
