"""The MLflow server of this project: how it starts, when it is ready, whose it is, how it stops.

It is plain `mlflow --env-file mlflow.env server` with the root as its working directory, so every
path in the settings means the same wherever the project lies and whoever starts the server.
"""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import urllib.request
import uuid
import webbrowser
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import psutil
import typer

from ..config import (
    ENDINGS,
    FROM_SHELL,
    ROOT,
    SETTINGS,
    VIEW,
    Refused,
    command,
    from_shell,
    run,
    setting,
)

ANSWER_SECONDS = 3
START_SECONDS = 300  # without compiled bytecode, on a busy machine, a start can take 100 s
STOP_SECONDS = 20

ADDRESS = ("MLFLOW_TRACKING_URI", "MLFLOW_HOST", "MLFLOW_PORT")
STORES = ("MLFLOW_BACKEND_STORE_URI", "MLFLOW_ARTIFACTS_DESTINATION")
# What would send a part of the history elsewhere, when it is left in a shell.
DIVERTING = (
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_RUN_ID",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_DEFAULT_ARTIFACT_ROOT",
    "MLFLOW_SERVE_ARTIFACTS",
)


def artifacts() -> Path:
    """Return the folder of the artifacts that the settings name."""
    place = setting("MLFLOW_ARTIFACTS_DESTINATION")
    if "://" in place:
        raise Refused(f"MLFLOW_ARTIFACTS_DESTINATION is {place}: name a folder, without a scheme.")
    return ROOT / place


def database() -> Path:
    """Return the database file that the settings name."""
    place = setting("MLFLOW_BACKEND_STORE_URI")
    if not place.startswith("sqlite:///"):
        raise Refused("MLFLOW_BACKEND_STORE_URI names no file: write it as sqlite:///FILE.")
    return ROOT / place.removeprefix("sqlite:///")


def address(port: int | str | None = None) -> str:
    """Return where this project's server is: on `port`, or on the settings' port."""
    host = setting("MLFLOW_HOST")
    if host not in ("127.0.0.1", "localhost"):
        raise Refused(f"MLFLOW_HOST is {host}: this server is for this machine, at 127.0.0.1.")
    return f"http://{host}:{port or setting('MLFLOW_PORT')}"


def refuse_diversions() -> None:
    """Refuse to go on with variables in the shell that would split the history."""
    if named := [name for name in DIVERTING if name in os.environ]:
        raise Refused(f"Your shell sets {named[0]}, which sends a part elsewhere: unset it first.")


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
        raise Refused(f"{uri} is no address: {error}; mend it in {SETTINGS}.") from error
    with suppress(OSError), socket.create_connection(place, ANSWER_SECONDS):
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
    query = "SELECT 1 FROM experiments WHERE experiment_id = ? AND creation_time = ?"
    values = experiment["experiment_id"], experiment["creation_time"]
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


def running(but: str = "") -> str | None:
    """Return the address of this history's own server, on whatever port (`but` was asked)."""
    ports = {setting("MLFLOW_PORT"): None}  # a set that keeps its order
    for port, process in listeners():
        with suppress(psutil.Error):
            if started_here(process):
                ports[str(port)] = None
    others = (uri for uri in map(address, ports) if uri != but)
    return next((uri for uri in others if listens(uri) and owns(uri)), None)


@cache
def connect() -> str:
    """Return the address of the tracking server, once it is proved to keep this history.

    An address beyond this machine is a deliberate choice: it is printed and taken.
    Raises `Refused` where nobody answers, or another server does.
    """
    refuse_diversions()
    uri = setting("MLFLOW_TRACKING_URI").rstrip("/")
    if not uri.startswith(("http://", "https://")):
        raise Refused(f"{uri}{from_shell(*ADDRESS)} is no server: unset it, or name an http one.")
    if not listens(uri):
        raise Refused(nobody_at(uri))
    if urlsplit(uri).hostname not in ("127.0.0.1", "localhost", "::1"):
        print(f"Server   {uri}{from_shell(*ADDRESS)}, taken as it is", flush=True)
    elif owns(uri):
        print(f"Server   {uri}{from_shell(*ADDRESS)}", flush=True)
        print(f"History  {database().parent}{from_shell(*STORES)}", flush=True)
    else:
        raise Refused(held(uri))
    return uri


def nobody_at(uri: str) -> str:
    """Return the sentence for a client whose server does not answer at `uri`."""
    if elsewhere := running(but=uri):
        return (
            f"This project's server runs at {elsewhere}, not at {uri}{from_shell(*ADDRESS)}: set "
            f"MLFLOW_TRACKING_URI={elsewhere}, or start it again on the settings' port."
        )
    start = f"start this project's server in another terminal: {command('start-server')}"
    return f"No server answers at {uri}{from_shell(*ADDRESS)}: {start}"


