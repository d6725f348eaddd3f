"""Whose server it is, and what a start says, without a server."""

import json
import os

import psutil
import pytest

from {{ cookiecutter.__package }} import config
from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.ops import (
    history,
    ownership,
    server,
    upgrade,
)


@pytest.fixture
def place(monkeypatch, tmp_path):
    """Return the database file of a history of its own."""
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{tmp_path.as_posix()}/h/mlflow.db")
    return history.database()


def test_an_owner_whose_database_is_moved_or_replaced_is_displaced(place):
    with history.owning("http://127.0.0.1:1"):
        place.touch()
        history.mark()
        assert history.owner() == f"http://127.0.0.1:1 (process {os.getpid()})"
        assert not history.database_moved() and not ownership.displaced_server()
        place.rename(place.with_name("aside"))
        assert history.database_moved()
        place.touch()
        assert history.database_moved()
        with pytest.raises(UserError, match="that were moved, deleted or replaced: press Ctrl-C"):
            ownership.await_server()
        place.with_name("aside").replace(place)
        assert not history.database_moved()


class Process(psutil.Process):
    """This process, as if it were a server that was started with other settings."""

    words: list[str] = []
    folder, settings = "/", {"MLFLOW_BACKEND_STORE_URI": "sqlite:///tracking/mlflow.db"}

    def cmdline(self):
        return self.words

    def cwd(self):
        return str(self.folder)

    def environ(self):
        return self.settings

    def parents(self):
        return []


OURS = ["python", "-m", "another_project.ops.server", "server"]
PLAIN = ["python", "-m", "uvicorn", "mlflow.server.fastapi_app:app"]
SCORING = ["python", "/home/me/mlflow/bin/my-ml-project", "serve"]


def test_a_server_without_the_lock_of_its_place_is_displaced(place, monkeypatch):
    """Of whichever project: its settings and its folder say which history it was started on."""
    process = Process()
    monkeypatch.setattr(ownership, "listeners", lambda: iter([(1, process)]))
    monkeypatch.setattr(ownership, "listens", lambda uri: True)
    monkeypatch.setattr(ownership, "own_server", lambda: None)
    process.folder, process.words = place.parents[1], OURS
    assert ownership.displaced_server() == "", "a moved project's server, on a history elsewhere"
    process.settings = {"MLFLOW_BACKEND_STORE_URI": "sqlite:///h/mlflow.db"}
    told = ownership.displaced_server()
    assert f"(process {process.pid}) still uses files of {place.parent}" in told
    with history.owning("a start"):  # it has the lock by now
        assert ownership.displaced_server() == ""
    process.words = PLAIN
    assert ownership.displaced_server() == ""
    assert "press Ctrl-C in its terminal" in ownership.in_use()
    process.words = SCORING
    assert ownership.in_use() == ""


@pytest.mark.parametrize(
    ("answer", "page"),
    [
        ({"experiment_id": "7", "lifecycle_stage": "active"}, "/#/experiments/7/runs"),
        ({"experiment_id": "7", "lifecycle_stage": "deleted"}, "/#/experiments"),
        (None, "/#/experiments"),
    ],
)
def test_the_page_to_begin_with_is_the_project_s_experiment(monkeypatch, answer, page):
    def request(uri, path):
        assert path.endswith(f"get-by-name?experiment_name={config.EXPERIMENT}")
        if not answer:
            raise OSError("404")
        return json.dumps({"experiment": answer})

    monkeypatch.setattr(server, "request", request)
    assert server.start_page("http://127.0.0.1:1") == f"http://127.0.0.1:1{page}{config.VIEW}"


@pytest.mark.parametrize("first", [True, False])
def test_only_a_first_start_is_said_to_be_the_longest(place, monkeypatch, first):
    said = []

    class Started:
        def __init__(self, port):
            pass

        def stop(self):
            pass

        wait_until_ready = server.Server.wait_until_ready

        def last_words(self):
            return ""

    monkeypatch.setattr(server, "Server", Started)
    monkeypatch.setattr(server, "waiting", lambda what: said.append(what) or iter(()))
    monkeypatch.setattr(upgrade, "prepare", lambda: None)
    monkeypatch.setattr(server, "listens", lambda uri: False)
    place.parent.mkdir()
    if not first:
        place.touch()
    with pytest.raises(UserError, match="was not ready within"), server.running(1):
        pass
    assert ("first start" in said[0]) == first
