"""Doctor's checks of the history: database, files, runs, backups.

Every check reads only, with the server or without it, and yields its findings. The names of the
tables and columns are MLflow's own; it has no public way to ask for them without a server.
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
from .check_project import size
from .history import artifacts, database
from .shell import command, quoted

ME = command(MODEL)
PROXIED = "mlflow-artifacts:/"
COPY, DELETE = ("copy", ["del"]) if os.name == "nt" else ("cp", ["rm", "-r"])
OF_NO_RUN = {"alembic_version", "experiments", "experiment_tags", "workspaces"}  # tables
DAY = 24 * 3600


def store() -> Iterator[tuple]:
    """The database is there, sound, private, and has the schema of the installed MLflow."""
    if sentence := history.gone():
        yield "wrong", sentence
        return
    if not database().exists():
        remedy = history.way_back() if history.backups() else f"{command('start-server')} makes it"
        yield "warning", f"{database()} does not exist", remedy
        return
    check = "quick_check" if ownership.running() else "integrity_check"  # which makes writers wait
    count = history.rows(database(), check).get("runs", 0)
    if steps := history.steps_behind(database()):
        remedy = f"{command('start-server')} upgrades it, after a backup"
        yield "warning", f"{database()} is of an older MLflow ({steps} migrations)", remedy
    else:
        yield "ok", f"{database()} is sound, {count} runs{from_shell(*ownership.STORES)}"
    open_to_all = [path for path in (database(), artifacts()) if mode(path) & 0o077]
    if os.name == "posix" and open_to_all:
        remedy = f"{command('start-server')} takes that away"
        yield "warning", f"others on this machine may read {open_to_all[0]}", remedy


def experiments() -> Iterator[tuple]:
    """How much each experiment keeps, the ten biggest."""
    query = """SELECT e.experiment_id, e.name, count(r.run_uuid) FROM experiments e
        LEFT JOIN runs r USING (experiment_id) GROUP BY e.experiment_id"""
    kept = [(bytes_below(artifacts() / str(key)), name, runs) for key, name, runs in ask(query)]
    for total, name, runs in sorted(kept, reverse=True)[:10]:
        yield "ok", f"{name}: {runs} runs, {size(total)} of artifacts"


def files() -> Iterator[tuple]:
    """Every folder of artifacts has its run or model, and the other way round."""
    if history.gone():
        return  # `store` says it; whose they are, only the database knows
    # Before the database, which may tell of more by then: a server may be at work.
    folders = {*artifacts().glob("[0-9]*/[0-9a-f]*/"), *artifacts().glob("[0-9]*/models/m-*/")}
    present = {f"{folder.relative_to(artifacts()).as_posix()}/artifacts" for folder in folders}
    known = ask(f"""SELECT artifact_uri, value, 0 FROM runs LEFT JOIN tags
        ON tags.run_uuid = runs.run_uuid AND key = '{LOGGED_FILES}'""")
    if ask("SELECT 1 FROM sqlite_master WHERE name = 'logged_model_tags'"):  # since MLflow 3
        known += ask(f"""SELECT artifact_location, tag_value, status = 2 FROM logged_models
            LEFT JOIN logged_model_tags AS tags ON tags.model_id = logged_models.model_id
            AND tag_key = '{LOGGED_FILES}'""")  # 2 is READY
    here = {uri.removeprefix(PROXIED): one for uri, *one in known if uri.startswith(PROXIED)}
    if elsewhere := len(known) - len(here):
        remedy = "keep that place: neither a move of this folder nor a backup takes it along"
        yield "warning", f"{elsewhere} runs or models keep their files elsewhere", remedy
    lacking = [line for uri, (tag, _) in sorted(here.items()) if (line := lack(uri, tag))]
    ready = [uri for uri, (tag, ready) in sorted(here.items()) if ready and not tag]
    empty = [uri for uri in ready if uri not in present and not (artifacts() / uri).exists()]
    alone = sorted(uri for uri in present - here.keys() if holds_file((artifacts() / uri).parent))
    if lacking:
        found = f"{len(lacking)} runs or models lost files: {', '.join(lacking[:3])}"
        remedy = f"if you removed them, correct the tag {LOGGED_FILES}; if not: "
        yield "wrong", found, remedy + history.way_back()
    if empty:
        found = f"{len(empty)} models have no files: {', '.join(empty[:3])}"
        yield "warning", found, f"if there were some: {history.way_back()}"
    if alone:
        remedy = f"remove them, unless you miss a run; then: {history.way_back()}"
        yield "warning", f"{len(alone)} folders are no run's: {', '.join(alone[:3])}", remedy
    if not lacking and not empty and not alone:
        yield "ok", f"{len(present)} folders in {artifacts()}, each with its run or model"


def holds_file(folder: Path) -> bool:
    """Return whether a folder holds a file; `mlflow gc` leaves empty ones of the runs it deletes."""
    return any(names for _, _, names in os.walk(folder))


def lack(place: str, recorded: str | None) -> str:
    """Return how many of the `recorded` files a folder of the artifacts has.

    Nothing when it has them all, or when no number was recorded.
    """
    expected = int(recorded) if recorded and recorded.isdecimal() else 0
    files = (names for _, _, names in os.walk(artifacts() / place) if expected)
    found = sum(map(len, files))
    return f"{place} ({found} of {expected})" if found < expected else ""


def strays() -> Iterator[tuple]:
    """No other MLflow left a store in the project or above it."""
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
    have = history.runs_of(database()) if found else 0
    for path, what, worth_it, import_it in found:
        remedy = f"import it, with no server running (its files stay there): {import_it}"
        if worth_it is None:
            remedy = "it cannot be read: see what it is"
        elif not worth_it:
            remedy = f"it has 0 runs: delete it, unless a server uses it: {quoted(*DELETE, path)}"
        elif have:
            remedy = "this history has runs, and two cannot be merged: make it a project of its own"
        yield "warning", f"{path} is {what}", remedy
    if not found:
        yield "ok", "no other store in the project or above it"


def holds(store: Path) -> bool | None:
    """Return whether a database of MLflow's holds anything of a user's; None if it is none."""
    try:
        with history.read_only(store) as opened:
            tables = opened.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            names = {name for (name,) in tables}
            row = 'SELECT 1 FROM "{}" LIMIT 1'
            held = any(opened.execute(row.format(name)).fetchone() for name in names - OF_NO_RUN)
            return held if "runs" in names or not names else None
    except sqlite3.Error:
        return None


def unfinished() -> Iterator[tuple]:
    """Every run that is RUNNING has a living process."""
    query = """SELECT runs.run_uuid, start_time, value FROM runs LEFT JOIN tags
        ON tags.run_uuid = runs.run_uuid AND key = 'process'
        WHERE status = 'RUNNING' AND lifecycle_stage = 'active'"""
    found = ask(query)
    cut_off = [run for run, begin, tag in found if not alive(tag or "", begin / 1000)]
    for run in cut_off:
        yield "wrong", f"run {run} is RUNNING, its process is gone", f"{ME} doctor --close {run}"
    if not cut_off:
        yield "ok", f"{len(found)} runs are going on, none was cut off"


def alive(tag: str, begin: float) -> bool:
    """Return whether the process that `train` wrote into a run's `tag` may still work on it."""
    host, pid, created = (*tag.split(), "", "", "")[:3]
    if host != socket.gethostname() or not pid.isdigit():  # another machine, or not by train
        return time.time() - begin < DAY
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(created)) < 2
    except psutil.Error as error:  # another user's process is one, whatever it is
        return not isinstance(error, psutil.NoSuchProcess)


