"""Requests are answered at once, as by MLflow's own server, and kept."""

import asyncio
import dataclasses
import json
import shlex
import socket
import threading
from types import SimpleNamespace

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.pyfunc import scoring_server
from sklearn.linear_model import LinearRegression, LogisticRegression
from starlette.responses import Response

from {{ cookiecutter.__package }} import config
from {{ cookiecutter.__package }}.lifecycle import requests, rows, serve
from {{ cookiecutter.__package }}.lifecycle.loaded import Loaded, MissingCode

ROWS = pd.DataFrame({"a": [1.5, 2.0, 3.0], "b": [1.0, 0.0, 2.0]})
JSON, CSV, PARQUET = "application/json", "text/csv", "application/vnd.apache.parquet"


async def ask(app, path="/invocations", body=None, kind: str | None = JSON, sent=list, query=b""):
    """Return status, headers and body of an answer of an ASGI app; call `sent` when it begins."""
    given = {"host": "localhost"} | ({"content-type": kind} if kind is not None else {})
    scope = {
        "type": "http",
        "method": "GET" if body is None else "POST",
        "path": path,
        "query_string": query,
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
def saved(tmp_path_factory):
    """Return a model of its own as MLflow loads it; no registry knows it."""
    folder = tmp_path_factory.mktemp("model") / "model"
    fitted = LogisticRegression().fit(ROWS, ["no", "yes", "yes"])
    signature = mlflow.models.infer_signature(ROWS, np.array(["no"]))
    mlflow.sklearn.save_model(fitted, folder, signature=signature, pip_requirements=[])
    return mlflow.pyfunc.load_model(str(folder))


@pytest.fixture(scope="module")
def champion(saved):
    """Return a champion, which no registry knows."""
    inputs = rows.inputs_of(saved.metadata, "It")
    now = Loaded("7", "a" * 32, saved.get_raw_model(), inputs, ROWS)
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


def test_answers_are_those_of_mlflow_s_own_server(champion, saved):
    split = ROWS.to_dict("split")
    good = [
        ({"dataframe_split": split}, JSON),
        ({"dataframe_records": ROWS.to_dict("records")}, JSON),
        ({"inputs": ROWS.to_dict("list")}, JSON),
        ({"inputs": {"a": 1, "b": 2.5}}, JSON),
        ({"instances": ROWS.to_dict("records")}, JSON + "; charset=utf-8"),
        ({"instances": ROWS.to_dict("list")}, JSON),
        (ROWS.assign(more="x").to_csv(index=False).encode(), CSV),
        (ROWS.to_parquet(), PARQUET),
    ]
    bad = [
        (b"{", JSON),
        (b"[]", JSON),
        ({"rows": []}, JSON),
        ({"inputs": [1, 2]}, JSON),
        ({"dataframe_records": [{"a": 1, "b": None}]}, JSON),  # the model takes no gaps
        ({"dataframe_split": split | {"columns": ["a"], "data": [[1.0]]}}, JSON),
        ({"dataframe_split": split | {"data": [["x", 1.0]]}}, JSON),
        (b"a,b\n1,\xff", CSV),
        (b"no parquet", PARQUET),
        ({"dataframe_split": split}, JSON + "; charset=latin-1"),
        ({"dataframe_split": split}, JSON + "; version=1"),
        (b"a", "text/plain"),
    ]
    ours, mlflow_s = serve.served(champion, None), scoring_server.init(saved)

    def both(*words):
        return [asyncio.run(ask(app, *words)) for app in (ours, mlflow_s)]

    statuses = set()
    for content, kind in good + bad:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        (status, headers, told), wanted = both("/invocations", body, kind)
        statuses.add(status)
        assert status == wanted[0] and headers["content-type"] == wanted[1]["content-type"], content
        assert status != 200 or told == wanted[2]
    assert statuses == {200, 400, 415}
    for path in ("/ping", "/version", "/invocations", "/nothing"):
        (status, headers, told), wanted = both(path)
        assert status == wanted[0] and (status != 200 or told == wanted[2])
        assert status != 200 or headers["content-type"] == wanted[1]["content-type"]
    assert asyncio.run(ask(ours, "/docs"))[0] == 404  # MLflow's page loads from the internet
    assert asyncio.run(ask(ours, body=b"{}", kind=None))[0] == 415  # there MLflow's server fails


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"{", "is not valid JSON"),
        (b'{"inputs": ' + b"[" * 100_000, "is not valid JSON"),
        (json.dumps({"inputs": {"a": [1], "b": [2]}}).encode("utf-16"), "is not valid JSON"),
        ({}, "exactly one of dataframe_split, "),
        ({"inputs": {}, "instances": {}}, "exactly one of "),
        ({"dataframe_split": []}, "must be an object with columns and data"),
        ({"dataframe_split": {"columns": ["a", "b"], "data": [[1]]}}, "row 1 must have 2 values"),
        ({"dataframe_split": {"columns": ["a", "b"], "data": 5}}, "a list of rows"),
        ({"dataframe_split": {"columns": ["a", "b", "a"], "data": [[1, 2, 3]]}}, "several columns"),
        ({"dataframe_records": {"a": 1}}, "must be a list of objects"),
        ({"dataframe_records": []}, "has no rows"),
        ({"instances": [[1, 2]]}, "must be a list of objects"),
        ({"inputs": {"a": [1, 2], "b": [1]}}, "lists of the same length"),
        ({"inputs": {"a": [1, 2], "b": 1}}, "lists of the same length"),
        ({"inputs": {"a": 1, "c": 1}}, "lacks the column b, which the model needs; it has a, c."),
        ({"inputs": [{"a": 1, "b": 1}, {"a": 1}]}, "lacks the column b"),
        ({"inputs": {"a": "big", "b": 1}}, "1 value of a is not a number (row 1: 'big')."),
        ({"inputs": {"a": "\ud800", "b": 1}}, "1 value of a is not a number"),
        ({"inputs": [{"a": [1], "b": {}}] * 2}, "2 values of a are not numbers (rows 1, 2: [1])."),
        ({"inputs": {"a": 1e400, "b": 1}}, "The model refuses row 1: Input X contains infinity"),
        ({"inputs": {"a": None, "b": 1}}, "a is missing in row 1"),
    ],
)
def test_a_request_that_cannot_be_answered_gets_a_sentence(champion, log, content, sentence):
    log, file = log
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    status, headers, told = asyncio.run(ask(serve.served(champion, log), body=body))
    answer = json.loads(told)
    assert status == 400 and answer["error_code"] == "BAD_REQUEST"
    assert sentence in answer["message"] and "\n" not in answer["message"]
    assert {*answer} == {"error_code", "message"} and "Traceback" not in answer["message"]
    assert headers["x-prediction-id"] and file.read_text() == ""


