"""The MLflow server of this project: how it starts, when it is ready, whose it is, how it stops.

It is plain `mlflow --env-file mlflow.env server` with the root as its working directory, so every
path in the settings means the same wherever the project lies and whoever starts the server.
"""

import json
import os
import re
import runpy
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
import webbrowser
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlsplit

import psutil
import typer

from .. import config
from ..config import (
    ENDINGS,
    EXPERIMENT,
    ROOT,
    SETTINGS,
    VIEW,
    Refused,
    command,
    from_shell,
    mend,
    run,
    set_by_shell,
    setting,
)
from . import history
from .history import artifacts, database

ANSWER_SECONDS = 3
START_SECONDS = 300  # without compiled bytecode, on a busy machine, a start can take 100 s
STOP_SECONDS = 20
MLFLOW = ["--env-file", str(SETTINGS), "server"]

ADDRESS = ("MLFLOW_TRACKING_URI", "MLFLOW_HOST", "MLFLOW_PORT")
STORES = ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = "0.0.0.0"
HOSTS, ORIGINS = "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
UNGUARDED = "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"
# What can widen who may ask MLflow's server, and what it does for them: its own settings, whatever
# it is allowed to reach, the assistant and the gateway, and web servers that check no names.
OPENING = re.compile(
    r"MLFLOW_(SERVER_\w+|ALLOWED_\w+|\w+_ALLOW(ED)?_\w+|ENABLE_AI_GATEWAY|ENABLE_\w*ASSISTANT\w*"
    r"|GUNICORN_OPTS|WAITRESS_OPTS)"
)
# What would send a part of the history elsewhere, when it is left in a shell.
DIVERTING = (
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_READ_REPLICA_BACKEND_STORE_URI",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "MLFLOW_SERVE_ARTIFACTS",
)


def address(port: int | str | None = None) -> str:
    """Return where this project's server is: on `port`, or on the settings' port."""
    host = setting("MLFLOW_HOST").replace(EVERYWHERE, "127.0.0.1")
    return f"http://{host}:{port or config.port('MLFLOW_PORT')}"


def opening() -> list[str]:
    """Return the variables of the shell that can open the server to others."""
    host = ["MLFLOW_HOST"] * (setting("MLFLOW_HOST") not in LOOPBACK)
    found = [*host, *sorted(filter(OPENING.fullmatch, config.SHELL))]
    return [name for name in found if set_by_shell(name) and not (name == UNGUARDED and guarded())]


def guarded() -> bool:
    """Return whether MLflow's server checks names and origins at all."""
    return os.environ.get(UNGUARDED, "false").lower() in ("false", "0")


def refuse_exposure() -> None:
    """Say what it means to listen to the network; refuse it where nobody decided it."""
    host, allowed = setting("MLFLOW_HOST"), setting(HOSTS)
    if named := opening():
        raise Refused(
            f"Your shell sets {named[0]}, which can open the history to others: unset it, or "
            f"write it into {SETTINGS} to allow that."
        )
    everybody = [name for name in (HOSTS, ORIGINS) if "*" in names(os.environ.get(name, ""))]
    if everybody := everybody + [UNGUARDED] * (not guarded()):
        name, value = everybody[0], os.environ[everybody[0]]
        raise Refused(f"{name}={value} lets any web page change the history: {mend(name)}.")
    if host in LOOPBACK:
        return
    if host != EVERYWHERE and host not in names(allowed):
        raise Refused(f"Add {host},{host}:* to {HOSTS} in {SETTINGS}.")
    print(
        f"MLFLOW_HOST is {host}: there is no login, so whoever reaches this machine can read, "
        "change and delete every run and model.\nThe server answers to these names only "
        f"({HOSTS}): {allowed}",
        flush=True,
    )


def names(text: str) -> list[str]:
    """Return the entries of a list that is written with commas."""
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def origins() -> dict[str, str]:
    """Return the setting that lets the server's own pages ask it, under each name it answers to.

    A browser names the page's origin with every change that it asks for, and with every search.
    MLflow takes the origins of this machine only; those of other names, behind a proxy with TLS or
    not, follow from `MLFLOW_SERVER_ALLOWED_HOSTS`. What `mlflow.env` lists itself is kept.
    """
    others = [host for host in names(setting(HOSTS)) if host.removesuffix(":*") not in LOOPBACK]
    pages = [f"{scheme}://{host}" for host in others for scheme in ("http", "https")]
    listed = dict.fromkeys([*names(os.environ.get(ORIGINS, "")), *pages])
    return {ORIGINS: ",".join(listed)} if listed else {}


