"""The server as a user meets it: started by the full path of its script, ended as terminals do."""

import os
import re
import signal
import socket
import sqlite3
import time
from pathlib import Path

import psutil
import pytest
from conftest import free_port

pytestmark = pytest.mark.slow


def database(project):
    return sqlite3.connect(f"file:{project.path}/tracking/mlflow.db?mode=ro", uri=True)


def test_generation_verifies_the_project_and_ends_with_what_to_type(uv_project):
    assert "Verified: the MLflow server of my-ml-project starts" in uv_project.said
    project = uv_project.path
    assert uv_project.said.endswith(
        f"\n  cd {project}\n  uv run start-server\n\nthen, in a second terminal:\n\n"
        f"  cd {project}\n  uv run my-ml-project train\n\n"
    )
    assert "uv sync\n" in uv_project.install and "start-server --check\n" in uv_project.install
    assert (project / "uv.lock").exists()


def test_verification_leaves_a_migrated_database_and_warm_bytecode_and_nothing_else(venv_project):
    assert venv_project.history() == [".gitignore", "artifacts", "artifacts/.owner", "mlflow.db"]
    with database(venv_project) as history:
        assert history.execute("SELECT name FROM experiments").fetchall() == [("Default",)]
        assert history.execute("SELECT count(*) FROM runs").fetchone() == (0,)
        assert history.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_verification_by_uv_leaves_the_bytecode_of_the_server(uv_project):
    packages = next((uv_project.path / ".venv/lib").glob("python3*/site-packages"))
    assert list(packages.glob("mlflow/server/__pycache__/handlers.*.pyc"))


def test_the_install_line_of_the_guide_can_be_typed_again(venv_project):
    done = venv_project.run(venv_project.install, timeout=600)
    assert not done.returncode, done.stdout + done.stderr
    assert "Checked: the server answers" in done.stdout
    assert str(venv_project.path / "tracking" / "mlflow.db") in done.stdout


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_server_starts_from_anywhere_and_stops_with_all_its_processes(
    venv_project, running, tmp_path, how
):
    command = running(venv_project.script("start-server"), tmp_path)
    command.expect(f"Ready    {venv_project.uri}")
    command.expect(f"History  {venv_project.path / 'tracking'}")
    assert len(command.children()) >= 2
    assert command.end(how) == 0
    command.expect("Stopped")
    assert list(tmp_path.iterdir()) == []
    assert not (venv_project.path / "mlruns").exists()


def test_the_server_ends_whole_when_its_main_process_is_killed(venv_project, running):
    command = running(venv_project.script("start-server"), venv_project.path)
    command.expect("Ready")
    family = command.children()
    main = next(child for child in family if "mlflow" in child.cmdline())
    main.kill()
    command.expect("The server ended by itself")
    assert command.process.wait(60) == 1
    assert not psutil.wait_procs(family, timeout=30)[1]


def test_a_server_that_cannot_start_ends_the_wait_at_once(venv_project, tmp_path):
    broken = tmp_path / "mlflow.db"
    broken.write_bytes(b"this is no database" * 1000)
    begin = time.monotonic()
    done = venv_project.run(
        f"{venv_project.script('start-server')} --check",
        MLFLOW_BACKEND_STORE_URI=f"sqlite:///{broken}",
    )
    assert done.returncode == 1
    assert "The server ended before it was ready. It wrote:" in done.stderr
    assert "file is not a database" in done.stderr
    assert time.monotonic() - begin < 60


def test_a_busy_port_gets_one_sentence_and_nothing_starts(venv_project):
    before = venv_project.history()
    with socket.create_server(("127.0.0.1", venv_project.port)):
        done = venv_project.run(venv_project.start)
    assert done.returncode == 1
    settings = venv_project.path / "mlflow.env"
    assert re.fullmatch(
        rf"{venv_project.uri} is held by process {os.getpid()} \(.*, started in {Path.cwd()}\): "
        rf"write MLFLOW_PORT=\d+ instead of MLFLOW_PORT={venv_project.port} in {settings}, "
        r"or use --port\.\n",
        done.stderr,
    )
    assert done.stdout == ""
    assert venv_project.history() == before