def held(uri: str) -> str:
    """Return the sentence on who holds `uri`, as far as this user may know, and what to do."""
    holder = "another program"
    for port, process in listeners():
        with suppress(psutil.Error):
            if port == urlsplit(uri).port:
                holder = f"process {process.pid} ({process.name()}, started in {process.cwd()})"
                if started_here(process):
                    holder = f"this project's {holder}"
                    return f"{uri} is held by {holder}, silent or on another history: end it."
    return f"{uri}{from_shell(*ADDRESS)} is held by {holder}: {other_port(uri)}."


def other_port(uri: str) -> str:
    """Return what to do when the port of `uri` is taken: the line to edit, or its like."""
    if named := [name for name in ADDRESS if name in FROM_SHELL]:
        return f"unset {' and '.join(named)} in your shell"
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
        self.link: tempfile.TemporaryDirectory | None = None
        own_group: dict = {"start_new_session": True}  # the terminal's Ctrl-C is ours to pass on
        if sys.platform == "win32":
            own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "--env-file", SETTINGS, "server"],
            cwd=ROOT,
            env={"MLFLOW_UVICORN_OPTS": "--log-level warning", **os.environ}
            | {"MLFLOW_PORT": str(port), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
            | self._plain_path(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            **own_group,
        )
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _plain_path(self) -> dict[str, str]:
        """Return what lets MLflow start in a folder with % in its name.

        Alembic takes a % in the path of MLflow's migrations for a reference, so there MLflow is
        imported through a link from a temporary folder.
        """
        packages = sysconfig.get_path("purelib")
        if "%" not in packages:
            return {}
        self.link = tempfile.TemporaryDirectory(prefix="mlflow-")
        link = Path(self.link.name, "packages")
        link.symlink_to(packages, target_is_directory=True)
        known = os.environ.get("PYTHONPATH")
        return {"PYTHONPATH": os.pathsep.join([str(link), *([known] if known else [])])}

    def _read(self) -> None:
        for line in self.process.stdout or []:
            self.tail.append(line)
            if self.ready:
                with suppress(OSError):  # the terminal may be gone, the server has to go on
                    sys.stderr.write(line)

    def wait_until_ready(self) -> None:
        """Return when the API answers for this history; raise `Refused` when it cannot."""
        begin = told = time.monotonic()
        while not (listens(self.uri) and owns(self.uri)):
            now = time.monotonic()
            if self.process.poll() is not None:
                raise Refused(f"The server ended before it was ready{self.last_words()}")
            if now - begin > START_SECONDS:
                raise Refused(f"No server within {START_SECONDS} s{self.last_words()}")
            if now - told > 5:
                told = now
                print(f"  {now - begin:.0f} s (the first start is the longest)", flush=True)
            time.sleep(0.2)
        self.ready = True

    def last_words(self) -> str:
        """Return the end of what the server wrote, to close a sentence."""
        self.reader.join(1)
        return ". It wrote:\n" + ("".join(self.tail).rstrip() or "nothing")

    def stop(self) -> None:
        """End the server and every process it started; return when all are gone."""
        with undisturbed():
            with suppress(OSError):  # the terminal may be gone
                print("Stopping the server ...", flush=True)
            for end in (psutil.Process.terminate, psutil.Process.kill):
                family = self._family()
                for member in family:
                    with suppress(psutil.NoSuchProcess):
                        end(member)
                psutil.wait_procs(family, timeout=STOP_SECONDS)
            if self.link:
                self.link.cleanup()

    def _family(self) -> list[psutil.Process]:
        """Return the server's living processes; on POSIX also those whose parent is gone."""
        if os.name == "posix":
            return [other for other in psutil.process_iter() if group(other) == self.process.pid]
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.process.pid)
            return [main, *main.children(recursive=True)]
        return []


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
    uri, _, _ = address(port), database(), artifacts()  # each refuses what cannot work
    if listens(uri):
        raise Refused(held(uri))
    print(f"Starting the MLflow server of {ROOT} at {uri} ...", flush=True)
    server = Server(port)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.stop()


# The command


def check() -> None:
    """Prove this history's server: the one that runs, or one that is started just for this."""
    if uri := running():
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
    elif uri := running():
        print(f"This project's server already runs at {uri}")
        if show:
            webbrowser.open(page(uri))
    else:
        with serving(port or setting("MLFLOW_PORT")) as server, suppress(KeyboardInterrupt):
            print(f"Ready    {server.uri}\nHistory  {database().parent}{from_shell(*STORES)}")
            print(f"Browser  {page(server.uri)}\nCtrl-C stops it", flush=True)
            if show:
                webbrowser.open(page(server.uri))
            while server.process.poll() is None:  # on Windows wait() is deaf to Ctrl-C
                time.sleep(0.5)
            raise Refused(f"The server ended by itself{server.last_words()}")
        print("Stopped")


def page(uri: str) -> str:
    """Return the page of the UI to begin with."""
    return f"{uri}/#/experiments{VIEW}"


def main() -> None:
    """Run `start-server`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(start)
    run(app)