def refuse_diversions() -> None:
    """Refuse to go on with variables that would split the history."""
    if named := [name for name in DIVERTING if name in os.environ]:
        where = "Your shell" if set_by_shell(named[0]) else SETTINGS
        remedy = "unset it first" if set_by_shell(named[0]) else "remove the line"
        raise Refused(f"{where} sets {named[0]}, which sends a part elsewhere: {remedy}.")


# Whose server is it?


def request(uri: str, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
    """Return what the API of the server at `uri` answers; raise OSError when it does not."""
    asked = urllib.request.Request(f"{uri}/api/2.0/{path}", data=body, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=ANSWER_SECONDS) as answer:
            return answer.read()
    except HTTPException as error:  # whoever it is, it does not speak HTTP
        raise OSError(f"{uri} gives no answer: {error!r}") from error


def listens(uri: str) -> bool:
    """Return whether anything accepts connections at `uri`."""
    try:
        place = urlsplit(uri).hostname, urlsplit(uri).port or 80
    except ValueError as error:
        raise Refused(f"{uri} is no address ({error}): {mend(*ADDRESS)}.") from error
    with suppress(OSError, UnicodeError), socket.create_connection(place, ANSWER_SECONDS):
        return True
    return False


def owns(uri: str) -> bool:
    """Return whether the server at `uri` keeps this history's artifacts and runs.

    A nonce put into the artifact folder has to come back through the server's API, which tells
    copies of a project apart, and the server's newest experiment has to be in the database file.
    """
    nonce = artifacts() / ".owner" / uuid.uuid4().hex
    newest = "mlflow/experiments/search?max_results=1&view_type=ALL&order_by=creation_time%20DESC"
    try:
        nonce.parent.mkdir(parents=True, exist_ok=True)
        nonce.write_text(nonce.name)
    except OSError as error:
        raise Refused(f"The history cannot be written to: {error}.") from error
    try:
        returned = request(uri, f"mlflow-artifacts/artifacts/.owner/{nonce.name}")
        found = json.loads(request(uri, newest)).get("experiments", [])
        return returned == nonce.name.encode() and all(map(in_database, found))
    except (OSError, ValueError):
        return False
    finally:
        nonce.unlink(missing_ok=True)


def in_database(experiment: dict) -> bool:
    """Return whether the database file holds the `experiment` that a server told of."""
    query = "SELECT 1 FROM experiments WHERE experiment_id = ? AND creation_time IS ?"
    values = experiment["experiment_id"], experiment.get("creation_time")
    try:
        with closing(sqlite3.connect(f"{database().as_uri()}?mode=ro", uri=True)) as file:
            return file.execute(query, values).fetchone() is not None
    except sqlite3.Error:
        return False


def listeners() -> Iterator[tuple[int, psutil.Process]]:
    """Yield port and process of each listening socket that this user may know of."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    yield connection.laddr.port, process


def started_here(process: psutil.Process) -> bool:
    """Return whether `process` is an MLflow of this project's, whatever history it serves."""
    return Path(process.cwd()) == ROOT and "mlflow" in " ".join(process.cmdline())


def serves_here(process: psutil.Process) -> bool:
    """Return whether `process` is a server of MLflow's that was started on this history's place.

    Its own settings and working folder tell, whether or not its files are still there.
    """
    with suppress(psutil.Error):
        words = process.cmdline()
        if is_ours(words) or any(word.startswith("mlflow.server") for word in words):
            place = process.environ().get(STORES[0], "").removeprefix("sqlite:///")
            return Path(process.cwd(), place).resolve() == database().resolve()
    return False


def is_ours(words: list[str]) -> bool:
    """Return whether a command line is that of `Server`'s process, in whichever project."""
    return any(module.endswith(".ops.server") for module in words[1:3])


def servers_here() -> Iterator[tuple[str, psutil.Process]]:
    """Yield address and main process of each server that was started on this history's place."""
    for port, process in listeners():
        with suppress(psutil.Error):
            if family := [one for one in (process, *process.parents()) if serves_here(one)]:
                yield address(port), family[-1]


def displaced() -> str:
    """Return the sentence on a server whose files are no longer in their place, or "".

    Its lock is gone together with the folder, or only the database is; SQLite lets it write no
    more. A lock is freed after the port: who listens and holds none has lost it.
    """
    owner = history.owner() or ""
    if owner and history.displaced():
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
    """Return the sentence on a `server` that has lost its files."""
    return (
        f"The server at {server} still uses files of {database().parent} that were moved, deleted "
        "or replaced: press Ctrl-C in its terminal, then try again."
    )


def in_use() -> str:
    """Return the sentence for who wants the history for itself while a server has it, or ""."""
    if sentence := displaced():
        return sentence
    if uri := running() or next((uri for uri, _ in servers_here()), None):
        stop = "press Ctrl-C in its terminal, then try again"
        return f"This history's server runs at {uri}{whose(uri)}. To stop it, {stop}."
    return ""


def running() -> str | None:
    """Return the address of this history's own server, on whatever port.

    It is the settings', what the owner says, or that of an MLflow which was started here.
    """
    found = dict.fromkeys([address(), *re.findall(r"http://\S+", history.owner() or "")])
    for port, process in listeners():
        with suppress(psutil.Error):
            if started_here(process):
                found[address(port)] = None
    return next((uri for uri in found if listens(uri) and owns(uri)), None)


def found() -> str | None:
    """Return the address of this history's server, after one that starts or stops just now.

    Raises `Refused` where one does not answer, or has lost its files.
    """
    if sentence := displaced():
        raise Refused(sentence)
    for _ in waiting("for a server of this history that does not answer"):
        if uri := running():
            return uri
        if not history.owner():
            return None
    owner = history.owner()
    raise Refused(f"{database()} is in use by {owner}, which does not answer: end it.")


def waiting(what: str) -> Iterator[None]:
    """Yield five times a second until `START_SECONDS` are over, with a sign of life."""
    begin = told = time.monotonic()
    while (now := time.monotonic()) - begin < START_SECONDS:
        if now - told > 5:
            told = now
            print(f"  {now - begin:.0f} s {what}", flush=True)
        yield
        time.sleep(0.2)


@cache
def connect() -> str:
    """Return the address of the tracking server, once it is proved to keep this history.

    An address beyond this machine is a deliberate choice: it is printed and taken.
    Raises `Refused` where nobody answers, or another server does.
    """
    refuse_diversions()
    uri = setting("MLFLOW_TRACKING_URI").rstrip("/").replace(EVERYWHERE, "127.0.0.1")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    if not uri.startswith(("http://", "https://")):
        remedy = mend("MLFLOW_TRACKING_URI")
        raise Refused(f"{uri}{from_shell(*ADDRESS)} is no address of a server: {remedy}.")
    answers, local = listens(uri), urlsplit(uri).hostname in LOOPBACK
    if local and (sentence := displaced()):
        raise Refused(sentence)
    if not answers:
        raise Refused(nobody_at(uri))
    if not local:
        print(f"Server   {uri}{from_shell(*ADDRESS)}, taken as it is", flush=True)
    elif owns(uri) or ((history.owner() or "").startswith(uri) and owns(uri)):  # it may be busy
        print(f"Server   {uri}{from_shell(*ADDRESS)}", flush=True)
        print(f"History  {database().parent}{from_shell(*STORES)}", flush=True)
    else:
        raise Refused(held(uri))
    return uri


def nobody_at(uri: str) -> str:
    """Return the sentence for a client whose server does not answer at `uri`."""
    if elsewhere := running():
        remedy = f"set MLFLOW_TRACKING_URI={elsewhere}, or start it again on the settings' port"
        if elsewhere == config.WRITTEN.get("MLFLOW_TRACKING_URI"):
            remedy = mend(*ADDRESS)
        where = f"{elsewhere}, not at {uri}{from_shell(*ADDRESS)}"
        return f"This project's server runs at {where}: {remedy}."
    start = f"start this project's server in another terminal: {command('start-server')}"
    return f"No server answers at {uri}{from_shell(*ADDRESS)}: {start}"


def whose(uri: str) -> str:
    """Return a remark on the process that serves this history at `uri`."""
    if owner := re.search(r"\(process \d+\)", history.owner() or ""):
        return f" {owner[0]}"
    pids = [str(process.pid) for port, process in listeners() if port == urlsplit(uri).port]
    return f": a plain MLflow (process {', '.join(pids) or 'unknown'}), without start-server"


def held(uri: str) -> str:
    """Return the sentence on who holds `uri`, as far as this user may know, and what to do."""
    holder = "another program"
    for port, process in listeners():
        with suppress(psutil.Error):
            if port == urlsplit(uri).port:
                holder = f"process {process.pid} ({process.name()}, started in {process.cwd()})"
                if started_here(process):
                    holder = f"this project's {holder}"
                    what = "busy, silent or on another history: try again, or end it"
                    return f"{uri} is held by {holder}, {what}."
    return f"{uri}{from_shell(*ADDRESS)} is held by {holder}: {other_port(uri)}."


def other_port(uri: str) -> str:
    """Return what to do when the port of `uri` is taken: the line to edit, or its like."""
    if any(map(set_by_shell, ADDRESS)):
        return mend(*ADDRESS)
    if uri != address():
        return "use another --port"
    port = urlsplit(uri).port or 0
    ports = range(port + 1, 65536) or range(1024, port)
    free = next(other for other in ports if not listens(address(other)))
    return f"write MLFLOW_PORT={free} instead of MLFLOW_PORT={port} in {SETTINGS}"


# How it starts and stops


class Server:
    """A server process of this history at `uri`, and the last lines that it wrote."""

    def __init__(self, port: int | str) -> None:
        self.uri = address(port)
        self.ready = False
        self.tail: deque[str] = deque(maxlen=30)
        self.members: list[psutil.Process] = []
        own_group: dict = {"start_new_session": True}  # the terminal's Ctrl-C is ours to pass on
        if sys.platform == "win32":
            own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, *MLFLOW],
            cwd=ROOT,
            env={"MLFLOW_UVICORN_OPTS": "--log-level warning", **os.environ}
            | {"MLFLOW_PORT": str(port), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
            | origins(),
            stdin=subprocess.PIPE,  # it ends when this process does, in whatever way
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            **own_group,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout or []:
            self.tail.append(line)
            if self.ready:
                with suppress(OSError):  # the terminal may be gone, the server has to go on
                    sys.stderr.write(line)

    def wait_until_ready(self, first: bool) -> None:
        """Return when the API answers for this history; raise `Refused` when it cannot.

        A `first` start makes the database, and Python compiles what it imports.
        """
        for _ in waiting("(the first start is the longest)" if first else "until it answers"):
            if self.process.poll() is not None:
                shell = from_shell(*sorted(config.FROM_SHELL))
                raise Refused(f"The server ended before it was ready{shell}{self.last_words()}")
            if not (owner := re.search(r"http.*process (\d+)", history.owner() or "")):
                continue
            if int(owner[1]) not in [member.pid for member in self._family()]:
                raise Refused(f"{database()} was just taken by {owner[0]}).")
            if listens(self.uri) and owns(self.uri):
                self.members, self.ready = self._family(), True
                history.mark()
                return
        raise Refused(f"No server within {START_SECONDS} s{self.last_words()}")

    def last_words(self) -> str:
        """Return the end of what the server wrote, to close a sentence."""
        self.reader.join(1)
        return ". It wrote:\n" + ("".join(self.tail).rstrip() or "nothing")

    def stop(self) -> None:
        """End the server and every process it started; return when all are gone."""
        with undisturbed():
            with suppress(OSError):  # the terminal may be gone
                print("Stopping the server ...", flush=True)
            end(self._family)

    def _family(self) -> list[psutil.Process]:
        """Return the server's living processes; on POSIX also those whose parent is gone."""
        if os.name == "posix":
            return [other for other in psutil.process_iter() if group(other) == self.process.pid]
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.process.pid)
            return [main, *main.children(recursive=True)]
        return [member for member in self.members if member.is_running()]


