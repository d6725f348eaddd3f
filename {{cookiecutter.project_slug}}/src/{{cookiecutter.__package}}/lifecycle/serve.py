"""Answer over HTTP with the champion, in MLflow's own protocol, and follow its alias.

The forms of a request and the answers are those of `mlflow models serve`. Around them: the newest
champion, bounded requests, probabilities on request, a log, and `/`, which says how to ask.
"""

import asyncio
import json
import logging
import shlex
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial

import mlflow
import pandas as pd
import uvicorn
from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
from starlette.applications import Starlette
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from ..config import MODEL, UserError
from .formats import JSON, UnknownType, answer_of, rows_in
from .loaded import Loaded, MissingCode, load
from .registry import version_of
from .requests import prediction_log, text_of
from .rows import fitting, refusing

PROBABILITIES = "probabilities"  # the query parameter: /invocations?probabilities=true
LOOK_SECONDS = 1
RETRY_SECONDS = 60  # before a version is tried again that did not load
LARGEST = 32 << 20  # bytes of a request
SMALL = 1 << 18  # bytes of a request that is answered quickly
# Threads for small requests. More take turns, which costs a quarter of the answers a second; raise
# it for a model that computes for long outside Python. Larger requests get threads of their own.
THREADS = 1


class Champion:
    """The version that answers now; it follows the alias, and keeps what it has in trouble."""

    def __init__(self) -> None:
        if not (version := version_of("champion")):
            raise UserError("There is no champion to serve: promote a version first.")
        self.now = proven(version)
        self.troubles: dict[str, str] = {}

    def follow(self) -> None:
        """Load what the alias names, and let it answer once it does; for ever."""
        tried: dict[tuple[str, str], float] = {}  # when, those versions that did not load
        while True:
            time.sleep(LOOK_SECONDS)
            try:
                self.look(tried)
            except MissingCode as error:
                what = f"{error.what}: restart `serve`, it runs the code of its start"
                self.tell("alias", f"{what}; version {self.now.version} stays")
            except Exception as error:  # whatever it is, the version that answers goes on
                self.tell("alias", f"version {self.now.version} stays: {str(error)[:300]}")

    def look(self, tried: dict[tuple[str, str], float]) -> None:
        """Load the champion if it is another one than that which answers."""
        version = version_of("champion")
        if not version:
            self.tell("alias", f"there is no champion any more; {self.state()}")
            return
        # A model that was deleted and made again counts its versions from 1 again.
        found = version.version, version.run_id
        if found != (self.now.version, self.now.run_id):
            last = tried.get(found, -RETRY_SECONDS)
            if (now := time.monotonic()) - last < RETRY_SECONDS:
                return
            tried[found] = now
            self.now = proven(version)
            del tried[found]
            print(f"Serving  version {version.version}", flush=True)
        self.tell("alias", "")

    def state(self) -> str:
        """Return whether the version that answers still is in the registry, as text."""
        number, there = self.now.version, False
        try:
            version = mlflow.MlflowClient().get_model_version(MODEL, number)
            there = version.run_id == self.now.run_id
        except mlflow.MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        if there:
            return f"version {number} stays: promote a version"
        return f"version {number} answers, but it was deleted: promote another one"

    def tell(self, about: str, trouble: str) -> None:
        """Keep what is wrong for `/health`, and say it once."""
        if trouble and trouble != self.troubles.get(about):
            print(f"Trouble  {trouble}", flush=True)
        self.troubles[about] = trouble


