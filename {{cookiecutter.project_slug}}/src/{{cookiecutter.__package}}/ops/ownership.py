"""Whose server is it? Find this history's server, and prove it before anything is written."""

import json
import os
import re
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from .. import config
from ..config import ROOT, SETTINGS, UserError, from_shell, how_to_fix, set_by_shell, setting
from . import history, logins, shared
from .addresses import ADDRESS, EVERYWHERE, LOOPBACK, address, check_login, listens, request
from .history import artifacts, database
from .shared import STORES
from .shell import command

START_SECONDS = 300  # without compiled bytecode, on a busy machine, a start can take 100 s
# Variables that would send part of the history elsewhere.
DIVERTING = (
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "MLFLOW_SERVE_ARTIFACTS",
)


def refuse_diversions() -> None:
    """Raise `UserError` if a variable would send part of the history elsewhere."""
    if named := [name for name in DIVERTING if name in os.environ]:
        where = "Your shell" if set_by_shell(named[0]) else SETTINGS
        remedy = "unset it first" if set_by_shell(named[0]) else "remove the line"
        raise UserError(
            f"{where} sets {named[0]}, which would send part of the history elsewhere: {remedy}."
        )


def owns(uri: str) -> bool:
    """Return whether the server at `uri` serves this history.

    A nonce written into the artifact folder must be readable through the server's API, which tells
    copies of a project apart; and the server's newest experiment must be in the database file.
    A server with logins gives no artifacts away: the holder of the history's lock is believed.
    """
    if logins.wanted():
        return (history.owner() or "").startswith(f"{uri} ")
    nonce = artifacts() / ".owner" / uuid.uuid4().hex
    newest = "mlflow/experiments/search?max_results=1&view_type=ALL&order_by=creation_time%20DESC"
    try:
        nonce.parent.mkdir(parents=True, exist_ok=True)
        nonce.write_text(nonce.name)
    except OSError as error:
        raise UserError(f"The history cannot be written to: {error}.") from error
    try:
        returned = request(uri, f"mlflow-artifacts/artifacts/.owner/{nonce.name}")
        found = json.loads(request(uri, newest)).get("experiments", [])
        return returned == nonce.name.encode() and all(map(in_database, found))
    except (OSError, ValueError):
        return False
    finally:
        nonce.unlink(missing_ok=True)


def in_database(experiment: dict) -> bool:
    """Return whether the database file has this `experiment` of a server's response."""
    query = "SELECT 1 FROM experiments WHERE experiment_id = ? AND creation_time IS ?"
    values = experiment["experiment_id"], experiment.get("creation_time")
    try:
        with closing(sqlite3.connect(f"{database().as_uri()}?mode=ro", uri=True)) as file:
            return file.execute(query, values).fetchone() is not None
    except sqlite3.Error:
        return False


def listeners() -> Iterator[tuple[int, psutil.Process]]:
    """Yield port and process of each listening socket that this user can see."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    yield connection.laddr.port, process


def listening(uri: str) -> list[psutil.Process]:
    """Return the processes that listen on the port of `uri`, as far as this user can see them."""
    return [process for port, process in listeners() if port == urlsplit(uri).port]


def started_here(process: psutil.Process) -> bool:
    """Return whether `process` is an MLflow started in this project, for any history."""
    with suppress(psutil.Error):
        return Path(process.cwd()) == ROOT and "mlflow" in " ".join(process.cmdline())
    return False


def serves_here(process: psutil.Process) -> bool:
    """Return whether `process` is an MLflow server that was started for this database path.

    Decided by its settings and working folder; its files may be gone.
    """
    with suppress(psutil.Error):
        words = process.cmdline()
        if is_ours(words) or any(word.startswith("mlflow.server") for word in words):
            place = process.environ().get(STORES[0], "").removeprefix("sqlite:///")
            return Path(process.cwd(), place).resolve() == database().resolve()
    return False


def serves_shared(process: psutil.Process) -> bool:
    """Return whether `process` is a server that was started for this PostgreSQL database."""
    with suppress(psutil.Error):
        place = shared.with_driver(setting(STORES[0]))
        return is_ours(process.cmdline()) and process.environ().get(STORES[0]) == place
    return False


def is_ours(words: list[str]) -> bool:
    """Return whether a command line is that of a `Server` process of any project."""
    return any(module.endswith(".ops.server") for module in words[1:3])


def servers_here() -> Iterator[tuple[str, psutil.Process]]:
    """Yield address and main process of each server that was started for this database path."""
    for port, process in listeners():
        with suppress(psutil.Error):
            if family := [one for one in (process, *process.parents()) if serves_here(one)]:
                yield address(port), family[-1]


def displaced_server() -> str:
    """Return a sentence if a server's files were moved, deleted or replaced, else "".

    SQLite no longer lets it write. If the whole folder was moved, its lock is gone, too: a server
    frees its lock after its port, so one that listens without a lock has lost its folder.
    """
    owner = history.owner() or ""
    if owner and history.database_moved():
        return lost(owner)
    if "http" in owner:
        return ""
    for uri, process in servers_here():
        with suppress(psutil.Error):
            words = f"(process {process.pid})"
            if is_ours(process.cmdline()) and words not in (history.owner() or "") and listens(uri):
                return lost(f"{uri} {words}")
    return ""


def lost(server: str) -> str:
    """Return the sentence on a `server` whose files are gone."""
    return (
        f"The server at {server} still uses files of {database().parent} that were moved, deleted "
        "or replaced: press Ctrl-C in its terminal, then try again."
    )


def in_use() -> str:
    """Return a sentence if a server uses the history, else ""."""
    if sentence := displaced_server():
        return sentence
    if uri := own_server() or next((uri for uri, _ in servers_here()), None):
        stop = "press Ctrl-C in its terminal, then try again"
        return f"This history's server runs at {uri}{whose(uri)}. To stop it, {stop}."
    return ""


def own_server() -> str | None:
    """Return the address of this history's running server, on any port; None if there is none."""
    found = dict.fromkeys([address(), *re.findall(r"http://\S+", history.owner() or "")])
    for port, process in listeners():
        if started_here(process):
            found[address(port)] = None
    return next((uri for uri in found if listens(uri) and owns(uri)), None)