def end(family: Callable[[], list[psutil.Process]]) -> None:
    """End a `family` of processes; those that are left after `STOP_SECONDS`, the hard way."""
    for how in (psutil.Process.terminate, psutil.Process.kill):
        members = family()
        for member in members:
            with suppress(psutil.NoSuchProcess):
                how(member)
        psutil.wait_procs(members, timeout=STOP_SECONDS)


def become_server() -> None:
    """Turn this process into MLflow's server, which owns the history and ends with its parent."""

    def end_with_parent() -> None:
        while os.read(0, 1):  # its other end is the parent's, and never written to
            pass
        end(lambda: psutil.Process().children(recursive=True))
        os._exit(1)

    os.umask(0o077)  # the history is its owner's
    try:
        with history.owning(address()):
            threading.Thread(target=end_with_parent, daemon=True).start()
            runpy.run_module("mlflow", run_name="__main__", alter_sys=True)
    except Refused as error:
        sys.exit(str(error))


def group(process: psutil.Process) -> int | None:
    """Return the process group of a `process` that may just have ended."""
    with suppress(OSError):
        return os.getpgid(process.pid)
    return None


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and its like, for a block that has to come to its end."""
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def serving(port: int | str) -> Iterator[Server]:
    """Run this history's server on `port` while the block runs; it begins when it is ready."""
    refuse_diversions()
    refuse_exposure()
    history.refuse_environment()
    uri, _, _ = address(port), database(), artifacts()  # each refuses what cannot work
    if listens(uri):
        raise Refused(held(uri))
    with history.owning("a start"):
        history.prepare()
    print(f"Starting the MLflow server of {ROOT} at {uri} ...", flush=True)
    first = not database().exists()
    server = Server(port)
    try:
        server.wait_until_ready(first)
        yield server
    finally:
        server.stop()


