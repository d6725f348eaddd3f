"""The server as a user meets it: started by the full path of its script, ended as terminals do."""

import base64
import http.client
import json
import multiprocessing
import os
import re
import signal
import socket
import sqlite3
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest
from conftest import HANG_SECONDS, INSTALL_SECONDS, assert_gone, free_port

pytestmark = pytest.mark.slow

# How people start a project's commands.
WAYS = {
    "full path": lambda project, words: f"{project.bin}/{words}",
    "active environment": lambda project, words: f". {project.bin}/activate && exec {words}",
    "uv run": lambda project, words: f"uv run {words}",
}


def test_generation_verifies_the_project_and_ends_with_what_to_type(uv_project):
    assert "Verified: the MLflow server of my-ml-project starts" in uv_project.said
    project = uv_project.path
    last = uv_project.said.partition("Verified: ")[2]
    assert (
        f"\n\n  cd {project}\n  uv run start-server\n\nThen train, in a second terminal:\n\n"
        f"  cd {project}\n  uv run my-ml-project train\n\n"
    ) in last
    assert "uv sync\n" in uv_project.install and "start-server --check\n" in uv_project.install
    assert (project / "uv.lock").exists()


def test_verification_leaves_a_migrated_database_and_nothing_else(venv_project):
    names, rows = venv_project.history()
    assert names == [".gitkeep", "artifacts", "artifacts/.owner", "mlflow.db"]
    assert rows == {
        "experiments": 1, "runs": 0, "metrics": 0, "model_versions": 0, "alembic_version": 1,
    }  # fmt: skip


def test_verification_leaves_the_bytecode_of_what_the_server_imports(uv_project):
    """uv installs none, and the caller's shell forbade Python to write any."""
    assert "handlers" in {file.name.partition(".")[0] for file in uv_project.compiled}
    assert len(uv_project.compiled) > 100


def test_the_install_line_of_the_guide_can_be_typed_again(venv_project):
    done = venv_project.run(venv_project.install, timeout=INSTALL_SECONDS)
    assert not done.returncode, done.stdout + done.stderr
    assert "Checked: the server answers" in done.stdout
    assert str(venv_project.path / "tracking" / "mlflow.db") in done.stdout


def test_versions_freeze_into_a_file_for_the_team(venv_project):
    """As the guide says for venv; the file has no path, and installing from it adds the project."""
    command = next(line for line in venv_project.read("README.md").split("`") if "=freeze" in line)
    done = venv_project.run(command)
    assert not done.returncode, done.stderr
    frozen = venv_project.read("requirements.lock")
    assert "mlflow==" in frozen and "ca-va" not in frozen and "-e " not in frozen
    guide = venv_project.read("README.md")
    install = re.search(r"`([^`\n]*-r requirements\.lock[^`\n]*)`", guide)[1]
    done = venv_project.run(f"{install} --dry-run")
    assert not done.returncode, done.stderr
    assert done.stdout.splitlines()[-1] == "Would install ca-va-0.1.0"
    subprocess.run(["rm", venv_project.path / "requirements.lock"], check=True)


def test_what_uv_run_starts_opens_the_user_s_browser_and_stops_with_ctrl_c(
    odd_project, running, tmp_path
):
    """On a terminal of few letters, in a folder whose name it cannot show."""
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/bash\necho "$1" >> {tmp_path}/opened\n')
    browser.chmod(0o755)
    words = f"{odd_project.start.strip()} --open"
    env = {"BROWSER": f"{browser} %s", "PATH": odd_project.environ["PATH"]}
    env["PYTHONIOENCODING"] = "ascii"
    command = running(words, odd_project.path, **env)
    command.expect(f"Ready    {odd_project.uri}")
    page = command.expect("Browser").split()[1]
    command.expect("Ctrl-C")
    assert odd_project.run(words, **env).returncode == 0
    done = odd_project.run(f"{odd_project.script('odd')} train -p n_estimators=3", **env)
    assert not done.returncode, done.stderr
    assert "(alias challenger)" in done.stdout
    assert command.end(signal.SIGINT) == 0
    command.expect("Stopped")
    assert not (odd_project.path / "tracking" / "mlflow.db.owner").exists()
    assert (tmp_path / "opened").read_text().split() == [page, page]
    assert page.startswith(f"{odd_project.uri}/#/experiments")
    assert "any user of this machine can read and change" in "".join(command.seen)


