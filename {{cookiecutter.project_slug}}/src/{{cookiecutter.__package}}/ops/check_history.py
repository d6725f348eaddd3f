"""Doctor's checks of the history: database, files, runs, backups.

Checks only read, with or without a running server, and yield findings: state, text, remedy.
MLflow has no public way to read a history without a server: the tables and columns are private.
"""

import os
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil

from ..config import LOGGED_FILES, MODEL, ROOT, SETTINGS, from_shell
from . import history, ownership
from .history import artifacts, database
from .shell import command, counted, quoted, size

COMMAND = command(MODEL)
PROXIED = "mlflow-artifacts:/"
COPY, DELETE = ("copy", ["del"]) if os.name == "nt" else ("cp", ["rm", "-r"])
OF_NO_RUN = {"alembic_version", "experiments", "experiment_tags", "workspaces"}  # tables
DAY = 24 * 3600
NEW_HERE = (
    f"{command('start-server')} creates it; or restore a colleague's backup: "
    f"{COMMAND} restore FILE; "
    f"or use the team's: write its address as MLFLOW_TRACKING_URI in {SETTINGS.name}"
)
LARGE = 1 << 30  # bytes of an experiment


def store() -> Iterator[tuple]:
    """Check that the database exists, is sound and private, and has MLflow's current schema."""
    if sentence := history.missing_database():
        yield "wrong", sentence
        return
    if not database().exists():
        lost = bool(history.known_backups())
        remedy = history.how_to_restore() if lost else NEW_HERE
        yield "warning", f"{database()} does not exist", remedy
        return
    check = "quick_check" if ownership.own_server() else "integrity_check"  # slow: blocks writers
    count = history.row_counts(database(), check).get("runs", 0)
    if steps := history.steps_behind(database()):
        remedy = f"{command('start-server')} upgrades it, after a backup"
        behind = f"by an older MLflow ({counted(steps, 'migration')} behind)"
        yield "warning", f"{database()} was written {behind}", remedy
    else:
        yield "ok", f"{database()} is sound, {counted(count, 'run')}{from_shell(*ownership.STORES)}"
    open_to_all = [path for path in (database(), artifacts()) if mode(path) & 0o077]
    if os.name == "posix" and open_to_all:
        remedy = f"{command('start-server')} makes it private"
        yield "warning", f"other users of this machine can read {open_to_all[0]}", remedy


def experiments() -> Iterator[tuple]:
    """Show the size of the ten largest experiments."""
    sql = """SELECT e.experiment_id, e.name, count(r.run_uuid) FROM experiments e
        LEFT JOIN runs r USING (experiment_id) GROUP BY e.experiment_id"""
    kept = [(bytes_below(artifacts() / str(key)), name, runs) for key, name, runs in query(sql)]
    for total, name, runs in sorted(kept, reverse=True)[:10]:
        remedy = f"{COMMAND} clean lists the runs that no alias and no champion needs"
        found = f"{name}: {counted(runs, 'run')}, {size(total)} of artifacts"
        yield "ok", found, remedy if total > LARGE else ""


def files() -> Iterator[tuple]:
    """Check that runs and models have their files, and that each folder has its run or model."""
    if history.missing_database():
        return  # `store` reports it
    # The folders first: a server may add runs meanwhile.
    folders = {*artifacts().glob("[0-9]*/[0-9a-f]*/"), *artifacts().glob("[0-9]*/models/m-*/")}
    present = {f"{folder.relative_to(artifacts()).as_posix()}/artifacts" for folder in folders}
    known = query(f"""SELECT artifact_uri, value, 0 FROM runs LEFT JOIN tags
        ON tags.run_uuid = runs.run_uuid AND key = '{LOGGED_FILES}'""")
    if query("SELECT 1 FROM sqlite_master WHERE name = 'logged_model_tags'"):  # since MLflow 3
        known += query(f"""SELECT artifact_location, tag_value, status = 2 FROM logged_models
            LEFT JOIN logged_model_tags AS tags ON tags.model_id = logged_models.model_id
            AND tag_key = '{LOGGED_FILES}'""")  # 2 is READY
    here = {uri.removeprefix(PROXIED): one for uri, *one in known if uri.startswith(PROXIED)}
    if elsewhere := len(known) - len(here):
        remedy = "keep that place: it is in no backup, and does not move with this folder"
        found = f"the files of {counted(elsewhere, 'run or model', 'runs or models')} are elsewhere"
        yield "warning", found, remedy
    lacking = [line for uri, (tag, _) in sorted(here.items()) if (line := lacking_files(uri, tag))]
    ready = [uri for uri, (tag, ready) in sorted(here.items()) if ready and not tag]
    empty = [uri for uri in ready if uri not in present and not (artifacts() / uri).exists()]
    alone = sorted(uri for uri in present - here.keys() if holds_file((artifacts() / uri).parent))
    if lacking:
        lost = counted(len(lacking), "run or model", "runs or models")
        found = f"files of {lost} are missing: {', '.join(lacking[:3])}"
        remedy = f"if you deleted them, correct the tag {LOGGED_FILES}; if not: "
        yield "wrong", found, remedy + history.how_to_restore()
    if empty:
        found = f"{counted(len(empty), 'model')} without files: {', '.join(empty[:3])}"
        yield "warning", found, f"if they had files: {history.how_to_restore()}"
    if alone:
        remedy = f"delete them; but if you miss a run: {history.how_to_restore()}"
        found = f"{counted(len(alone), 'folder')} of no run or model: {', '.join(alone[:3])}"
        yield "warning", found, remedy
    if not lacking and not empty and not alone:
        count = counted(len(present), "folder")
        yield "ok", f"{count} in {artifacts()}, each with its run or model"