# The command


def check() -> None:
    """Prove this history's server: the one that runs, or one that is started just for this."""
    if uri := found():
        prove(uri)
    else:
        with socket.create_server((setting("MLFLOW_HOST"), 0)) as probe:
            free = probe.getsockname()[1]
        with serving(free) as server:
            prove(server.uri)


def prove(uri: str) -> None:
    """Send an artifact in and out through this history's server at `uri`, and say where it was."""
    name = uuid.uuid4().hex
    path = f"mlflow-artifacts/artifacts/.owner/{name}"
    stored = artifacts() / ".owner" / name
    try:
        request(uri, path, "PUT", name.encode())
        if not stored.read_bytes() == request(uri, path) == name.encode():
            raise OSError("it came back changed")
        request(uri, path, "DELETE")
    except OSError as error:
        raise Refused(f"An artifact does not go in and out at {uri}: {error}.") from error
    finally:
        stored.unlink(missing_ok=True)
    print(f"Checked: the server answers at {uri}, an artifact went in and came out.")
    print(f"Store      {database()}{from_shell(STORES[0])}")
    print(f"Artifacts  {artifacts()}{from_shell(STORES[1])}", flush=True)


def start(
    port: Annotated[
        int | None, typer.Option(min=1024, max=65535, help="Another port than the settings'.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Show the UI in the browser.")] = False,
    only_check: Annotated[
        bool, typer.Option("--check", help="Start it on a free port, prove that it works, stop it.")
    ] = False,
) -> None:
    """Start this project's MLflow server, until Ctrl-C."""
    if only_check:
        check()
        return
    uri = found()
    if not uri:
        try:
            serve(port or config.port("MLFLOW_PORT"), show)
            return
        except Refused:  # another one may have been a moment faster
            if not (uri := found()):
                raise
    print(f"This project's server already runs at {uri}{whose(uri)}")
    if show:
        webbrowser.open(page(uri))


