"""MLflow's app as this project serves it: the routes of a history, and its own artifacts only.

Whoever reaches the port of MLflow's server also reaches an assistant that runs commands, a gateway,
webhooks and jobs, and can name any folder of this machine as the place of an artifact. Nothing of
that is needed here. `start-server` runs MLflow with the app that `create_app` returns.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import threading
import urllib.request
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

from ..config import UserError
from . import shared
from .shell import importing

if TYPE_CHECKING:
    from mlflow.store.artifact.artifact_repo import ArtifactRepository
    from starlette.types import ASGIApp, Receive, Scope, Send

# What is served below /api/VERSION/mlflow/ and /ajax-api/VERSION/mlflow/. What a later MLflow adds
# is closed until its name is written here.
FAMILIES = {
    "artifacts",
    "datasets",
    "experiments",
    "get-online-trace-details",
    "get-trace-artifact",
    "label-schemas",
    "logged-models",
    "metrics",
    "model-versions",
    "registered-models",
    "review-queues",
    "roles",
    "runs",
    "server-info",
    "traces",
    "ui-telemetry",
    "unified-traces",
    "upload-artifact",
    "users",
}
# And outside of them: the pages with their files, OpenTelemetry's traces, Prometheus, logins.
PAGES = {
    "get-artifact",
    "graphql",
    "health",
    "metrics",
    "model-versions",
    "signup",
    "static-files",
    "v1",
    "version",
}
# What the pages of runs and traces ask for all the same, and show an error where it is refused.
NOTHING: dict[str, dict[str, list]] = {
    "/ajax-api/2.0/mlflow/gateway-proxy": {"endpoints": []},
    "/ajax-api/3.0/mlflow/scorers/list": {"scorers": []},
}
ASSISTANT = "/ajax-api/3.0/mlflow/assistant/config"
REFUSED = "start-server: "  # begins the sentence of a server that does not start
STARTUP_FAILURE = 3  # uvicorn's own: it then starts no further worker
# What MLflow's server reads at its import, too early here: it needs a process of its own.
APART = ("MLFLOW_STATIC_PREFIX", "MLFLOW_EXPOSE_PROMETHEUS")


def offered(path: str) -> bool:
    """Return whether this project's server answers at a decoded `path`.

    Only the spelling that MLflow's routers know is let through; any other one is no name in the
    lists, so it is closed.
    """
    if not path.startswith("/"):
        return False
    match path.split("/")[1:]:
        case ["api" | "ajax-api", _, "mlflow", "runs", "create-promptlab-run", *_]:
            return False
        case ["api" | "ajax-api", _, "mlflow", family, *_]:
            return family in FAMILIES
        case ["api" | "ajax-api", _, "mlflow-artifacts", *_] | [""]:
            return True
        case names:
            return names[0] in PAGES


class Closed:
    """An ASGI app that answers 403, with a sentence, wherever this project has nothing to offer."""

    def __init__(self, app: "ASGIApp") -> None:
        self.app = app

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        from starlette.responses import JSONResponse  # late: start-server itself never answers

        if scope["type"] == "lifespan" or (scope["type"] == "http" and offered(scope["path"])):
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["method"] == "GET" and scope["path"] in NOTHING:
            await JSONResponse(NOTHING[scope["path"]])(scope, receive, send)
        else:
            message = f"This project's server does not offer {scope['path']}: see {__name__}."
            content = {"error_code": "PERMISSION_DENIED", "message": message}  # MLflow's own form
            await JSONResponse(content, 403)(scope, receive, send)


def create_app() -> "ASGIApp":
    """Return MLflow's app, closed; uvicorn calls this once in each worker.

    With PROJECT_AUTH=basic-auth it is MLflow's app with logins, or another one of its plugins.
    Ends the process, with a sentence, where the app cannot be closed.
    """
    if supervisor := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=[supervisor], daemon=True).start()
    try:
        keep_artifacts_below(destination := os.environ["MLFLOW_ARTIFACTS_DESTINATION"])
        if "://" in destination:
            shared.probe(destination)
        if plugin := os.environ.get("PROJECT_AUTH"):
            return Closed(entry_points(group="mlflow.app")[plugin].load()())
        from mlflow.server.fastapi_app import app

        return Closed(app)
    except UserError as error:
        print(f"{REFUSED}{error}", file=sys.stderr)
        raise SystemExit(STARTUP_FAILURE) from None
    except (AttributeError, ImportError, LookupError) as error:
        print(f"MLflow {version('mlflow')} cannot be closed to others: {error!r}.", file=sys.stderr)
        raise SystemExit(STARTUP_FAILURE) from None


def _end_with(supervisor: Any) -> None:
    """End this worker when its supervisor is gone: else it goes on, and nobody knows of it."""
    supervisor.join()
    signal.raise_signal(signal.SIGTERM)


def keep_artifacts_below(destination: str) -> None:
    """Let this process open artifacts below `destination` only.

    MLflow's server opens whatever folder an experiment or a trace names, with the rights of whoever
    started it: by a link in a folder of their own, other users read and write any file of theirs.
    Raises `LookupError` when MLflow opens another folder all the same.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact import artifact_repository_registry as registry

    known: dict[str, Any] = registry.get_registered_artifact_repositories()
    for scheme, make in list(known.items()):
        known[scheme] = partial(_open, make, destination)
    try:
        registry.get_artifact_repository(Path.cwd().anchor)
    except MlflowException:
        return
    raise LookupError("it opens artifacts in any folder")