def backups() -> Iterator[tuple]:
    """There is a backup that is not too old, and one outside the project."""
    found, lost = history.backups(), bool(history.gone())
    last = 0  # when the newest run began, in milliseconds
    try:
        last = max(begin or 0 for (begin,) in [*ask("SELECT max(start_time) FROM runs"), (0,)])
    except sqlite3.Error:  # `store` says what is wrong with it
        lost = True
    if not last and not found and not lost:
        yield "ok", "no run needs one yet"
        return
    if not found:
        remedy = f"{ME} backup" if last else ""  # of a lost history there is nothing to back up
        yield "warning", "there is none", remedy
    elif (behind := last / 1000 - found[-1].stat().st_mtime) > 7 * DAY:
        yield "warning", f"{found[-1]} lacks the runs of {behind / DAY:.0f} days", f"{ME} backup"
    else:
        hours = (time.time() - found[-1].stat().st_mtime) / 3600
        yield "ok", f"{len(found)}, the newest {hours:.0f} hours old: {found[-1]}"
    if last and all(file.is_relative_to(ROOT) for file in found):
        remedy = f"{ME} backup FOLDER, or {history.PLACE}=FOLDER in {SETTINGS.name}"
        yield "warning", "none lies outside this project, which can be deleted whole", remedy


def ask(query: str) -> list[tuple]:
    """Return the rows that the database gives; none where it does not exist or is empty."""
    if not database().exists() or not database().stat().st_size:
        return []
    with closing(history.connect(database())) as opened:
        return opened.execute(query).fetchall()


def mode(path: Path) -> int:
    """Return who may do what with a file or folder; 0 where it does not exist."""
    return path.stat().st_mode if path.exists() else 0


def bytes_below(folder: Path) -> int:
    """Return the sizes of all files below a folder, also while some come and go."""
    total = 0
    for file in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += file.stat().st_size if file.is_file() else 0
    return total