def test_another_project_on_the_port_is_named_and_gets_no_run(uv_project, server, venv_project):
    """The second project on the default port is the normal case."""
    theirs = {"MLFLOW_PORT": str(uv_project.port)}
    before = uv_project.history()
    for command in (venv_project.start, venv_project.train):
        done = venv_project.run(command, **theirs)
        assert done.returncode == 1
        assert f"started in {uv_project.path})" in done.stderr
        assert f"in {venv_project.path / 'mlflow.env'}" in done.stderr
        assert "Traceback" not in done.stderr
    assert uv_project.history() == before

    done = venv_project.run(f"{venv_project.script('start-server')} --check", **theirs)
    assert not done.returncode, done.stderr
    assert f"Checked: the server answers at {uv_project.uri}" not in done.stdout


def test_a_copy_of_the_history_is_another_history(uv_project, server, trained, environ, tmp_path):
    """A plain server of MLflow's on a copy answers every question alike, but for the nonce."""
    copy = tmp_path / "history"
    done = uv_project.run(
        f"cp -r tracking {copy} && {uv_project.script('my-ml-project')} train",
        MLFLOW_ARTIFACTS_DESTINATION=str(copy / "artifacts"),
        MLFLOW_BACKEND_STORE_URI=f"sqlite:///{copy / 'mlflow.db'}",
    )
    assert done.returncode == 1
    assert f"{uv_project.uri} is another server" in done.stderr


def test_a_store_elsewhere_is_another_history(uv_project, server, tmp_path):
    """The artifacts alone prove nothing: the database has to be this project's too."""
    done = uv_project.run(
        uv_project.train, MLFLOW_BACKEND_STORE_URI=f"sqlite:///{tmp_path / 'mlflow.db'}"
    )
    assert done.returncode == 1
    assert f"{uv_project.uri} is another server" in done.stderr


def test_a_running_server_is_recognised_and_proved_instead_of_started_twice(uv_project, server):
    done = uv_project.run(uv_project.start)
    assert (done.returncode, done.stdout) == (
        0, f"This project's server already runs at {uv_project.uri}\n",
    )  # fmt: skip
    done = uv_project.run(f"{uv_project.script('start-server')} --check")
    assert not done.returncode, done.stderr
    assert f"Checked: the server answers at {uv_project.uri}" in done.stdout
    assert "Starting" not in done.stdout


def test_another_port_for_once_and_who_looks_in_the_wrong_place_is_told(venv_project, running):
    port = free_port()
    command = running(f"{venv_project.script('start-server')} --port {port}", venv_project.path)
    command.expect(f"Ready    http://127.0.0.1:{port}")
    done = venv_project.run(venv_project.train)
    assert done.returncode == 1
    assert f"This project's server runs at http://127.0.0.1:{port}, not at" in done.stderr
    done = venv_project.run(venv_project.start)
    assert f"already runs at http://127.0.0.1:{port}" in done.stdout


def test_open_shows_the_ui_in_the_user_s_browser(uv_project, server, tmp_path):
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/bash\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    done = uv_project.run(f"{uv_project.script('start-server')} --open", BROWSER=f"{browser} %s")
    assert done.returncode == 0
    assert (tmp_path / "opened").read_text().startswith(f"{uv_project.uri}/#/experiments")


def test_a_copied_environment_does_not_act_on_the_original(venv_project, tmp_path):
    (tmp_path / "mlflow.env").write_text(venv_project.read("mlflow.env"))
    done = venv_project.run(f"cd {tmp_path} && {venv_project.script('start-server')}")
    assert done.returncode == 1
    assert f"{tmp_path} belongs to the project in {tmp_path}" in done.stderr