def _open(make: Any, destination: str, uri: str, *args: Any, **kwargs: Any) -> "ArtifactRepository":
    """Return what `make` makes of the place of artifacts at `uri`, if it is the server's own."""
    from mlflow.exceptions import MlflowException

    if not below(uri, destination):
        raise MlflowException.invalid_parameter_value(
            f"This project's server keeps artifacts in {destination} only, not at {uri}: leave the "
            "artifact location of experiments and traces to the server."
        )
    return make(uri, *args, **kwargs)


def below(uri: str, destination: str) -> bool:
    """Return whether the place `uri` is `destination` or in it, wherever links lead."""
    from mlflow.utils.file_utils import local_file_uri_to_path
    from mlflow.utils.uri import is_local_uri

    if is_local_uri(destination) and is_local_uri(uri):
        place, root = (Path(local_file_uri_to_path(one)).resolve() for one in (uri, destination))
        return place.is_relative_to(root)
    inside = f"{uri}/".startswith(f"{destination.rstrip('/')}/")
    return inside and ".." not in uri.split("/")


def closed_app() -> str:
    """Return the name of `create_app` among MLflow's apps.

    Raises `UserError` if the installed project has no such entry point.
    """
    wanted = f"{__name__}:{create_app.__name__}"
    for app in entry_points(group="mlflow.app"):
        if app.value == wanted:
            return app.name
    raise UserError(
        f"{sys.prefix} does not know this project's server app, which keeps other users of this "
        "machine from running commands: install the project again, as its README says."
    )


def is_closed(uri: str) -> bool:
    """Return whether the server at `uri` is known not to offer MLflow's assistant."""
    try:
        with urllib.request.urlopen(uri + ASSISTANT, timeout=30):
            return False
    except HTTPError as error:
        return error.code == 403


def run_in_this_process() -> None:
    """Make MLflow's command line run uvicorn here: a second process would import all of it again.

    `mlflow.server._exec_cmd` is private: without it MLflow starts that process, with the same app.
    """
    from mlflow.environment_variables import MLFLOW_SERVER_ENABLE_JOB_EXECUTION

    import_module("uvicorn")  # first: only where MLflow sees a server does it check hosts
    with importing():
        server: Any = import_module("mlflow.server")
        import_module("mlflow.cli")
    if MLFLOW_SERVER_ENABLE_JOB_EXECUTION.get() or any(map(os.environ.get, APART)):
        return
    if hasattr(server, "_exec_cmd"):
        server._exec_cmd = partial(_here, server._exec_cmd)


def _here(elsewhere: Any, command: list[str], *, extra_env: dict[str, str], **others: Any) -> Any:
    """Run `python -m uvicorn ...` in this process; any other command in one of its own."""
    if command[1:3] != ["-m", "uvicorn"]:
        return elsewhere(command, extra_env=extra_env, **others)
    os.environ |= extra_env
    sys.argv = command[2:]
    runpy.run_module("uvicorn", run_name="__main__", alter_sys=True)
