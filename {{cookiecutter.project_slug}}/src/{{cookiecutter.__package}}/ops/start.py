"""The command `start-server`: run the server in the foreground, or check that it starts."""

import json
import socket
import time
import uuid
import webbrowser
from contextlib import suppress
from typing import Annotated
from urllib.parse import quote

import typer

from .. import config
from ..config import EXPERIMENT, MODEL, VIEW, UserError, from_shell, setting
from . import history, logins, shared
from .addresses import request
from .history import artifacts, database
from .ownership import STORES, await_server, whose
from .server import running
from .shell import command, run


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
    if "://" not in setting(shared.DESTINATION):  # else the server itself has done so
        prove_files(uri)
    print(f"Checked: the server answers at {uri}; a test file was uploaded and downloaded.")
    for what, name, place in zip(("Store", "Artifacts"), STORES, places(), strict=True):
        print(f"{what:<10} {place}{from_shell(name)}", flush=True)


def places() -> tuple[str, str]:
    """Return where database and artifacts are."""
    store, place = setting(shared.STORE), setting(shared.DESTINATION)
    return (
        shared.shown(store) if shared.is_shared() else str(database()),
        place if "://" in place else str(artifacts()),
    )


def prove_files(uri: str) -> None:
    """Raise `UserError` if a file that goes through the server at `uri` is not in the history."""
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
    if (place := shared.elsewhere()) and not shared.is_shared():
        raise UserError(
            f"The history of this project is at {place} (MLFLOW_TRACKING_URI), so there is nothing "
            f"to start: {command(MODEL)} doctor says whether it answers."
        )
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
        where = shared.elsewhere() or database().parent
        print(f"Ready    {server.uri}\nHistory  {where}{from_shell(*STORES)}")
        print(f"Browser  {(shown := start_page(server.uri))}")
        print(f"Access   {who_may()}")
        print("Ctrl-C stops it", flush=True)
        if show:
            webbrowser.open(shown)
        while server.process.poll() is None:  # on Windows wait() does not notice Ctrl-C
            time.sleep(0.5)
        raise UserError(f"The server ended by itself{server.last_words()}")
    print("Stopped")


def who_may() -> str:
    """Return who can read and change this history through its server."""
    if logins.wanted():
        return "with a login; the admin makes users at the page /signup"
    return "no login: any user of this machine can read and change this history"


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
    app.command(epilog="Example: start-server --open")(start)
    run(app, history.full_disk)
