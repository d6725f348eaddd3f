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
from .app import app_name, is_closed, run_in_this_process
from .history import artifacts, database
from .ownership import (
    LOOPBACK,
    START_SECONDS,
    STORES,
    address,
    found,
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
            [sys.executable, "-m", __name__, *MLFLOW, "--app-name", closed_app()],
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
        """Return when the API answers for this history; raise `UserError` when it cannot.

        A `first` start makes the database, and Python compiles what it imports.
        """
        for _ in waiting("(the first start is the longest)" if first else "until it answers"):
            if self.process.poll() is not None:
                shell = from_shell(*sorted(config.FROM_SHELL))
                raise UserError(f"The server ended before it was ready{shell}{self.last_words()}")
            if not (owner := re.search(r"http.*process (\d+)", history.owner() or "")):
                continue
            if int(owner[1]) not in [member.pid for member in self._family()]:
                raise UserError(f"{database()} was just taken by {owner[0]}).")
            if listens(self.uri) and owns(self.uri):
                if not is_closed(self.uri):
                    raise UserError(f"{self.uri} offers MLflow's assistant, a shell for anyone here.")
                self.members, self.ready = self._family(), True
                history.mark()
                return
        raise UserError(f"No server within {START_SECONDS} s{self.last_words()}")

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


def closed_app() -> str:
    """Return the name of the app that MLflow's server runs; raise `UserError` if it has none."""
    if found := app_name():
        return found
    raise UserError(
        f"{sys.prefix} does not know this project's server app, which keeps other users of this "
        "machine from running commands: install the project again, as its README says."
    )


def become_server() -> None:
    """Turn this process into MLflow's server, which owns the history and ends with its parent."""

    def end_with_parent() -> None:
        while os.read(0, 1):  # its other end is the parent's, and never written to
            pass
        signal.raise_signal(signal.SIGTERM)  # what is being answered comes to its end
        time.sleep(STOP_SECONDS)
        end(lambda: psutil.Process().children(recursive=True))
        os._exit(1)

    os.umask(0o077)  # the history is its owner's
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn ends, and leaves the rest to us
    try:
        with history.owning(address()):
            threading.Thread(target=end_with_parent, daemon=True).start()
            run_in_this_process()
            runpy.run_module("mlflow", run_name="__main__", alter_sys=True)
    except UserError as error:
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
    upgrade.refuse_environment()
    uri, *_ = address(port), database(), artifacts(), closed_app()  # each refuses what cannot work
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
        raise UserError(f"An artifact does not go in and out at {uri}: {error}.") from error
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
        except UserError:  # another one may have been a moment faster
            if not (uri := found()):
                raise
    print(f"This project's server already runs at {uri}{whose(uri)}")
    if show:
        webbrowser.open(page(uri))


def serve(port: int | str, show: bool) -> None:
    """Keep this history's server until Ctrl-C; raise `UserError` when it ends by itself."""
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
        raise UserError(f"The server ended by itself{server.last_words()}")
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