def test_the_server_starts_from_anywhere_on_another_port_and_stops_with_all_its_processes(
    venv_project, running, tmp_path
):
    """Whoever looks for it at the port of the settings is told where it is; with two workers."""
    port = free_port()
    start = f"{venv_project.script('start-server')} --port {port}"
    command = running(start, tmp_path, MLFLOW_WORKERS="2")
    command.expect(f"Ready    http://127.0.0.1:{port}")
    command.expect(f"History  {venv_project.path / 'tracking'}")
    done = venv_project.run(venv_project.train)
    assert done.returncode == 1
    assert f"This project's server runs at http://127.0.0.1:{port}, not at" in done.stderr
    done = venv_project.run(venv_project.start)
    assert f"already runs at http://127.0.0.1:{port}" in done.stdout
    assert len(command.children()) >= 3
    assert {asked(port, *one)[0] for one in CLOSED for _ in range(4)} == {403}  # in both workers
    assert command.end(signal.SIGTERM) == 0
    command.expect("Stopped")
    assert not (venv_project.path / "tracking" / "mlflow.db.owner").exists()
    assert list(tmp_path.iterdir()) == []
    assert not (venv_project.path / "mlruns").exists()


def test_a_closed_terminal_leaves_no_server_behind(odd_project):
    """Nobody reads any more what is printed, and the signal comes."""
    command = subprocess.Popen(
        ["bash", "-c", odd_project.script("start-server")],
        env=odd_project.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    with command.stdout:
        assert any("Ready" in line for line in command.stdout)
        family = psutil.Process(command.pid).children(recursive=True)
    assert len(family) == 1  # MLflow's command line runs uvicorn in its own process
    command.send_signal(signal.SIGHUP)
    command.wait(HANG_SECONDS)
    assert_gone(family)


def test_a_server_that_hangs_is_no_stranger_and_goes_whole_with_its_main_process(
    venv_project, running
):
    start = venv_project.script("start-server")
    command = running(start, venv_project.path, MLFLOW_WORKERS="2")
    command.expect("Ready")
    family = command.children()
    for process in family:
        process.suspend()
    done = venv_project.run(venv_project.train)
    for process in family:
        process.resume()
    assert done.returncode == 1
    assert f"{venv_project.uri} is held by this project's process " in done.stderr
    assert "which does not answer or serves another history: try again, or end it." in done.stderr

    main = next(child for child in family if "ops.server" in " ".join(child.cmdline()))
    main.kill()
    command.expect("The server ended by itself")
    assert command.process.wait(HANG_SECONDS) == 1
    assert_gone(family)


def test_a_server_that_cannot_start_ends_the_wait_at_once(venv_project):
    done = venv_project.run(f"{venv_project.script('start-server')} --check", MLFLOW_WORKERS="few")
    assert done.returncode == 1
    assert "ended before it was ready (MLFLOW_WORKERS from your shell). It printed:" in done.stderr
    assert "'few' is not a valid integer" in done.stderr


def test_a_busy_port_gets_one_sentence_and_nothing_starts(odd_project):
    before = odd_project.history()
    with socket.create_server(("127.0.0.1", odd_project.port)):
        done = odd_project.run(odd_project.script("start-server"))
    assert done.returncode == 1
    told = done.stderr.splitlines()[-1]
    assert told.startswith(f"{odd_project.uri} is held by process {os.getpid()} (")
    assert f", started in {Path.cwd()}): write MLFLOW_PORT=" in told
    line = f"instead of MLFLOW_PORT={odd_project.port} in {odd_project.path / 'mlflow.env'}."
    assert told.endswith(line)
    assert done.stdout == ""
    assert odd_project.history() == before


def test_another_project_on_the_port_is_named_and_gets_no_run(uv_project, server, odd_project):
    """The second project on the default port is the normal case; each way of starting once."""
    before = uv_project.history()
    with odd_project.settings(MLFLOW_PORT=uv_project.port):
        commands = ("odd train", "start-server", "odd train")
        for way, command in zip(WAYS.values(), commands, strict=True):
            done = odd_project.run(way(odd_project, command))
            assert done.returncode == 1
            told = done.stderr.splitlines()[-1]
            assert f"started in {uv_project.path}): write MLFLOW_PORT=" in told
            assert told.endswith(f"in {odd_project.path / 'mlflow.env'}.")
            assert "Traceback" not in done.stderr
    assert uv_project.history() == before


def test_the_network_is_let_in_by_a_decision_only_and_told_what_it_means(odd_project, running):
    """By an address that is this machine's own, but no name that people use for it."""
    start = odd_project.script("start-server")
    done = odd_project.run(start, MLFLOW_HOST="0.0.0.0")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("Your shell sets MLFLOW_HOST, which can open the history to")
    hosts = "localhost,127.0.0.1,127.0.0.2,127.0.0.2:*,mybox,mybox:*"
    login = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "of-the-admin-1"}
    secrets = {
        "MLFLOW_AUTH_ADMIN_USERNAME": "admin",
        "MLFLOW_AUTH_ADMIN_PASSWORD": "of-the-admin-1",
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "0123456789abcdef" * 2,
    }
    changes = {"MLFLOW_HOST": "127.0.0.2", "MLFLOW_SERVER_ALLOWED_HOSTS": hosts}
    with odd_project.settings(**changes):
        done = odd_project.run(start)
        assert done.returncode == 1 and "write PROJECT_AUTH=basic-auth in " in done.stderr
    with odd_project.settings(**changes, PROJECT_AUTH="basic-auth"):
        done = odd_project.run(start, **secrets)
        assert done.returncode == 1 and "needs Flask-WTF: type " in done.stderr
        done = odd_project.run(done.stderr.partition("type ")[2])
        assert not done.returncode, done.stderr
        assert "MLFLOW_AUTH_ADMIN_USERNAME is not set" in odd_project.run(start).stderr
        command = running(start, odd_project.path, **secrets)
        command.expect(hosts)
        uri = f"http://127.0.0.2:{odd_project.port}"
        command.expect(f"Ready    {uri}")
        command.expect("Access   with a login")
        train = f"{odd_project.script('odd')} train -p n_estimators=3"
        assert f"{uri} asks for a login" in odd_project.run(train).stderr
        done = odd_project.run(train, **login)
        assert not done.returncode, done.stderr
        assert f"Server   {uri}, not verified" in done.stdout
        own, foreign = f"mybox:{odd_project.port}", "http://evil.com"
        pages = {f"http://{own}": 200, "https://mybox": 200, foreign: 403, "null": 403}
        port = odd_project.port
        assert {page: searched("127.0.0.2", port, own, page) for page in pages} == pages
        command.end()
    # On this machine alone, the holder of the lock is believed: files need a login, too.
    with odd_project.settings(PROJECT_AUTH="basic-auth"):
        done = odd_project.run(f"{start} --check", **secrets)
        assert not done.returncode and "was uploaded and downloaded" in done.stdout, done.stderr
        domain = "app.github.dev"
        codespace = {"CODESPACE_NAME": "tall-tree"}
        codespace["GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN"] = domain
        command = running(start, odd_project.path, **secrets, **codespace)
        command.expect("Ready")
        done = odd_project.run(train, **login)
        assert not done.returncode and "not verified" not in done.stdout, done.stderr
        # GitHub Codespaces forwards a page's own origin as it is, or as that of this machine.
        own, other = (f"{name}-{port}.{domain}" for name in ("tall-tree", "evil-tree"))
        asked = [(own, f"https://{own}"), (own, f"https://localhost:{port}"),
                 (own, f"https://{other}"), (other, f"https://{other}")]  # fmt: skip
        assert [searched("127.0.0.1", port, *one) for one in asked] == [200, 200, 403, 403]
        command.end()


