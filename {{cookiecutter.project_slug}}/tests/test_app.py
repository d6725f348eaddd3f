"""What the server does not offer, to whoever reaches its port."""

import asyncio
import http.client
import json
import os
import tempfile
from pathlib import Path

import pytest
from conftest import PORT
from mlflow.exceptions import MlflowException
from mlflow.store.artifact import artifact_repository_registry as registry

from {{ cookiecutter.__package }}.ops import app

ASSISTANT = "/ajax-api/3.0/mlflow/assistant/config"
CLOSED = (
    ASSISTANT,
    f"{ASSISTANT}/",
    f"/{ASSISTANT}",
    f"/.{ASSISTANT}",
    "/ajax-api//3.0/mlflow/assistant/config",
    "/ajax-api/3.0/mlflow//assistant/config",
    "/ajax-api/3.0/mlflow/%61ssistant/config",
    "/ajax-api/3.0/mlflow/Assistant/config",
    "/ajax-api/3.0/mlflow/assistant%2Fconfig",
    "/gateway/mlflow/v1/models",
    "/gateway/proxy/any/v1/models",
    "/api/2.0/mlflow/webhooks",
    "/ajax-api/2.0/mlflow/runs/create-promptlab-run",
    "/ajax-api/3.0/jobs/1",
    "/ajax-api/3.0/mlflow/demo/generate",
    "/ajax-api/3.0/mlflow/gateway/supported-providers",
    "/ajax-api/3.0/mlflow/genai/evaluate/invoke",
    "/ajax-api/3.0/mlflow/issues/invoke",
    "/ajax-api/3.0/mlflow/jobs/1",
    "/ajax-api/3.0/mlflow/mcp-servers",
    "/ajax-api/3.0/mlflow/prompt-optimization/jobs/search",
    "/ajax-api/3.0/mlflow/scorer/invoke",
)
OPEN = (
    "/",
    "/health",
    "/version",
    "/api/2.0/mlflow/experiments/search?max_results=1",
    "/ajax-api/2.0/mlflow/experiments/search?max_results=1",
    "/ajax-api/2.0/mlflow/registered-models/search",
    "/ajax-api/3.0/mlflow/server-info",
    "/api/2.0/mlflow-artifacts/artifacts",
)


def answer(path: str, method: str = "GET") -> tuple[int, str]:
    """Return what the server says to a request for `path`, sent as it is spelled."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=10)
    connection.request(method, path, "{}", {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read().decode()


@pytest.mark.usefixtures("tracking_server")
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
def test_nothing_that_runs_commands_or_fetches_is_offered(method):
    for path in CLOSED:
        status, said = answer(path, method)
        assert (status, json.loads(said)["error_code"]) == (403, "PERMISSION_DENIED"), path
        assert "does not offer /" in said
    for path in (f"/static-files/..{ASSISTANT}", "/ajax-api/3.0/mlflow/runs/../assistant/config"):
        assert answer(path, method)[0] in (404, 405)  # two names that lead nowhere


@pytest.mark.usefixtures("tracking_server")
def test_what_mlflow_s_pages_ask_for_is_none():
    path = "/ajax-api/2.0/mlflow/gateway-proxy"
    assert answer(f"{path}?gateway_path=api/2.0/endpoints/") == (200, '{"endpoints":[]}')
    assert answer(path, "POST")[0] == 403


@pytest.mark.usefixtures("tracking_server")
def test_the_history_is_offered():
    assert [answer(path)[0] for path in OPEN] == [200] * len(OPEN)


def test_neither_is_a_web_socket():
    sent = []

    async def send(message):
        sent.append(message["type"])

    asyncio.run(app.Closed(None)({"type": "websocket", "path": "/"}, None, send))
    assert sent == ["websocket.close"]


@pytest.fixture
def kept():
    """Let a test change how this process opens artifacts."""
    known = registry.get_registered_artifact_repositories()
    before = dict(known)
    yield
    known.update(before)


@pytest.mark.usefixtures("kept")
def test_artifacts_are_opened_in_their_own_folder_only(tmp_path):
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    refused = [other, own / ".." / "other", tmp_path / "own-too", Path(tempfile.gettempdir())]
    if os.name == "posix":
        (own / "out").symlink_to(other)
        refused += [own / "out"]
    app.keep_artifacts_below(str(own))
    for place in (own, own / "1" / "artifacts"):
        registry.get_artifact_repository(str(place))
        registry.get_artifact_repository(place.as_uri())
    for uri in [*map(str, refused), other.as_uri(), "s3://bucket/own", "mlflow-artifacts:/1"]:
        with pytest.raises(MlflowException, match="keeps artifacts in"):
            registry.get_artifact_repository(uri)


def test_an_mlflow_that_cannot_be_closed_ends_with_a_sentence(monkeypatch, capsys):
    monkeypatch.setattr(registry, "get_registered_artifact_repositories", dict)
    with pytest.raises(SystemExit):
        app.create_app()
    assert "cannot be closed to others: LookupError('it opens artif" in capsys.readouterr().err


def test_a_place_in_an_object_store_is_compared_by_its_name():
    assert app.below("s3://bucket/history/1", "s3://bucket/history/")
    for uri in ("s3://bucket/history-2/1", "s3://bucket/history/../1", "/history/1"):
        assert not app.below(uri, "s3://bucket/history")
    assert not app.below("s3://tracking/artifacts", str(Path("tracking", "artifacts")))
