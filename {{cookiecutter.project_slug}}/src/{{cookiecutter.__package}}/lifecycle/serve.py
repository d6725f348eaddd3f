"""Answer over HTTP with the champion, in MLflow's own protocol, and follow its alias.

The predictions are those of MLflow's own server (`mlflow.pyfunc.scoring_server.invocations`, which
is not documented as an interface). Around it: the newest champion, bounded requests, and a log.
"""

import asyncio
import json
import logging
import socket
import tempfile
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple

import mlflow
import pandas as pd
import uvicorn
from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
from mlflow.pyfunc import PyFuncModel, scoring_server
from mlflow.types import Schema
from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from ..config import MODEL, UserError
from .registry import version_of
from .requests import prediction_log, rows_of, text_of
from .rows import fitting, scored

LOOK_SECONDS = 1
RETRY_SECONDS = 60  # before a version is tried again that did not load
LARGEST = 32 << 20  # bytes of a request
SMALL = 1 << 18  # bytes of a request that is answered quickly
# Threads for small requests. More take turns, which costs a quarter of the answers a second; raise
# it for a model that computes for long outside Python. Larger requests get threads of their own.
THREADS = 1


class Loaded(NamedTuple):
    """A version of the model, and the columns that it takes."""

    version: str
    model: PyFuncModel
    schema: Schema


class Champion:
    """The version that answers now; it follows the alias, and keeps what it has in trouble."""

    def __init__(self) -> None:
        if not (version := version_of("champion")):
            raise UserError("There is no champion to serve: promote a version first.")
        self.now = load(version.version)
        self.troubles: dict[str, str] = {}

    def follow(self) -> None:
        """Load what the alias names, and let it answer once it does; for ever."""
        tried: dict[str, float] = {}  # when, those versions that did not load
        while True:
            time.sleep(LOOK_SECONDS)
            try:
                version = version_of("champion")
                if version and version.version != self.now.version:
                    last = tried.get(version.version, -RETRY_SECONDS)
                    if (now := time.monotonic()) - last < RETRY_SECONDS:
                        continue
                    tried[version.version] = now
                    self.now = load(version.version)
                    del tried[version.version]
                    print(f"Serving  version {version.version}", flush=True)
                self.tell("alias", "")
            except Exception as error:  # whatever it is, the version that answers goes on
                self.tell("alias", f"version {self.now.version} stays: {str(error)[:300]}")

    def tell(self, about: str, trouble: str) -> None:
        """Keep what is wrong for `/health`, and say it once."""
        if trouble and trouble != self.troubles.get(about):
            print(f"Trouble  {trouble}", flush=True)
        self.troubles[about] = trouble


def load(version: str) -> Loaded:
    """Return a version that has answered its own example."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        model = mlflow.pyfunc.load_model(f"models:/{MODEL}/{version}", dst_path=folder)
        model.predict(model.input_example)
    return Loaded(version, model, model.metadata.get_input_schema())


def served(champion: Champion, log: logging.Logger | None) -> ASGIApp:
    """Return the app that answers each request with the champion of now."""
    small = ThreadPoolExecutor(THREADS)
    timeout = MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get()

    async def ping(request: Request) -> Response:
        return Response("\n", 200, identity(champion.now), "application/json")

    async def version(request: Request) -> Response:
        return Response(mlflow.__version__, 200, identity(champion.now), "application/json")

    async def health(request: Request) -> Response:
        now, trouble = champion.now, "; ".join(filter(None, champion.troubles.values()))
        return JSONResponse({"version": now.version, "trouble": trouble}, 200, identity(now))

    async def invocations(request: Request) -> Response:
        body = await bounded(request)
        now, until = champion.now, time.monotonic() + timeout
        headers, kind = identity(now), request.headers.get("content-type", "")
        if body is None:
            what = f"A request is limited to {LARGEST >> 20} MB: send fewer rows at once."
            return JSONResponse({"error_code": "BAD_REQUEST", "message": what}, 413, headers)

        def work() -> Response:
            response = answer(now, kind, body, headers)
            if log and response.status_code == 200 and time.monotonic() < until:
                champion.tell("log", "")
                log.info(record(now, kind, body, response))
            return response

        threads = small if len(body) <= SMALL else None
        try:
            job = asyncio.get_running_loop().run_in_executor(threads, work)
            return await asyncio.wait_for(job, timeout)
        except TimeoutError:
            what = "Request processing time exceeded limit"
            return Response(what, 504, headers, "application/json")

    app = Starlette()
    for endpoint in (ping, health, version):
        app.add_route(f"/{endpoint.__name__}", endpoint)
    app.add_route("/invocations", invocations, methods=["POST"])
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])
    return app


def identity(now: Loaded) -> dict[str, str]:
    """Return the headers that name an answer: the version that gave it, and an id of its own."""
    return {"x-model-version": now.version, "x-prediction-id": uuid.uuid4().hex}


def answer(now: Loaded, kind: str, body: bytes, headers: dict[str, str]) -> Response:
    """Return the answer of a version to a request of the content type `kind`."""
    try:
        told = scoring_server.invocations(body, kind, now.model, now.schema)
    except mlflow.MlflowException as error:
        status = error.get_http_status_code()
        if status == 400 and (message := explanation(now.model, kind, body)):
            content = {"error_code": error.error_code, "message": message}
            return JSONResponse(content, status, headers)
        return Response(error.serialize_as_json(), status, headers, "application/json")
    return Response(told.response, told.status, headers, told.mimetype)


def record(now: Loaded, kind: str, body: bytes, response: Response) -> str:
    """Return the log's line about an answered request."""
    found = {
        "id": response.headers["x-prediction-id"],
        "time": datetime.now(UTC).isoformat(),
        "version": now.version,
        "run_id": now.model.metadata.run_id,
        "type": kind,
        "input": text_of(kind, body),
        "output": bytes(response.body).decode(),
    }
    return json.dumps(found)


async def bounded(request: Request) -> bytes | None:
    """Return the body of a request; None when it is larger than `LARGEST`."""
    body, size = bytearray(), 0
    async for part in request.stream():  # to its end, else the client sees no answer
        size += len(part)
        body += part if size <= LARGEST else b""
    return bytes(body) if size <= LARGEST else None


def explanation(model: PyFuncModel, kind: str, body: bytes) -> str | None:
    """Return what is wrong with a request, naming the column; None if it is none of them."""
    with suppress(Exception):  # then MLflow's own message stays
        rows = pd.DataFrame(rows_of(kind, text_of(kind, body)))
        try:
            X = fitting(rows, model.metadata.signature.inputs, "The request")
            scored(model.get_raw_model(), X)
        except UserError as error:
            return str(error)
    return None


def listening(port: int) -> socket.socket:
    """Return a socket that listens at `port`, which only this machine reaches.

    Raises `UserError` when the port is not free.
    """
    try:
        found = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UserError(f"Port {port} is taken, or closed to you: use another --port.") from error
    # asyncio turns TCP_NODELAY on only where the socket names its protocol, which `create_server`
    # does not do; without it each answer comes 40 ms late.
    return socket.socket(found.family, found.type, socket.IPPROTO_TCP, found.detach())


def serve(port: int, keep: bool) -> None:
    """Serve the champion at `port` of this machine until Ctrl-C; `keep` a log of what is served."""
    with listening(port) as listener:
        champion = Champion()
        threading.Thread(target=champion.follow, daemon=True).start()
        app = served(
            champion, prediction_log(port, partial(champion.tell, "log")) if keep else None
        )
        uri = f"http://127.0.0.1:{port}/invocations"
        print(f"Serving  version {champion.now.version} at {uri}", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