def searched(address, port, host, origin):
    """Return the status of the UI's search for runs, as a browser on a page of `origin` asks."""
    connection = http.client.HTTPConnection(address, port, timeout=10)
    words = base64.b64encode(b"admin:of-the-admin-1").decode()
    headers = {"Content-Type": "application/json", "Host": host, "Origin": origin}
    headers["Authorization"] = f"Basic {words}"
    path = "/ajax-api/2.0/mlflow/runs/search"
    connection.request("POST", path, '{"experiment_ids": ["0"]}', headers)
    return connection.getresponse().status


def test_a_folder_that_is_gone_gets_a_sentence(odd_project, tmp_path):
    gone = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone"
    done = odd_project.run(f"{gone} && {odd_project.script('start-server')} --check")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "The system refuses: " in done.stderr


def test_a_plain_server_of_mlflow_s_gets_no_run(uv_project, odd_project, running, tmp_path):
    """What a beginner leaves running in some other folder, on the port of the settings."""
    command = f"{uv_project.script('mlflow')} server --port {odd_project.port}"
    plain = running(command, tmp_path, MLFLOW_WORKERS="1", MLFLOW_SERVER_ENABLE_JOB_EXECUTION="0")
    plain.expect("Application startup complete")
    done = odd_project.run(f"{odd_project.script('odd')} train")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{odd_project.uri} is held by process ")
    assert f"started in {tmp_path}): write MLFLOW_PORT=" in done.stderr
    with sqlite3.connect(tmp_path / "mlflow.db") as theirs:
        assert theirs.execute("SELECT count(*) FROM runs").fetchone() == (0,)