def proven(version) -> Loaded:
    """Return a version that has answered its own example.

    Raises `UserError` if it cannot be loaded, has no example, or does not answer it.
    """
    found = load(version)
    if found.example is None:
        raise UserError(
            f"Version {found.version} has no input example to try it with: log it with one, or "
            "train one with this project's train, and promote it."
        )
    with refusing(found.example):
        found.model.predict(found.example)
    return found


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
        return told({"version": now.version, "trouble": trouble}, 200, identity(now))

    async def root(request: Request) -> Response:
        now = champion.now
        text = f"Version {now.version} answers at /invocations:\n\n{question(now, request.url)}\n"
        return PlainTextResponse(text, 200, identity(now))

    async def invocations(request: Request) -> Response:
        body = await bounded(request)
        now = champion.now
        headers, kind = identity(now), request.headers.get("content-type", "")
        if body is None:
            what = f"A request is limited to {LARGEST >> 20} MB: send fewer rows at once."
            return told({"error_code": "BAD_REQUEST", "message": what}, 413, headers)
        each = request.query_params.get(PROBABILITIES, "false")

        def work() -> tuple[Response, str | None]:
            response = answer(now, kind, body, headers, each)
            kept = log and response.status_code == 200
            return response, record(now, kind, body, response) if kept else None

        threads = small if len(body) <= SMALL else None
        try:
            job = asyncio.get_running_loop().run_in_executor(threads, work)
            response, line = await asyncio.wait_for(job, timeout)
        except TimeoutError:
            what = "Request processing time exceeded limit"
            return Response(what, 504, headers, "application/json")
        if log and line:  # only now: what was answered too late is not kept
            champion.tell("log", "")
            log.info(line)
        return response

    app = Starlette()
    app.add_route("/", root)
    for endpoint in (ping, health, version):
        app.add_route(f"/{endpoint.__name__}", endpoint)
    app.add_route("/invocations", invocations, methods=["POST"])
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["localhost", "127.0.0.1"])
    return app


def identity(now: Loaded) -> dict[str, str]:
    """Return the headers that name an answer: the version that gave it, and an id of its own."""
    return {"x-model-version": now.version, "x-prediction-id": uuid.uuid4().hex}


def told(content: dict, status: int, headers: dict[str, str]) -> Response:
    """Return an answer in JSON; ASCII, so that no text of a request can break it."""
    return Response(json.dumps(content), status, headers, JSON)


def answer(now: Loaded, kind: str, body: bytes, headers: dict[str, str], each: str) -> Response:
    """Return the answer of a version to a request of the content type `kind`.

    `each` ("true" or "false"): whether it has the probability of each class beside predictions.
    """
    try:
        if each not in ("true", "false"):
            raise UserError(f"{PROBABILITIES} is true or false, not {each!r}.")
        X = fitting(rows_in(kind, body, now.inputs.input_names()), now.inputs, "The request")
        if each == "true" and now.classes is None:
            raise UserError("The model has no probabilities: ask without them.")
        with refusing(X):
            prediction = now.model.predict(X)
            shares = now.model.predict_proba(X) if each == "true" else None
        return Response(answer_of(prediction, shares, now.classes), 200, headers, JSON)
    except UnknownType as error:
        return Response(str(error), 415, headers, "text/plain")
    except UserError as error:
        return told({"error_code": "BAD_REQUEST", "message": str(error)}, 400, headers)


def question(now: Loaded, url: object) -> str:
    """Return a command that asks for the first row of the example of a version."""
    assert now.example is not None  # of a proven version
    (row,) = now.example.head(1).to_dict("records")
    row = {name: None if pd.isna(value) else value for name, value in row.items()}
    body = json.dumps({"dataframe_records": [row]}, default=str)
    place = f"{str(url).rstrip('/')}/invocations"
    return f"curl -H 'Content-Type: {JSON}' -d {shlex.quote(body)} {place}"


def record(now: Loaded, kind: str, body: bytes, response: Response) -> str:
    """Return the log's line about an answered request."""
    found = {
        "id": response.headers["x-prediction-id"],
        "time": datetime.now(UTC).isoformat(timespec="microseconds"),
        "version": now.version,
        "run_id": now.run_id,
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
        print(f"Ask      {question(champion.now, f'http://127.0.0.1:{port}')}", flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
