"""Requests are answered at once, as by MLflow's own server, and kept."""

import asyncio
import json
import socket
import threading
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import scoring_server
from sklearn.linear_model import LinearRegression
from starlette.responses import Response

from {{ cookiecutter.__package }} import config
from {{ cookiecutter.__package }}.lifecycle import requests, serve

ROWS = pd.DataFrame({"a": [1.5, 2.0, 3.0], "b": [1.0, 0.0, 2.0]})
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"


async def ask(app, path="/invocations", body=None, kind: str | None = JSON, sent=list):
    """Return status, headers and body of an answer of an ASGI app; call `sent` when it begins."""
    given = {"host": "localhost"} | ({"content-type": kind} if kind is not None else {})
    scope = {
        "type": "http",
        "method": "GET" if body is None else "POST",
        "path": path,
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    messages = [{"type": "http.request", "body": body or b"", "more_body": False}]
    parts = []

    async def receive():
        if messages:
            return messages.pop()
        await asyncio.Event().wait()  # the client stays

    async def send(message):
        if not parts:
            sent()
        parts.append(message)

    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in parts[0]["headers"]}
    return parts[0]["status"], headers, b"".join(part.get("body", b"") for part in parts)


@pytest.fixture(scope="module")
def champion(tmp_path_factory):
    """Return a champion of its own, which no registry knows."""
    folder = tmp_path_factory.mktemp("model") / "model"
    fitted = LinearRegression().fit(ROWS, [1.0, 2.0, 3.0])
    signature = mlflow.models.infer_signature(ROWS, np.array([1.0]))
    mlflow.sklearn.save_model(fitted, folder, signature=signature, pip_requirements=[])
    model = mlflow.pyfunc.load_model(str(folder))
    now = serve.Loaded("7", model, model.metadata.get_input_schema())
    return SimpleNamespace(now=now, troubles={}, tell=lambda about, trouble: None)


@pytest.fixture
def log(champion, tmp_path, monkeypatch):
    """Return the log of predictions, and its file."""
    monkeypatch.setattr(requests, "LOG", tmp_path / "serving" / "predictions")
    log = requests.prediction_log(1, print)
    yield log, tmp_path / "serving" / "predictions-1.jsonl"
    for handler in log.handlers[:]:
        log.removeHandler(handler)
        handler.close()


def test_an_answer_does_not_wait_for_the_client_s_acknowledgement():
    """Else the second part of each one comes 40 ms late."""

    async def accepted(listener):
        made = asyncio.get_running_loop().create_future()

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                made.set_result(transport)

        server = await asyncio.get_running_loop().create_server(Protocol, sock=listener)
        async with server:
            with socket.create_connection(listener.getsockname()):
                transport = await made
                connection = transport.get_extra_info("socket")
                option = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                transport.close()
        return option

    assert asyncio.run(accepted(serve.listening(0)))


def test_only_this_machine_reaches_it_and_a_taken_port_is_named():
    with serve.listening(0) as listener:
        host, port = listener.getsockname()
        assert host == "127.0.0.1"
        with pytest.raises(config.UserError, match=f"Port {port} is taken"):
            serve.listening(port)


def test_answers_are_those_of_mlflow_s_own_server(champion):
    """Its scoring app is not documented as an interface: what `serve` uses of it has to stay."""
    split = ROWS.to_dict("split")
    good = [
        ({"dataframe_split": split}, JSON),
        ({"dataframe_records": ROWS.to_dict("records")}, JSON),
        ({"inputs": ROWS.to_dict("list")}, JSON),
        ({"instances": ROWS.to_dict("records")}, JSON + "; charset=utf-8"),
        (ROWS.assign(more="x").to_csv(index=False).encode(), CSV),
        (ROWS.to_parquet(), PARQUET),
    ]
    bad = [
        (b"{", JSON),
        (b"[]", JSON),
        ({"rows": []}, JSON),
        ({"dataframe_split": split | {"columns": ["a"], "data": [[1.0]]}}, JSON),
        ({"dataframe_split": split | {"data": [["x", 1.0]]}}, JSON),
        (b"a,b\n1,\xff", CSV),
        (b"no parquet", PARQUET),
        ({"dataframe_split": split}, JSON + "; charset=latin-1"),
        ({"dataframe_split": split}, JSON + "; version=1"),
        (b"a", "text/plain"),
    ]
    ours, mlflow_s = serve.served(champion, None), scoring_server.init(champion.now.model)

    def both(*words):
        return [asyncio.run(ask(app, *words)) for app in (ours, mlflow_s)]

    statuses = set()
    for content, kind in good + bad:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        (status, headers, told), wanted = both("/invocations", body, kind)
        statuses.add(status)
        assert status == wanted[0] and headers["content-type"] == wanted[1]["content-type"]
        if status == 400:  # there ours may say more
            told, wanted = (json.loads(text)["error_code"] for text in (told, wanted[2]))
            assert told == wanted
        else:
            assert told == wanted[2]
    assert statuses == {200, 400, 415}
    for path in ("/ping", "/version", "/invocations", "/nothing"):
        (status, headers, told), wanted = both(path)
        assert status == wanted[0] and (status != 200 or told == wanted[2])
        assert status != 200 or headers["content-type"] == wanted[1]["content-type"]
    assert asyncio.run(ask(ours, "/docs"))[0] == 404  # MLflow's page loads from the internet
    assert asyncio.run(ask(ours, body=b"{}", kind=None))[0] == 415  # there MLflow's server fails


def test_a_prediction_is_kept_before_it_is_answered(champion, log):
    log, file = log
    app, body = serve.served(champion, log), ROWS.to_csv(index=False).encode()
    seen = []
    _, headers, told = asyncio.run(
        ask(app, body=body, kind=CSV, sent=lambda: seen.append(file.read_text("utf-8")))
    )
    (record,) = map(json.loads, seen)
    assert record["id"] == headers["x-prediction-id"]
    assert record["version"] == headers["x-model-version"] == "7"
    assert record["input"].encode() == body and record["output"].encode() == told

    assert asyncio.run(ask(app, body=b"{}"))[0] == 400
    assert len(file.read_text("utf-8").splitlines()) == 1


def test_a_large_request_holds_up_no_small_one(champion, monkeypatch):
    done = threading.Event()

    def answer(now, kind, body, headers):
        if len(body) > serve.SMALL:
            assert done.wait(60)
        return Response("", 200)

    monkeypatch.setattr(serve, "answer", answer)
    app = serve.served(champion, None)

    async def both():
        large = asyncio.create_task(ask(app, body=b" " * (serve.SMALL + 1)))
        await asyncio.sleep(0.1)  # it is being answered
        small = await asyncio.wait_for(ask(app, body=b" "), 30)
        early = not large.done()
        done.set()
        return early, small[0], (await large)[0]

    assert asyncio.run(both()) == (True, 200, 200)


def test_what_takes_too_long_is_told_and_not_kept(champion, log, monkeypatch):
    log, file = log
    monkeypatch.setenv("MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT", "1")
    late = threading.Event()

    def answer(now, kind, body, headers):
        if body == b"late":
            assert late.wait(60)
        return Response(body, 200, headers)

    monkeypatch.setattr(serve, "answer", answer)
    app = serve.served(champion, log)
    status, _, told = asyncio.run(ask(app, body=b"late"))
    assert status == 504 and told == b"Request processing time exceeded limit"
    late.set()
    assert asyncio.run(ask(app, body=b"next"))[0] == 200  # by the same thread, so after it
    (line,) = file.read_text("utf-8").splitlines()
    assert json.loads(line)["input"] == "next"
