"""The history on disk: who owns it, its schema, its backups, and how they come back.

Everything here works on the files. MLflow has no public way to ask for the schema of a database:
it is read from the table `alembic_version` and from the names in MLflow's folder of migrations.
"""

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from importlib.metadata import distribution, version
from pathlib import Path, PurePath
from typing import IO

import typer
from filelock import FileLock, Timeout

from ..config import MODEL, ROOT, Refused, command, mend, quoted, setting

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
        raise Refused(f"{name} is {place}, not the path of a folder: {mend(name)}.")
    return ROOT / place


def database(beside: str = "") -> Path:
    """Return the database file that the settings name, or what lies `beside` it by that ending."""
    place = setting("MLFLOW_BACKEND_STORE_URI")
    if not place.startswith("sqlite:///"):
        name = "MLFLOW_BACKEND_STORE_URI"
        raise Refused(f"{name} names no file, as sqlite:///FILE does: {mend(name)}.")
    return ROOT / (place.removeprefix("sqlite:///") + beside)


# One owner


@contextmanager
def owning(what: str, seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Own the history while the block runs: nobody else serves, upgrades or restores it.

    The operating system frees the lock when this process ends, in whatever way.
    Raises `Refused` when another process owns the history for longer than `seconds`.
    """
    lock, note = FileLock(database(".lock")), database(".owner")
    try:
        database().parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=seconds)
        note.write_text(f"{what} (process {os.getpid()})", "utf-8")
    except Timeout:
        remedy = "wait for it, or press Ctrl-C in its terminal"
        raise Refused(f"{database()} is in use by {owner()}: {remedy}.") from None
    except OSError as error:
        raise Refused(f"The history cannot be written to: {error}.") from error
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

    Raises `Refused` when it was written by a newer MLflow, or cannot be read.
    """
    known, reached = migrations(), schema(file)
    if reached not in known:
        raise Refused(newer(file, reached))
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
    """Yield a connection to a sound database; raise `Refused` when it is none or cannot be read."""
    try:
        with closing(connect(file)) as connection:
            if (found := connection.execute(f"PRAGMA {check}(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
            yield connection
    except sqlite3.Error as error:
        raise Refused(unfit(file, error)) from error


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
    with suppress(Refused):  # a history elsewhere has no disk here
        for folder in (database().parent, artifacts().parent):
            if folder.is_dir() and shutil.disk_usage(folder).free < ROOM:
                return f"The disk of {folder} is full: make room and try again."
    return ""


def refuse_environment() -> None:
    """Refuse an environment in which MLflow cannot create or upgrade a database.

    Alembic takes a % in the path of MLflow's migrations for a reference to a setting.
    """
    folder = distribution("mlflow").locate_file("")
    if "%" in str(folder):
        raise Refused(
            f"MLflow is installed in {folder}, and it cannot create or upgrade a database from a "
            "path with %: make the environment in another folder."
        )


def prepare() -> None:
    """Leave the history private, and with the schema of the installed MLflow.

    Raises `Refused`, with nothing changed, when the database is gone, damaged or newer.
    """
    if sentence := gone():
        raise Refused(sentence)
    if not database().exists() and backups():
        print(f"A new history begins. {way_back()}", flush=True)
    for folder in (database().parent, artifacts()):
        folder.mkdir(parents=True, exist_ok=True)
    if database().exists() and database().stat().st_size and (steps := steps_behind(database())):
        upgrade(steps)
    keep_private()


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
            raise Refused(
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


# Backups


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


def backup(target: Path | None = None) -> Path:
    """Write the whole history, as it is now, into one verified file, and return its path.

    `target` is a new file, or a folder for one. A server may run and writers write meanwhile.
    Raises `Refused` when there is no sound history, or the file cannot be written.
    """
    if not database().is_file():
        raise Refused(f"There is no history to back up: {database()} does not exist.")
    if target is None and (sentence := renamed_setting()):
        print(f"{sentence}: rename it where it is set.")
    target = place_for_backup(target)
    if target.exists() or target.is_relative_to(artifacts()):
        raise Refused(f"{target} exists already, or lies in the artifacts: name another file.")
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".backup-") as folder:
            part = Path(folder, "part")
            manifest = pack(part, Path(folder, DATABASE))
            unpack(part, "Verifying")
            part.replace(target)
        if target.parent not in (ROOT / "backups", backup_folder()):
            ELSEWHERE.parent.mkdir(exist_ok=True, mode=0o700)
            with ELSEWHERE.open("a", encoding="utf-8") as places:
                places.write(f"{target}\n")
    except OSError as error:
        raise Refused(f"The backup {target} cannot be written: {error}.") from error
    runs, files = manifest["rows"]["runs"], len(manifest["files"])
    print(f"Backup   {target}")
    print(f"Holds    {runs} runs, {files} files, {target.stat().st_size / 1e6:.1f} MB, verified")
    return target


def place_for_backup(named: Path | None) -> Path:
    """Return the file that a backup is to become: `named`, or a new one in a folder.

    A folder in the project is made where no place is named. Any other has to be there: one that
    is missing is mistyped, or the place of a disk that is not mounted.
    """
    target = Path(os.path.abspath(named or backup_folder()))
    is_folder = target.is_dir() or named is None or target.suffix not in (".gz", ".tgz")
    folder = target if is_folder else target.parent
    try:
        if named is None and folder.is_relative_to(ROOT):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Refused(f"The folder {folder} cannot be made: {error}.") from error
    if not folder.is_dir():
        raise Refused(
            f"There is no folder {folder}: mount its disk or make it, then try again. (The name of "
            "a file ends in .tar.gz.)"
        )
    return folder / f"{MODEL}-{datetime.now():%Y%m%d-%H%M%S-%f}.tar.gz" if is_folder else target


def pack(part: Path, copy: Path) -> dict:
    """Write a snapshot of the history into the new file `part`; return its manifest."""
    manifest: dict = {"rows": snapshot(copy), "schema": schema(copy)}
    manifest |= {"project": MODEL, "mlflow": version("mlflow"), "created": str(datetime.now())}
    found = [file for file in artifacts().rglob("*") if file.is_file()]
    names = [f"artifacts/{file.relative_to(artifacts()).as_posix()}" for file in found]
    files = {DATABASE: copy, **dict(zip(names, found, strict=True))}
    files = {n: file for n, file in files.items() if not n.startswith("artifacts/.owner/")}
    sums = manifest["files"] = {}
    head = {RUNS: str(manifest["rows"]["runs"])}
    size = 0
    for file in files.values():
        with suppress(FileNotFoundError):  # a server's own, that came and went
            size += file.stat().st_size
    with (
        tarfile.open(part, "x:gz", compresslevel=1, pax_headers=head) as archive,
        typer.progressbar(length=size, label="Backing up") as bar,
    ):
        part.chmod(0o600)
        for name, file in files.items():
            with suppress(FileNotFoundError):  # deleted since it was listed
                sums[name] = add(archive, name, file, bar.update)
        content = io.BytesIO(json.dumps(manifest, indent=1).encode())
        _add(archive, MANIFEST, content)
    with part.open("rb+") as written:
        os.fsync(written.fileno())
    return manifest


def add(archive: tarfile.TarFile, name: str, file: Path, tick: Callable) -> str:
    """Add a file to an archive, once nobody writes to it; return its checksum."""
    beside = os.path.dirname(str(archive.name))
    while True:
        with (
            file.open("rb") as content,
            tempfile.SpooledTemporaryFile(64 << 20, dir=beside) as spool,
        ):
            before = os.fstat(content.fileno())
            found = transfer(content, spool, tick)
            after = os.fstat(content.fileno())
            if (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size):
                _add(archive, name, spool)
                return found


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes]) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = content.seek(0, os.SEEK_END), 0o600
    content.seek(0)
    archive.addfile(info, content)


def transfer(source: IO[bytes], target: IO[bytes], tick: Callable = id) -> str:
    """Copy what `source` has left, telling `tick` the sizes; return its checksum (SHA-256)."""
    checksum = hashlib.sha256()
    while block := source.read(1 << 20):
        checksum.update(block)
        target.write(block)
        tick(len(block))
    return checksum.hexdigest()


def unpack(file: Path, label: str, into: dict[str, Path] | None = None) -> dict:
    """Read a backup, prove that each byte is as it was written, and return its manifest.

    Its database and its artifacts are written to the paths that `into` has for them.
    Raises `Refused` when the file is damaged, or no backup made by this command.
    """
    sums, manifest = {}, {}
    try:
        with (
            file.open("rb") as raw,
            tarfile.open(fileobj=raw, mode="r:gz") as archive,
            typer.progressbar(length=file.stat().st_size, label=label) as bar,
        ):
            for member in archive:
                first, *others = place_of(member)
                content = archive.extractfile(member) or io.BytesIO()
                if first == MANIFEST:
                    manifest = dict(json.load(content))
                    continue
                target = into[first].joinpath(*others) if into else Path(os.devnull)
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                with target.open("wb") as written:
                    sums[member.name] = transfer(content, written)
                bar.update(raw.tell() - bar.pos)
        if manifest["files"] != sums or not sums[DATABASE]:
            raise ValueError("its checksums do not fit")
        if manifest["project"] != MODEL:
            raise ValueError(f"it is one of {manifest['project']}, not of {MODEL}")
        _ = manifest["schema"], manifest["created"], manifest["rows"]["runs"]
    except (*DAMAGE, LookupError, TypeError, ValueError) as error:
        raise Refused(f"{file} is no whole backup of a history: {error}.") from error
    return manifest


def place_of(member: tarfile.TarInfo) -> tuple[str, ...]:
    """Return the parts of a member's path; raise `ValueError` for what is not in a history."""
    parts = PurePath(member.name).parts
    below = PurePath(*parts[1:])
    known = parts[:1] == ("artifacts",) if parts[1:] else member.name in (DATABASE, MANIFEST)
    if not member.isfile() or not known or below.anchor or ".." in parts:
        raise ValueError(f"{member.name!r} has no place in a history")
    return parts


def restore(file: Path) -> None:
    """Put a backup in the place of the history, which is kept beside it in a folder of its own.

    Raises `Refused`, with the history untouched, when the file is damaged, foreign or newer, or
    when the history is in use.
    """
    if not file.is_file():
        raise Refused(f"There is no backup {file}.")
    into = {DATABASE: database().resolve(), "artifacts": artifacts().resolve()}
    staged = {name: place.parent / "restoring" / place.name for name, place in into.items()}
    with owning("a restore", seconds=2):
        try:
            clear(staged)  # of a restore that was cut off
            manifest = unpack(file, "Verifying", staged)
            if (reached := schema(staged[DATABASE])) not in migrations():
                raise Refused(newer(file, reached))
            if rows(staged[DATABASE]) != manifest["rows"]:
                raise Refused(f"{file} is no whole backup of a history: its rows do not fit.")
            staged["artifacts"].mkdir(exist_ok=True)
            before = runs_of(into[DATABASE])
            kept = swap(into, staged)
            keep_private()
        except OSError as error:
            raise Refused(f"{file} cannot be restored, all is as it was: {error}.") from error
        finally:
            clear(staged)
    print(f"Restored {database().parent}: {manifest['rows']['runs']} runs of {manifest['created']}")
    for folder in kept:
        told = "" if before is None else f": {before} run{'s' * (before != 1)}"
        print(f"Before   {folder}, yours to remove{told}")


def clear(staged: dict[str, Path]) -> None:
    """Remove the folders of what is `staged`, where they exist."""
    for place in staged.values():
        shutil.rmtree(place.parent, ignore_errors=True)


def swap(into: dict[str, Path], staged: dict[str, Path]) -> set[Path]:
    """Put what is `staged` in place and return the folders that have the old files; or undo it all.

    The database goes first and comes last: where a restore was cut off, `prepare` refuses.
    """
    file, folder = into[DATABASE], into["artifacts"]
    # Left in place, a journal of a crash would be rolled back into the database that comes.
    journals = [file.with_name(file.name + ending) for ending in ("-journal", "-wal", "-shm")]
    name = f"replaced-{datetime.now():%Y%m%d-%H%M%S-%f}"
    old = [place for place in (file, *journals, folder) if place.exists()]
    moves = [(place, place.parent / name / place.name) for place in old]
    away = {target.parent for _, target in moves}
    done: list[tuple[Path, Path]] = []
    try:
        for parent in away:
            parent.mkdir(mode=0o700)
        for source, target in (*moves, (staged["artifacts"], folder), (staged[DATABASE], file)):
            done.append((source.rename(target), source))
    except BaseException:  # Ctrl-C included
        for target, source in reversed(done):
            target.rename(source)
        for parent in away:
            parent.rmdir()
        raise
    return away
