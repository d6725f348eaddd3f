"""The MLflow server of this project: start it, wait until it is ready, stop it.

It is plain `mlflow --env-file mlflow.env server` with the project's root as working directory, so
that a path in the settings means the same in every project folder and for every caller.
"""

import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
import webbrowser
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Annotated
from urllib.parse import quote

import psutil
import typer

from .. import config
from ..config import EXPERIMENT, ROOT, SETTINGS, VIEW, UserError, from_shell, setting
from . import history, upgrade
from .access import origins, refuse_exposure
from .app import closed_app, is_closed, run_in_this_process
from .history import artifacts, database
from .ownership import (
    LOOPBACK,
    START_SECONDS,
    STORES,
    address,
    await_server,
    held,
    listens,
    owns,
    refuse_diversions,
    request,
    waiting,
    whose,
)
from .shell import ENDINGS, run

STOP_SECONDS = 20
MLFLOW = ["--env-file", str(SETTINGS), "server"]


class Server:
    """A server process of this history at `uri`, with the last lines that it printed."""

    def __init__(self, port: int | str) -> None:
        self.uri = address(port)
        self.ready = False
        self.tail: deque[str] = deque(maxlen=30)
        self.members: list[psutil.Process] = []
        own_group: dict = {"start_new_session": True}  # Ctrl-C goes to this process, which stops it
        if sys.platform == "win32":
            own_group = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__, *MLFLOW, "--app-name", closed_app()],
            cwd=ROOT,
            env={"MLFLOW_UVICORN_OPTS": "--log-level warning", **os.environ}
            | {"MLFLOW_PORT": str(port), "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
            | origins(),
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends
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
                with suppress(OSError):  # the terminal may be closed
                    sys.stderr.write(line)

    def wait_until_ready(self, first: bool) -> None:
        """Return when the API answers for this history; raise `UserError` if it does not.

        A `first` start takes longer: it creates the database, and Python compiles its imports.
        """
        for _ in waiting("(the first start takes longest)" if first else "waiting for its answer"):
            if self.process.poll() is not None:
                shell = from_shell(*sorted(config.FROM_SHELL))
                raise UserError(f"The server ended before it was ready{shell}{self.last_words()}")
            if not (owner := re.search(r"http.*process (\d+)", history.owner() or "")):
                continue
            if int(owner[1]) not in [member.pid for member in self._family()]:
                raise UserError(f"{database()} is now in use by {owner[0]}): try again.")
            if listens(self.uri) and owns(self.uri):
                if not is_closed(self.uri):
                    raise UserError(f"{self.uri} serves MLflow's assistant: reinstall the project.")
                self.members, self.ready = self._family(), True
                history.mark()
                return
        raise UserError(f"The server was not ready within {START_SECONDS} s{self.last_words()}")

    def last_words(self) -> str:
        """Return the last lines that the server printed, as the end of a sentence."""
        self.reader.join(1)
        return ". It printed:\n" + ("".join(self.tail).rstrip() or "nothing")

    def stop(self) -> None:
        """End the server and all its processes; return when they have ended."""
        with undisturbed():
            with suppress(OSError):  # the terminal may be closed
                print("Stopping the server ...", flush=True)
            end(self._family)

    def _family(self) -> list[psutil.Process]:
        """Return the server's living processes; on POSIX also those whose parent has ended."""
        if os.name == "posix":
            return [other for other in psutil.process_iter() if group(other) == self.process.pid]
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(self.process.pid)
            return [main, *main.children(recursive=True)]
        return [member for member in self.members if member.is_running()]


def end(family: Callable[[], list[psutil.Process]]) -> None:
    """Terminate a `family` of processes; kill those that are left after `STOP_SECONDS`."""
    for how in (psutil.Process.terminate, psutil.Process.kill):
        members = family()
        for member in members:
            with suppress(psutil.NoSuchProcess):
                how(member)
        psutil.wait_procs(members, timeout=STOP_SECONDS)


def become_server() -> None:
    """Run MLflow's server in this process; it holds the lock and ends with its parent."""

    def end_with_parent() -> None:
        while os.read(0, 1):  # the parent never writes; its end closes the pipe
            pass
        signal.raise_signal(signal.SIGTERM)  # what is being answered comes to its end
        time.sleep(STOP_SECONDS)
        end(lambda: psutil.Process().children(recursive=True))
        os._exit(1)

    os.umask(0o077)  # only this user can read the history
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn ends and leaves the rest to us
    try:
        with history.owning(address()):
            threading.Thread(target=end_with_parent, daemon=True).start()
            run_in_this_process()
            runpy.run_module("mlflow", run_name="__main__", alter_sys=True)
    except UserError as error:
        sys.exit(str(error))


def group(process: psutil.Process) -> int | None:
    """Return the process group of a `process`, or None if it has ended."""
    with suppress(OSError):
        return os.getpgid(process.pid)
    return None


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore Ctrl-C and other requests to end while the block runs."""
    kept = {number: signal.signal(number, signal.SIG_IGN) for number in ENDINGS}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def running(port: int | str) -> Iterator[Server]:
    """Run this history's server on `port`, ready to use, while the block runs."""
    refuse_diversions()
    refuse_exposure()
    upgrade.refuse_environment()
    uri, *_ = address(port), database(), artifacts(), closed_app()  # each checks its setting
    if listens(uri):
        raise UserError(held(uri))
    with history.owning("a start"):
        upgrade.prepare()
    print(f"Starting the MLflow server of {ROOT} at {uri} ...", flush=True)
    first = not database().exists()
    server = Server(port)
    try:
        server.wait_until_ready(first)
        yield server
    finally:
        server.stop()


# The command


def check_server() -> None:
    """Check the running server of this history, or one that is started for the check."""
    if uri := await_server():
        prove(uri)
    else:
        with socket.create_server((setting("MLFLOW_HOST"), 0)) as probe:
            free = probe.getsockname()[1]
        with running(free) as server:
            prove(server.uri)


def prove(uri: str) -> None:
    """Upload and download a test file through the server at `uri`; print where the history is."""
    name = uuid.uuid4().hex
    path = f"mlflow-artifacts/artifacts/.owner/{name}"
    stored = artifacts() / ".owner" / name
    try:
        request(uri, path, "PUT", name.encode())
        if not stored.read_bytes() == request(uri, path) == name.encode():
            raise OSError("its content changed")
        request(uri, path, "DELETE")
    except OSError as error:
        raise UserError(f"A test file could not go through {uri} and back: {error}.") from error
    finally:
        stored.unlink(missing_ok=True)
    print(f"Checked: the server answers at {uri}; a test file was uploaded and downloaded.")
    print(f"Store      {database()}{from_shell(STORES[0])}")
    print(f"Artifacts  {artifacts()}{from_shell(STORES[1])}", flush=True)


def start(
    port: Annotated[
        int | None, typer.Option(min=1024, max=65535, help="Port, instead of that in mlflow.env.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open the UI in the browser.")] = False,
    only_check: Annotated[
        bool, typer.Option("--check", help="Start it on a free port, check it, and stop it.")
    ] = False,
) -> None:
    """Start this project's MLflow server, until Ctrl-C."""
    if only_check:
        check_server()
        return
    uri = await_server()
    if not uri:
        try:
            run_until_stopped(port or config.port("MLFLOW_PORT"), show)
            return
        except UserError:  # another process may have started one meanwhile
            if not (uri := await_server()):
                raise
    print(f"This project's server already runs at {uri}{whose(uri)}")
    if show:
        webbrowser.open(start_page(uri))


def run_until_stopped(port: int | str, show: bool) -> None:
    """Run this history's server until Ctrl-C; raise `UserError` if it ends by itself."""
    with running(port) as server, suppress(KeyboardInterrupt):
        print(f"Ready    {server.uri}\nHistory  {database().parent}{from_shell(*STORES)}")
        print(f"Browser  {(shown := start_page(server.uri))}")
        if setting("MLFLOW_HOST") in LOOPBACK:  # otherwise `refuse_exposure` has printed more
            print("Access   no login: any user of this machine can read and change this history")
        print("Ctrl-C stops it", flush=True)
        if show:
            webbrowser.open(shown)
        while server.process.poll() is None:  # on Windows wait() does not notice Ctrl-C
            time.sleep(0.5)
        raise UserError(f"The server ended by itself{server.last_words()}")
    print("Stopped")


def start_page(uri: str) -> str:
    """Return the address of the project's runs in the UI; of all experiments if there are none."""
    with suppress(OSError, ValueError, LookupError):  # no such experiment before the first run
        path = f"mlflow/experiments/get-by-name?experiment_name={quote(EXPERIMENT)}"
        experiment = json.loads(request(uri, path))["experiment"]
        if experiment["lifecycle_stage"] == "active":
            return f"{uri}/#/experiments/{experiment['experiment_id']}/runs{VIEW}"
    return f"{uri}/#/experiments{VIEW}"


def main() -> None:
    """Run `start-server`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(start)
    run(app, history.full_disk)


if __name__ == "__main__":  # the process that `Server` starts
    become_server()
