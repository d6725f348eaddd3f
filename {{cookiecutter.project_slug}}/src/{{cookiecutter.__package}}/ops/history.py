"""The history on disk: who owns it, its schema, its backups, and how they come back.

Everything here works on the files. MLflow has no public way to ask for the schema of a database:
it is read from the table `alembic_version` and from the names in MLflow's folder of migrations.
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

from ..config import MODEL, ROOT, UserError, mend, setting
from .shell import command, quoted

DATABASE, MANIFEST = "mlflow.db", "manifest.json"  # in a backup, beside artifacts/
PLACE, OLD_PLACE = "PROJECT_BACKUP_DIR", "MLFLOW_BACKUP_DIR"  # the setting, and its first name
RUNS = "MLFLOW.runs"  # a header in front of them: how many runs it holds
DAMAGE = (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError)
# What SQLite says of a sound database that is locked, closed to us, or on a full disk.
PASSING_NAMES = ("BUSY", "CANTOPEN", "FULL", "IOERR", "LOCKED", "PERM", "READONLY")
PASSING = [getattr(sqlite3, f"SQLITE_{name}") for name in PASSING_NAMES]
ELSEWHERE = ROOT / "backups" / "elsewhere.txt"  # the backups that were written to other places
ROOM = 50 << 20  # bytes; less is a full disk
NAMES = "surrogateescape"  # a path may hold bytes that are no text
WAIT_SECONDS = 30  # for a server that is just stopping


def artifacts() -> Path:
    """Return the folder of the artifacts that the settings name."""
    place = setting("MLFLOW_ARTIFACTS_DESTINATION")
    if "://" in place:
        name = "MLFLOW_ARTIFACTS_DESTINATION"
        raise UserError(f"{name} is {place}, not the path of a folder: {mend(name)}.")
    return ROOT / place


def database(beside: str = "") -> Path:
    """Return the database file that the settings name, or what lies `beside` it by that ending."""
    place = setting("MLFLOW_BACKEND_STORE_URI")
    if not place.startswith("sqlite:///"):
        name = "MLFLOW_BACKEND_STORE_URI"
        raise UserError(f"{name} names no file, as sqlite:///FILE does: {mend(name)}.")
    return ROOT / (place.removeprefix("sqlite:///") + beside)


# One owner


@contextmanager
def owning(what: str, seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Own the history while the block runs: nobody else serves, upgrades or restores it.

    The operating system frees the lock when this process ends, in whatever way.
    Raises `UserError` when another process owns the history for longer than `seconds`.
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
    """Return what owns the history just now, by its own words; None when nothing does."""
    if not database(".lock").exists():
        return None
    try:
        with FileLock(database(".lock")).acquire(timeout=0):
            return None
    except Timeout:
        with suppress(OSError):
            return database(".owner").read_text("utf-8", NAMES).partition("\n")[0]
    return "a process that begins or ends just now"


def mark() -> None:
    """Write below the owner's words which file its database is."""
    file = database().resolve()
    with suppress(OSError), database(".owner").open("a", encoding="utf-8", errors=NAMES) as note:
        note.write(f"\n{socket.gethostname()}\n{file.stat().st_ino}\n{file}")


def displaced() -> bool:
    """Return whether the database that the owner has open is no longer at its path.

    It was moved, deleted or replaced. SQLite decides by the same comparison, and refuses to write.
    A mark that was made on another machine is not compared: its paths mean nothing here.
    """
    try:
        _, host, inode, file = database(".owner").read_text("utf-8", NAMES).split("\n", 3)
        return host == socket.gethostname() and Path(file).stat().st_ino != int(inode)
    except FileNotFoundError:
        return database(".owner").exists()  # or its owner has just ended
    except (OSError, ValueError):  # not marked yet
        return False


# The database


def connect(file: Path) -> sqlite3.Connection:
    """Return a connection to an existing database; what a crash left half done is undone first."""
    return sqlite3.connect(f"{file.as_uri()}?mode=rw", uri=True, timeout=WAIT_SECONDS)


@contextmanager
def read_only(file: Path) -> Iterator[sqlite3.Connection]:
    """Yield a connection to an existing database, whosever it is, that changes nothing."""
    uri = f"{file.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=5)) as connection:
        yield connection


def migrations() -> dict[str, str]:
    """Return the schemas that the installed MLflow knows, each with the one before it."""
    folder = Path(str(distribution("mlflow").locate_file("mlflow/store/db_migrations/versions")))
    names = re.compile(r"^(down_revision|revision)\s*=\s*['\"]?(\w+)", re.MULTILINE)
    found = [dict(names.findall(file.read_text("utf-8"))) for file in folder.glob("*_*.py")]
    return {one["revision"]: one["down_revision"] for one in found if one}


def steps_behind(file: Path) -> int:
    """Return how many migrations a database lacks.

    Raises `UserError` when it was written by a newer MLflow, or cannot be read.
    """
    known, reached = migrations(), schema(file)
    if reached not in known:
        raise UserError(newer(file, reached))
    behind = [next(iter(known.keys() - known.values()))]
    while behind[-1] != reached:
        behind.append(known[behind[-1]])
    return len(behind) - 1