def test_the_server_answers_to_its_own_names_only(uv_project, server):
    """A page that has its name resolve to this machine (DNS rebinding) gets nothing."""

    def status(method, **headers):
        connection = http.client.HTTPConnection("127.0.0.1", uv_project.port, timeout=HANG_SECONDS)
        path = "/api/2.0/mlflow/experiments/search?max_results=1"
        body = '{"max_results": 1}' if method == "POST" else None
        connection.request(method, path, body, {"Content-Type": "application/json"} | headers)
        return connection.getresponse().status

    own = f"127.0.0.1:{uv_project.port}"
    assert status("GET", Host=own) == status("POST", Host=own, Origin=f"http://{own}") == 200
    for host in ("10.evil.com", f"192.168.evil.com:{uv_project.port}", "evil.com"):
        assert status("GET", Host=host) == 403
    assert status("POST", Host=own, Origin="http://evil.com") == 403


def test_a_copy_of_the_history_is_another_history(uv_project, server, trained, environ, tmp_path):
    """A plain server of MLflow's on a copy answers every question alike, but for the nonce."""
    copy = tmp_path / "history"
    done = uv_project.run(
        f"cp -r tracking {copy} && {uv_project.script('my-ml-project')} train",
        MLFLOW_ARTIFACTS_DESTINATION=str(copy / "artifacts"),
        MLFLOW_BACKEND_STORE_URI=f"sqlite:///{copy / 'mlflow.db'}",
    )
    assert done.returncode == 1
    assert f"{uv_project.uri} is held by this project's process" in done.stderr


# What it offers to others

CLOSED = [
    ("GET", "/ajax-api/3.0/mlflow/assistant/config"),
    ("PUT", "/ajax-api/3.0/mlflow/assistant/config"),
    ("POST", "/ajax-api/3.0/mlflow/assistant/message"),
    ("POST", "/gateway/mlflow/v1/chat/completions"),
    ("POST", "/ajax-api/2.0/mlflow/gateway-proxy"),
    ("POST", "/ajax-api/3.0/mlflow/gateway/endpoints/create"),
    ("POST", "/api/2.0/mlflow/webhooks"),
    ("POST", "/ajax-api/3.0/jobs"),
    ("POST", "/ajax-api/3.0/mlflow/genai/evaluate/invoke"),
    ("POST", "/ajax-api/3.0/mlflow/scorer/invoke"),
    ("POST", "/ajax-api/2.0/mlflow/runs/create-promptlab-run"),
]