def serve(port: int | str, show: bool) -> None:
    """Keep this history's server until Ctrl-C; raise `Refused` when it ends by itself."""
    with serving(port) as server, suppress(KeyboardInterrupt):
        print(f"Ready    {server.uri}\nHistory  {database().parent}{from_shell(*STORES)}")
        print(f"Browser  {(shown := page(server.uri))}")
        if setting("MLFLOW_HOST") in LOOPBACK:  # else `refuse_exposure` has said more
            print("Access   no login: any user of this machine can read and change this history")
        print("Ctrl-C stops it", flush=True)
        if show:
            webbrowser.open(shown)
        while server.process.poll() is None:  # on Windows wait() is deaf to Ctrl-C
            time.sleep(0.5)
        raise Refused(f"The server ended by itself{server.last_words()}")
    print("Stopped")


def page(uri: str) -> str:
    """Return the page of the UI to begin with: the project's runs, once it has an experiment."""
    with suppress(OSError, ValueError, LookupError):  # none of that name, before the first run
        found = request(uri, f"mlflow/experiments/get-by-name?experiment_name={quote(EXPERIMENT)}")
        experiment = json.loads(found)["experiment"]
        if experiment["lifecycle_stage"] == "active":
            return f"{uri}/#/experiments/{experiment['experiment_id']}/runs{VIEW}"
    return f"{uri}/#/experiments{VIEW}"


def main() -> None:
    """Run `start-server`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(start)
    run(app, history.full)


if __name__ == "__main__":  # the process that `Server` starts
    become_server()