def newer(file: Path, reached: str) -> str:
    """Return the sentence for a history that the installed MLflow cannot know."""
    return (
        f"{file} was written by a newer MLflow than the installed {version('mlflow')} (its schema "
        f"is {reached}): install the project's locked versions, or that MLflow, and try again."
    )


@contextmanager
def opened(file: Path, check: str = "quick_check") -> Iterator[sqlite3.Connection]:
    """Yield a connection to a sound database; raise `UserError` if it cannot be read."""
    try:
        with closing(connect(file)) as connection:
            if (found := connection.execute(f"PRAGMA {check}(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
            yield connection
    except sqlite3.Error as error:
        raise UserError(unfit(file, error)) from error


def unfit(file: Path, error: sqlite3.Error) -> str:
    """Return the sentence for a database that gives an `error`: busy or closed is not damaged."""
    if getattr(error, "sqlite_errorcode", 0) & 255 in PASSING:
        return f"{file} cannot be used just now ({error}): is it in use, or not yours to write?"
    return f"{file} is damaged, or no database of MLflow's ({error}). {way_back()}"


def schema(file: Path) -> str:
    """Return the schema of a sound database."""
    with opened(file) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        return found[0] if found else "none"


def rows(file: Path, check: str = "integrity_check") -> dict[str, int]:
    """Return how many rows each table of a sound database has."""
    with opened(file, check) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        count = 'SELECT count(*) FROM "{}"'
        return {name: connection.execute(count.format(name)).fetchone()[0] for (name,) in tables}


def snapshot(target: Path) -> dict[str, int]:
    """Write a consistent copy of the database, whoever writes to it; return its rows."""
    with opened(database()) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)  # in one step: writers wait, instead of making it begin again
    return rows(target)


def full() -> str:
    """Return a sentence on a disk of the history that is full; nothing when there is room."""
    with suppress(UserError):  # a history elsewhere has no disk here
        for folder in (database().parent, artifacts().parent):
            if folder.is_dir() and shutil.disk_usage(folder).free < ROOM:
                return f"The disk of {folder} is full: make room and try again."
    return ""


def gone() -> str:
    """Return a sentence where the database is missing or empty beside files of a history."""
    kept = artifacts().is_dir() and any(file.name != ".owner" for file in artifacts().iterdir())
    replaced = sorted(database().parent.glob("replaced-*"))
    if (database().exists() and database().stat().st_size) or not (kept or replaced):
        return ""
    before = f"What a restore replaced is in {replaced[-1]}. " if replaced else ""
    return f"{database()} is gone or empty, but not the files around it. {before}{way_back()}"


def keep_private() -> None:
    """Let nobody but the user read the history; below a closed folder all is closed."""
    for place, mode in ((artifacts(), 0o700), (database(), 0o600)):
        with suppress(OSError):  # somebody else's, or not there yet
            place.chmod(mode)


def backup_folder() -> Path:
    """Return where backups go when no place is named."""
    place = next(filter(None, map(os.environ.get, (PLACE, OLD_PLACE))), "backups")
    return ROOT / Path(place).expanduser()


def renamed_setting() -> str:
    """Return a sentence where the backup folder is set by the name that it had before."""
    return f"{OLD_PLACE} is called {PLACE} now" if os.environ.get(OLD_PLACE) else ""


def backups() -> list[Path]:
    """Return the backups that can be found, the oldest first."""
    folders = {backup_folder(), ROOT / "backups"}
    found = {file for folder in folders for file in folder.glob(f"{MODEL}-*.tar.gz")}
    with suppress(OSError):
        found |= {Path(line) for line in ELSEWHERE.read_text("utf-8").splitlines()}
    return sorted(filter(Path.is_file, found), key=lambda file: file.stat().st_mtime)


def way_back() -> str:
    """Return the sentence that names the newest backup, what it holds, and what brings it back."""
    restore = f"{command(MODEL)} restore"
    if not (found := backups()):
        return f"No backup of it is known; from one that you have: {restore} FILE"
    held, have = runs_in(found[-1]), runs_of(database())
    told = "cannot be read" if held is None else f"holds {held} run{'s' * (held != 1)}"
    told += "" if have is None else f", you have {have}"
    return f"Its newest backup {told}; it comes back with: {restore} {quoted(found[-1])}"


def runs_of(file: Path) -> int | None:
    """Return how many runs a database has; None where there is none, or it cannot be read."""
    with suppress(sqlite3.Error), read_only(file) as opened:
        return opened.execute("SELECT count(*) FROM runs").fetchone()[0]
    return None


def runs_in(file: Path) -> int | None:
    """Return how many runs a backup holds, from its head; None when it cannot be read.

    One that an earlier version made has no head, and is read to its end.
    """
    with suppress(*DAMAGE, OSError, LookupError, TypeError, ValueError), tarfile.open(file) as one:
        if head := one.pax_headers.get(RUNS):
            return int(head)
        content = one.extractfile(MANIFEST)
        return json.load(content or io.BytesIO())["rows"]["runs"]
    return None