def asked(port, method, path, body=None):
    """Return status and text of the server's answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, response.read().decode()


def as_another_user(function, *args):
    """Return what a function returns in a process of the user `nobody`, if root runs the tests."""

    def call():
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        said.send(function(*args))

    heard, said = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=call)
    process.start()
    said.close()
    try:
        return heard.recv()
    finally:
        process.join(30)


def attack(port, private):
    """Ask for what is closed, and for a `private` folder, by a link in a folder of one's own."""
    statuses = {path: asked(port, method, path, {})[0] for method, path in CLOSED}
    api = "/api/2.0/mlflow"
    with tempfile.TemporaryDirectory() as own:
        place = {"name": own, "artifact_location": own}
        found = json.loads(asked(port, "POST", f"{api}/experiments/create", place)[1])
        found = json.loads(asked(port, "POST", f"{api}/runs/create", found)[1])
        run = found["run"]["info"]["run_id"]
        Path(own, run).mkdir()
        Path(own, run, "artifacts").symlink_to(private)
        read = asked(port, "GET", f"/get-artifact?run_id={run}&path=key")
        upload = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=new"
        written = asked(port, "POST", upload, "mine")
    return statuses, read, written


@pytest.mark.skipif(os.name == "nt", reason="POSIX users")
def test_another_user_of_the_machine_gets_no_shell_and_no_file(odd_project, running, tmp_path):
    private = tmp_path / "private"
    private.mkdir(0o700)
    (private / "key").write_text("secret")
    history = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{tmp_path}/history/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": f"{tmp_path}/history/artifacts",
    }
    command = running(odd_project.script("start-server"), odd_project.path, **history)
    command.expect("Ready")
    statuses, read, written = as_another_user(attack, odd_project.port, private)
    assert statuses == dict.fromkeys(statuses, 403)
    assert read[0] == written[0] == 400
    assert f"keeps artifacts in {tmp_path}/history/artifacts only, not at" in read[1]
    assert [file.name for file in private.iterdir()] == ["key"]
    assert not Path(odd_project.environ["HOME"], ".mlflow", "assistant").exists()


@pytest.mark.parametrize(
    ("patch", "code", "sentence"),
    [
        ("run_in_this_process = lambda: None", 0, "Checked: the server answers at"),
        ("Closed = lambda inner: inner", 1, "serves MLflow's assistant"),
    ],
)
def test_a_server_that_cannot_be_closed_is_refused(uv_project, tmp_path, patch, code, sentence):
    """Where MLflow's private name is gone it is closed all the same, in a process of its own."""
    (tmp_path / "sitecustomize.py").write_text(
        f"from {uv_project.package}.ops import app\napp.{patch}\n"
    )
    history = tmp_path / "history"
    done = uv_project.run(
        f"{uv_project.script('start-server')} --check",
        PYTHONPATH=str(tmp_path),
        MLFLOW_BACKEND_STORE_URI=f"sqlite:///{history}/mlflow.db",
        MLFLOW_ARTIFACTS_DESTINATION=str(history / "artifacts"),
    )
    assert done.returncode == code
    assert sentence in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_an_environment_that_is_older_than_its_project_is_refused(odd_project):
    (file,) = odd_project.path.glob(".venv/lib/*/site-packages/odd-*.dist-info/entry_points.txt")
    kept = file.read_text()
    file.write_text(kept.partition("[mlflow.app]")[0])
    try:
        done = odd_project.run(f"{odd_project.script('start-server')} --check")
    finally:
        file.write_text(kept)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{odd_project.path / '.venv'} does not know this project's")
    assert done.stderr.endswith("install the project again, as its README says.\n")


# Without a server


def test_without_a_server_it_says_how_to_start_one(venv_project):
    done = venv_project.run(venv_project.train)
    assert done.returncode == 1
    assert done.stderr == (
        f"No server answers at {venv_project.uri}: start this project's server in another "
        "terminal: .venv/bin/start-server\n"
    )