def await_server() -> str | None:
    """Return the address of this history's server, or None; wait while one starts or stops.

    Raises `UserError` if one does not answer, or if its files are gone.
    """
    if shared.is_shared():
        return address() if any(map(serves_shared, listening(address()))) else None
    if sentence := displaced_server():
        raise UserError(sentence)
    for _ in waiting("for a server of this history that does not answer"):
        if uri := own_server():
            return uri
        if not history.owner():
            return None
    owner = history.owner()
    raise UserError(f"{database()} is in use by {owner}, which does not answer: end that process.")


def waiting(what: str) -> Iterator[None]:
    """Yield five times a second for `START_SECONDS`; print the elapsed time every 5 s."""
    begin = told = time.monotonic()
    while (now := time.monotonic()) - begin < START_SECONDS:
        if now - told > 5:
            told = now
            print(f"  {now - begin:.0f} s {what}", flush=True)
        yield
        time.sleep(0.2)


@cache
def connect() -> str:
    """Return the address of the tracking server, after proving that it serves this history.

    An address that is not loopback is a deliberate choice: it is printed and not verified.
    Raises `UserError` if no server answers, or another one does.
    """
    refuse_diversions()
    uri = setting("MLFLOW_TRACKING_URI").rstrip("/").replace(EVERYWHERE, "127.0.0.1")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    if not uri.startswith(("http://", "https://")):
        remedy = how_to_fix("MLFLOW_TRACKING_URI")
        raise UserError(f"{uri}{from_shell(*ADDRESS)} is not the address of a server: {remedy}.")
    answers, local = listens(uri), not shared.elsewhere() and urlsplit(uri).hostname in LOOPBACK
    if local and (sentence := displaced_server()):
        raise UserError(sentence)
    if not answers:
        raise UserError(nobody_at(uri))
    if logins.wanted() or not local:
        check_login(uri)
    if not local:
        print(f"Server   {uri}{from_shell(*ADDRESS)}, not verified", flush=True)
    elif owns(uri) or ((history.owner() or "").startswith(uri) and owns(uri)):  # it may be busy
        print(f"Server   {uri}{from_shell(*ADDRESS)}", flush=True)
        print(f"History  {database().parent}{from_shell(*STORES)}", flush=True)
    else:
        raise UserError(held(uri))
    return uri


def nobody_at(uri: str) -> str:
    """Return the sentence on a server that does not answer at `uri`."""
    if shared.elsewhere() == uri:
        return f"No server answers at {uri}{from_shell(*ADDRESS)}: ask whoever runs it."
    if not shared.elsewhere() and (elsewhere := own_server()):
        remedy = f"set MLFLOW_TRACKING_URI={elsewhere}, or start it again on the settings' port"
        if elsewhere == config.WRITTEN.get("MLFLOW_TRACKING_URI"):
            remedy = how_to_fix(*ADDRESS)
        where = f"{elsewhere}, not at {uri}{from_shell(*ADDRESS)}"
        return f"This project's server runs at {where}: {remedy}."
    start = f"start this project's server in another terminal: {command('start-server')}"
    return f"No server answers at {uri}{from_shell(*ADDRESS)}: {start}"


def whose(uri: str) -> str:
    """Return a remark on the process that serves this history at `uri`."""
    if shared.is_shared():
        return ""
    if owner := re.search(r"\(process \d+\)", history.owner() or ""):
        return f" {owner[0]}"
    pids = [str(process.pid) for process in listening(uri)]
    return f": a plain MLflow (process {', '.join(pids) or 'unknown'}), without start-server"


def held(uri: str) -> str:
    """Return the sentence on the process at `uri`, as far as this user can see it."""
    holder = "another program"
    for process in listening(uri):
        with suppress(psutil.Error):
            holder = f"process {process.pid} ({process.name()}, started in {process.cwd()})"
            if started_here(process):
                holder = f"this project's {holder}"
                what = "which does not answer or serves another history: try again, or end it"
                return f"{uri} is held by {holder}, {what}."
    return f"{uri}{from_shell(*ADDRESS)} is held by {holder}: {other_port(uri)}."


def other_port(uri: str) -> str:
    """Return what to do if the port of `uri` is taken."""
    if any(map(set_by_shell, ADDRESS)):
        return how_to_fix(*ADDRESS)
    if uri != address():
        return "use another --port"
    port = urlsplit(uri).port or 0
    ports = range(port + 1, 65536) or range(1024, port)
    free = next(other for other in ports if not listens(address(other)))
    return f"write MLFLOW_PORT={free} instead of MLFLOW_PORT={port} in {SETTINGS}"
