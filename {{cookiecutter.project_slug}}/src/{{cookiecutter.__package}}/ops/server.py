"""The MLflow server of this project: start it, wait until it is ready, stop it.

It is plain `mlflow --env-file mlflow.env server` with the project's root as working directory, so
that a path in the settings means the same in every project folder and for every caller.
"""

import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress

import psutil

from .. import config
from ..config import ROOT, SETTINGS, UserError, from_shell, setting
from . import history, logins, shared, upgrade
from .access import accepted, refuse_exposure
from .addresses import address, listens
from .app import REFUSED, closed_app, is_closed, run_in_this_process
from .history import artifacts, database
from .ownership import START_SECONDS, held, owns, refuse_diversions, waiting
from .shell import ENDINGS

STOP_SECONDS = 20
MLFLOW = ["--env-file", str(SETTINGS), "server"]


class Server:
    """A server process of this history at `uri`, with the last lines that it printed."""

    def __init__(self, port: int | str, settings: dict[str, str]) -> None:
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
            | accepted(port)
            | settings,
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
                if sentence := next((line for line in self.tail if line.startswith(REFUSED)), ""):
                    raise UserError(sentence.removeprefix(REFUSED).strip())
                shell = from_shell(*sorted(config.FROM_SHELL))
                raise UserError(f"The server ended before it was ready{shell}{self.last_words()}")
            if self._serves() and listens(self.uri) and (shared.is_shared() or owns(self.uri)):
                if not is_closed(self.uri):
                    raise UserError(f"{self.uri} serves MLflow's assistant: reinstall the project.")
                self.members, self.ready = self._family(), True
                if not shared.is_shared():
                    history.mark()
                return
        raise UserError(f"The server was not ready within {START_SECONDS} s{self.last_words()}")

    def _serves(self) -> bool:
        """Return whether this server has the lock of the history; raise `UserError` if another has.

        A database that is shared has no lock: it takes several servers.
        """
        if shared.is_shared():
            return True
        if not (owner := re.search(r"http.*process (\d+)", history.owner() or "")):
            return False
        if int(owner[1]) not in [member.pid for member in self._family()]:
            raise UserError(f"{database()} is now in use by {owner[0]}): try again.")
        return True

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
        with nullcontext() if shared.is_shared() else history.owning(address()):
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
    store, uri, _ = place_of_store(), address(port), closed_app()  # each checks its setting
    if listens(uri):
        raise UserError(held(uri))
    with logins.configured(store) as settings, ExitStack() as stack:
        with prepared() as first:
            print(f"Starting the MLflow server of {ROOT} at {uri} ...", flush=True)
            server = Server(port, settings | {shared.STORE: store})
            stack.callback(server.stop)
            server.wait_until_ready(first)
        yield server


def place_of_store() -> str:
    """Return the address of the database for SQLAlchemy; raise `UserError` if it is not one."""
    if shared.is_shared():
        shared.check_address(setting(shared.STORE))
        return shared.with_driver(setting(shared.STORE))
    artifacts()
    return f"sqlite:///{database()}" if logins.wanted() else setting(shared.STORE)


@contextmanager
def prepared() -> Iterator[bool]:
    """Make or upgrade the tables of the history; yield whether the server will make them.

    On a database that is shared, one server starts at a time: logins have tables of their own.
    """
    if shared.is_shared():
        with shared.upgrading(setting(shared.STORE)):
            yield False
        return
    with history.owning("a start"):
        upgrade.prepare()
    yield not database().exists()


if __name__ == "__main__":  # the process that `Server` starts
    become_server()