@pytest.mark.parametrize(
    ("body", "kind", "sentence"),
    [
        (b"", CSV, "cannot be read as CSV: No columns"),
        (b"a,b\n1,2\n1,2,3\n", CSV, "cannot be read as CSV: Error tokenizing data"),
        (b"a,b\n", CSV, "has no rows"),
        (b"a;b\n1,5;2\n", CSV, "The request separates its columns by semicolons. Save it with"),
        ("a,b,é\n1,2,3\n".encode("latin-1"), CSV, "The request is not UTF-8. Save it as UTF-8"),
        (b"PAR1", PARQUET, "cannot be read as Parquet: "),
    ],
)
def test_a_file_that_cannot_be_read_gets_a_sentence(champion, body, kind, sentence):
    status, _, told = asyncio.run(ask(serve.served(champion, None), body=body, kind=kind))
    message = json.loads(told)["message"]
    assert status == 400 and sentence in message and "\n" not in message


def test_probabilities_come_on_request(champion, log):
    log, file = log
    app, body = serve.served(champion, log), json.dumps({"inputs": ROWS.to_dict("list")}).encode()

    def answer(query, app=app):
        status, _, told = asyncio.run(ask(app, body=body, query=query))
        return status, json.loads(told)

    status, plain = answer(b"")
    assert status == 200 and {*plain} == {"predictions"}
    assert answer(b"probabilities=false") == (200, plain)
    status, both = answer(b"probabilities=true")
    assert status == 200 and both.pop("predictions") == plain["predictions"]
    shares = champion.now.model.predict_proba(ROWS)
    assert [[row["no"], row["yes"]] for row in both["probabilities"]] == shares.tolist()
    assert "is true or false, not 'maybe'" in answer(b"probabilities=maybe")[1]["message"]
    assert len(file.read_text().splitlines()) == 3

    line = LinearRegression().fit(ROWS, [1.0, 2.0, 3.0])
    other = SimpleNamespace(now=dataclasses.replace(champion.now, model=line))
    status, told = answer(b"probabilities=true", serve.served(other, None))
    assert status == 400 and "has no probabilities" in told["message"]


