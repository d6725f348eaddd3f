"""Whose server it is, and what a start says, without a server."""

import contextlib
import http.server
import json
import os
import re
import socket
import threading

import psutil
import pytest
from typer.testing import CliRunner

from {{ cookiecutter.__package }} import config
from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.ops import (
    addresses,
    doctor,
    history,
    ownership,
    server,
    start,
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

    monkeypatch.setattr(start, "request", request)
    assert start.start_page("http://127.0.0.1:1") == f"http://127.0.0.1:1{page}{config.VIEW}"


@contextlib.contextmanager
def answering(artifacts, experiments=()):
    """Serve what `ownership` asks a server of MLflow's for; yield its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def handle_request(self):
            file = artifacts / ".owner" / self.path.rpartition("/")[2]
            length = int(self.headers.get("Content-Length") or 0)
            body = json.dumps({"experiments": list(experiments)}).encode()
            if "mlflow-artifacts" in self.path:
                if self.command == "PUT":
                    file.write_bytes(self.rfile.read(length))
                body = file.read_bytes() if file.exists() else b""
                if self.command == "DELETE":
                    file.unlink()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_DELETE = handle_request

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        thread = threading.Thread(target=other.serve_forever, args=[0.01], daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{other.server_port}"
        other.shutdown()


OTHER = {"experiment_id": "0", "creation_time": 2}


def test_a_server_is_ours_by_its_artifacts_and_its_database(project, tmp_path):
    mine = {"experiment_id": "0", "creation_time": 1}
    folder = history.artifacts()
    with answering(folder, [mine]) as uri:
        assert ownership.owns(uri)
    with answering(folder, [OTHER]) as uri:  # our files, another database
        assert not ownership.owns(uri)
    with answering(tmp_path, [mine]) as uri:  # a copy of the project
        assert not ownership.owns(uri)
    assert not [*(folder / ".owner").iterdir()]


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.9\r\n", b""])
def test_what_speaks_no_http_or_nothing_is_a_stranger(project, monkeypatch, greeting):
    monkeypatch.setattr(addresses, "ANSWER_SECONDS", 0.2)

    def speak():
        with contextlib.suppress(OSError):
            while greeting:
                connection, _ = listener.accept()
                connection.sendall(greeting)
                connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=speak, daemon=True).start()
        uri = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert ownership.listens(uri) and not ownership.owns(uri)


@pytest.fixture
def settings(monkeypatch):
    """Return a function that sets the address of the server in `mlflow.env`, or in the shell."""

    def write(uri, shell=False):
        values = (uri, "127.0.0.1", uri.rpartition(":")[2])
        for name, value in zip(ownership.ADDRESS, values, strict=True):
            monkeypatch.setenv(name, value)
            monkeypatch.setitem(config.WRITTEN, name, "other" if shell else value)
            monkeypatch.setitem(config.SHELL, name, value)

    return write


def test_a_client_proves_its_server_and_says_where_it_is(project, settings, capsys):
    with answering(history.artifacts()) as uri:
        settings(uri)
        assert ownership.connect() == uri
    assert capsys.readouterr().out.startswith(f"Server   {uri}\nHistory  {project / 'tracking'}")


def test_a_client_refuses_another_server_and_names_it(project, settings, tmp_path, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(ownership, "started_here", lambda process: False)  # it may be so named
    with answering(tmp_path) as uri:
        settings(uri)
        told = rf"{uri} is held by process {os.getpid()} .*started in .*: write MLFLOW_PORT=\d+ in"
        with pytest.raises(UserError, match=told):
            ownership.connect()
        settings(uri, shell=True)
        with pytest.raises(UserError, match="unset MLFLOW_TRACKING_URI and .* in your shell"):
            ownership.connect()
        settings(uri)
        assert ownership.held("http://127.0.0.1:1").endswith("use another --port.")


def test_an_address_beyond_this_machine_is_not_verified(monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org/")
    monkeypatch.setattr(ownership, "listens", lambda uri: True)
    assert ownership.connect() == "https://mlflow.example.org"
    assert "Server   https://mlflow.example.org" in (told := capsys.readouterr().out)
    assert "not verified" in told and "History" not in told


def test_a_client_without_a_server_is_told_how_to_start_one(project, settings, monkeypatch):
    settings("http://127.0.0.1:1024")
    monkeypatch.setattr(ownership, "listens", lambda uri: False)
    with pytest.raises(UserError, match="No server answers at http://127.0.0.1:1024.*start-server"):
        ownership.connect()
    monkeypatch.setattr(ownership, "own_server", lambda: "http://127.0.0.1:2000")
    told = "runs at http://127.0.0.1:2000, not at http://127.0.0.1:1024: set MLFLOW_TRACKING_URI="
    with pytest.raises(UserError, match=f"{told}http://127.0.0.1:2000"):
        ownership.connect()


@pytest.mark.parametrize("name", ownership.DIVERTING)
def test_what_would_split_the_history_is_refused(monkeypatch, name):
    for other in ownership.DIVERTING:
        monkeypatch.delenv(other, raising=False)
    ownership.refuse_diversions()
    monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setitem(config.SHELL, name, "elsewhere")
    with pytest.raises(UserError, match=f"Your shell sets {name}, which would send part of the"):
        ownership.connect()
    monkeypatch.setitem(config.WRITTEN, name, "elsewhere")
    with pytest.raises(UserError, match=f"mlflow.env sets {name}, .*: remove the line"):
        ownership.refuse_diversions()


def test_a_process_of_this_project_is_no_stranger(project, monkeypatch):
    process = Process()
    process.folder, process.words = config.ROOT, PLAIN
    monkeypatch.setattr(ownership, "listeners", lambda: iter([(1, process)]))
    told = f"is held by this project's process {process.pid} "
    assert told in (sentence := ownership.held("http://127.0.0.1:1"))
    assert "does not answer or serves another history" in sentence
    monkeypatch.setattr(ownership, "listens", lambda uri: True)
    monkeypatch.setattr(ownership, "owns", lambda uri: uri.endswith(":1"))
    assert ownership.own_server() == "http://127.0.0.1:1"
    assert f"a plain MLflow (process {process.pid})" in ownership.whose("http://127.0.0.1:1")
    assert "This history's server runs at http://127.0.0.1:1: a plain" in ownership.in_use()


def test_one_that_starts_or_stops_is_waited_for(project, monkeypatch, capsys):
    answers = iter([None, None, "http://127.0.0.1:1"])
    monkeypatch.setattr(ownership, "own_server", lambda: next(answers, None))
    monkeypatch.setattr(ownership.time, "sleep", lambda seconds: None)
    assert ownership.await_server() is None  # nobody has the lock
    with history.owning("http://127.0.0.1:1"):
        assert ownership.await_server() == "http://127.0.0.1:1"
        clock = iter(range(0, 1000, 2))
        monkeypatch.setattr(ownership.time, "monotonic", lambda: next(clock))
        with pytest.raises(UserError, match="which does not answer: end that process"):
            ownership.await_server()
    assert "  6 s for a server of this history" in capsys.readouterr().out


# start-server


def started(*words):
    """Return what `start-server` prints, and the error that ends it."""
    app = start.typer.Typer()
    app.command()(start.start)
    done = CliRunner().invoke(app, words)
    return done.stdout, str(done.exception or "")


def test_a_port_that_is_taken_starts_nothing(project, settings, monkeypatch):
    monkeypatch.setattr(addresses, "ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings(f"http://127.0.0.1:{taken.getsockname()[1]}")
        said, error = started()
        assert said == "" and "is held by " in error
        assert "is held by " in started("--port", str(taken.getsockname()[1]))[1]
    assert not history.database(".owner").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (server, "refuse_diversions"),
        (server, "refuse_exposure"),
        (upgrade, "refuse_environment"),
        (upgrade, "prepare"),
    ],
)
def test_what_cannot_work_is_refused_before_a_server_starts(project, monkeypatch, module, name):
    def refuse():
        raise UserError(name)

    monkeypatch.setattr(server, "Server", lambda *words: pytest.fail("it started"))
    monkeypatch.setattr(server, "listens", lambda uri: False)
    monkeypatch.setattr(module, name, refuse)
    assert started() == ("", name)


def test_a_running_server_is_proved_and_shown_instead_of_started_twice(
    project, monkeypatch, settings
):
    shown = []
    monkeypatch.setattr(start.webbrowser, "open", shown.append)
    with answering(history.artifacts()) as uri:
        settings(uri)
        assert started("--open")[0].startswith(f"This project's server already runs at {uri}")
        assert shown == [f"{uri}/#/experiments{config.VIEW}"]
        said, error = started("--check")
        assert error == "" and f"Checked: the server answers at {uri}; a test file was" in said
        assert f"Store      {history.database()}" in said and str(history.artifacts()) in said


def test_a_server_that_loses_files_is_not_called_checked(project, monkeypatch):
    def request(uri, path, method="GET", body=None):
        if method == "PUT":
            (history.artifacts() / path.partition("artifacts/artifacts/")[2]).write_bytes(b"other")

    (history.artifacts() / ".owner").mkdir()
    monkeypatch.setattr(start, "request", request)
    with pytest.raises(UserError, match="A test file could not go .*: its content changed"):
        start.prove("http://127.0.0.1:1")


def test_a_server_that_ends_early_tells_its_last_words(project, monkeypatch):
    class Process:
        pid = 1

        def poll(self):
            return 1

    class Started(server.Server):
        def __init__(self, port, settings):
            self.uri, self.tail = ownership.address(port), ["no such table"]
            self.process = Process()
            self.reader = threading.Thread()
            self.reader.start()

        def stop(self):
            said.append("stopped")

    said = []
    monkeypatch.setattr(server, "Server", Started)
    monkeypatch.setattr(server, "listens", lambda uri: False)
    monkeypatch.setattr(upgrade, "prepare", lambda: None)
    told = "The server ended before it was ready.*It printed:\nno such table"
    with pytest.raises(UserError, match=re.compile(told, re.DOTALL)), server.running(1):
        pass
    assert said == ["stopped"]


def test_processes_that_do_not_end_when_asked_are_killed(monkeypatch):
    process = psutil.Popen([os.sys.executable, "-c", STUBBORN], stdout=-1)
    assert process.stdout.readline() == b"ready\n"
    monkeypatch.setattr(server, "STOP_SECONDS", 0.2)
    server.end(lambda: [psutil.Process(process.pid)] if process.poll() is None else [])
    assert process.wait(60) != 0
    process.stdout.close()


STUBBORN = """
import signal, time
if hasattr(signal, "SIGTERM"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(600)
"""


@pytest.mark.usefixtures("tracking_server")
def test_the_project_s_own_server_is_known_in_every_way(capsys):
    uri = config.setting("MLFLOW_TRACKING_URI")
    assert ownership.own_server() == ownership.await_server() == ownership.connect() == uri
    assert history.owner().startswith(f"{uri} (process ")
    assert "This history's server runs at" in ownership.in_use()
    ((state, text),) = doctor.server()
    assert state == "ok" and f"served at {uri} (process " in text
    assert started()[0].startswith(f"This project's server already runs at {uri} (process ")
    assert f"Checked: the server answers at {uri}" in started("--check")[0]
    # Other tests delete runs of this server, which is said as a warning.
    found = {one.check: one.state for one in doctor.examine()}
    assert found["store"] == "ok" and found["files"] != "wrong"


@pytest.mark.parametrize("first", [True, False])
def test_only_a_first_start_is_said_to_be_the_longest(place, monkeypatch, first):
    said = []

    class Started:
        def __init__(self, *words):
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