def holds_file(folder: Path) -> bool:
    """Return whether a folder holds a file; `mlflow gc` leaves empty folders of deleted runs."""
    return any(names for _, _, names in os.walk(folder))


def lacking_files(place: str, recorded: str | None) -> str:
    """Return "PLACE (n of m)" if a folder has fewer files than were `recorded`, else ""."""
    expected = int(recorded) if recorded and recorded.isdecimal() else 0
    files = (names for _, _, names in os.walk(artifacts() / place) if expected)
    found = sum(map(len, files))
    return f"{place} ({found} of {expected})" if found < expected else ""


def strays() -> Iterator[tuple]:
    """Check that there is no other MLflow store in the project or in a folder above it."""
    found = []
    for folder in (ROOT / "notebooks", ROOT, *ROOT.parents):
        other, old = folder / "mlflow.db", folder / "mlruns"
        if other.is_file() and other != database():
            found.append((other, "another store", holds(other), quoted(COPY, other, database())))
        if any(old.glob("*/meta.yaml")):
            words = [sys.executable, "-m", "mlflow", "migrate-filestore", "--source", str(old)]
            words += ["--target", f"sqlite:///{database()}"]
            holds_something = any(old.glob("*/*/*"))
            found.append((old, "an old file store", holds_something, quoted(*words)))
    have = history.runs_in_database(database()) if found else 0
    for path, what, worth_it, import_it in found:
        remedy = f"stop the server and import it (its files stay there): {import_it}"
        if worth_it is None:
            remedy = "it cannot be read: find out what it is"
        elif not worth_it:
            remedy = f"it is empty: delete it, unless a server uses it: {quoted(*DELETE, path)}"
        elif have:
            remedy = "histories cannot be merged, and this one has runs: make a project for it"
        yield "warning", f"{path} is {what}", remedy
    if not found:
        yield "ok", "no other store in the project or above it"


def holds(store: Path) -> bool | None:
    """Return whether an MLflow database holds user data; None if it is not an MLflow database."""
    try:
        with history.open_read_only(store) as opened:
            tables = opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = {name for (name,) in tables}
            row = 'SELECT 1 FROM "{}" LIMIT 1'
            full = any(opened.execute(row.format(name)).fetchone() for name in names - OF_NO_RUN)
            return full if "runs" in names or not names else None
    except sqlite3.Error:
        return None


def unfinished() -> Iterator[tuple]:
    """Check that the process of each RUNNING run is alive."""
    sql = """SELECT runs.run_uuid, start_time, value FROM runs LEFT JOIN tags
        ON tags.run_uuid = runs.run_uuid AND key = 'process'
        WHERE status = 'RUNNING' AND lifecycle_stage = 'active'"""
    running = query(sql)
    interrupted = [run for run, begin, tag in running if not alive(tag or "", begin / 1000)]
    for run in interrupted:
        remedy = f"{COMMAND} doctor --close {run}"
        yield "wrong", f"run {run} is RUNNING, but its process has ended", remedy
    if not interrupted:
        yield "ok", f"{counted(len(running), 'run')} in progress, none was interrupted"


def alive(tag: str, begin: float) -> bool:
    """Return whether the process in a run's `tag` may be alive; `begin` is its start in seconds."""
    host, pid, created = (*tag.split(), "", "", "")[:3]
    if host != socket.gethostname() or not pid.isdigit():  # another machine, or no tag
        return time.time() - begin < DAY
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(created)) < 2
    except psutil.Error as error:  # another user's process exists, too
        return not isinstance(error, psutil.NoSuchProcess)


def backups() -> Iterator[tuple]:
    """Check that there is a recent backup, and one outside the project."""
    found, lost = history.known_backups(), bool(history.missing_database())
    last = 0  # when the newest run began, in milliseconds
    try:
        last = max(begin or 0 for (begin,) in [*query("SELECT max(start_time) FROM runs"), (0,)])
    except sqlite3.Error:  # `store` reports it
        lost = True
    if not last and not found and not lost:
        yield "ok", "there is no run to back up yet"
        return
    if not found:
        yield "warning", "there is no backup", f"{COMMAND} backup" if last else ""
    elif (behind := last / 1000 - found[-1].stat().st_mtime) > 7 * DAY:
        age = f"{behind / DAY:.0f} days older than the newest run"
        yield "warning", f"{found[-1]} is {age}", f"{COMMAND} backup"
    else:
        hours = (time.time() - found[-1].stat().st_mtime) / 3600
        count = counted(len(found), "backup")
        yield "ok", f"{count}, the newest {hours:.0f} hours old: {found[-1]}"
    if last and all(file.is_relative_to(ROOT) for file in found):
        remedy = f"{COMMAND} backup FOLDER, or {history.BACKUP_DIR}=FOLDER in {SETTINGS.name}"
        yield "warning", "no backup is outside this project: deleting it would delete all", remedy


def query(sql: str) -> list[tuple]:
    """Return the rows of a query; none if the database does not exist or is empty."""
    if not database().exists() or not database().stat().st_size:
        return []
    with closing(history.open_database(database())) as opened:
        return opened.execute(sql).fetchall()


def mode(path: Path) -> int:
    """Return the permission bits of a file or folder; 0 if it does not exist."""
    return path.stat().st_mode if path.exists() else 0


def bytes_below(folder: Path) -> int:
    """Return the total size of the files below a folder, in bytes; some may come and go."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total