def test_an_exception_of_the_model_is_one_sentence(champion):
    class Broken:
        def predict(self, X):
            raise KeyError("b")

    app = serve.served(SimpleNamespace(now=dataclasses.replace(champion.now, model=Broken())), None)
    status, _, told = asyncio.run(ask(app, body=b'{"inputs": {"a": 1, "b": 2}}'))
    assert status == 400 and json.loads(told)["message"] == "The model refuses row 1: 'b'"


def test_the_root_says_how_to_ask(champion):
    app = serve.served(champion, None)
    status, _, told = asyncio.run(ask(app, "/"))
    assert status == 200
    words = shlex.split(told.decode().splitlines()[-1])
    assert words[0] == "curl" and words[-1] == "http://localhost/invocations"
    kind, body = (words[words.index(flag) + 1] for flag in ("-H", "-d"))
    status, _, told = asyncio.run(ask(app, body=body.encode(), kind=kind.partition(": ")[2]))
    first = champion.now.model.predict(ROWS.head(1)).tolist()
    assert status == 200 and json.loads(told) == {"predictions": first}


def named(version, run_id):
    return SimpleNamespace(version=version, run_id=run_id)


@pytest.fixture
def following(champion, monkeypatch):
    """Return a champion that follows the alias of a registry of ours."""
    registry = SimpleNamespace(alias=named("7", "a" * 32), versions={"7": named("7", "a" * 32)})

    def get_model_version(name, number):
        if number not in registry.versions:
            raise mlflow.MlflowException("gone", RESOURCE_DOES_NOT_EXIST)
        return registry.versions[number]

    def client():
        return SimpleNamespace(get_model_version=get_model_version)

    def proven(version):
        if version.version == "9":
            raise MissingCode("Version 9", AttributeError("module 'm' has no attribute 'Own'"))
        return dataclasses.replace(champion.now, version=version.version, run_id=version.run_id)

    monkeypatch.setattr(serve, "version_of", lambda alias: registry.alias)
    monkeypatch.setattr(serve, "proven", proven)
    monkeypatch.setattr(serve.mlflow, "MlflowClient", client)
    following = serve.Champion()

    def follow(looks=1):
        """Look at the alias some times."""
        left = [None] * looks

        def sleep(seconds):
            if not left:
                raise SystemExit
            left.pop()

        monkeypatch.setattr(serve.time, "sleep", sleep)
        with pytest.raises(SystemExit):
            following.follow()
        return following.now.version, following.now.run_id, following.troubles["alias"]

    return registry, follow


def test_a_version_that_is_gone_is_told(following):
    registry, follow = following
    assert follow() == ("7", "a" * 32, "")
    registry.alias = None
    assert follow()[2] == "there is no champion any more; version 7 stays: promote a version"
    registry.versions.clear()
    assert "version 7 answers, but it was deleted: promote another one" in follow()[2]
    registry.versions["7"] = named("7", "b" * 32)  # a model made again
    assert "version 7 answers, but it was deleted" in follow()[2]
    registry.alias = registry.versions["7"]
    assert follow() == ("7", "b" * 32, "")


def test_new_code_needs_a_restart(following):
    registry, follow = following
    registry.alias = named("9", "c" * 32)
    version, _, trouble = follow(3)
    assert version == "7" and "'Own'): restart `serve`, it runs the code of its start" in trouble


def test_a_version_that_does_not_load_is_not_tried_at_each_look(following, monkeypatch):
    registry, follow = following
    tried, proven = [], serve.proven

    def failing(version):
        tried.append(version.version)
        if version.version == "8":
            raise OSError("no such file")
        return proven(version)

    monkeypatch.setattr(serve, "proven", failing)
    registry.alias = named("8", "c" * 32)
    assert follow(40)[2] == "version 7 stays: no such file" and tried == ["8"]
    registry.alias = named("10", "d" * 32)
    assert follow() == ("10", "d" * 32, "") and tried == ["8", "10"]


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
    assert record["run_id"] == "a" * 32
    assert record["input"].encode() == body and record["output"].encode() == told

    assert asyncio.run(ask(app, body=b"{}"))[0] == 400
    assert len(file.read_text("utf-8").splitlines()) == 1


def test_a_large_request_holds_up_no_small_one(champion, monkeypatch):
    done = threading.Event()

    def answer(now, kind, body, headers, each):
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

    def answer(now, kind, body, headers, each):
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
