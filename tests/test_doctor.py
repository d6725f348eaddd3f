"""What is wrong, what mends it: each fault injected for real, each remedy typed as printed."""

import json
import os
import re
import shlex
import socket
from pathlib import Path

import pytest
from test_history import RELEASES, History

pytestmark = pytest.mark.slow


class Patient(History):
    def findings(self, **env):
        """Return the exit code of `doctor --json`, and what it finds, by check."""
        done = self.run("doctor --json", **env)
        found = {}
        for one in json.loads(done.stdout):
            found.setdefault(one.pop("check"), []).append(one)
        return done.returncode, found

    def state(self, check, **env):
        """Return the states of one check, and its text."""
        code, found = self.findings(**env)
        states = {one["state"] for one in found[check]}
        assert code == any(one["state"] == "wrong" for ones in found.values() for one in ones)
        return states, "\n".join(f"{one['found']} -> {one['remedy']}" for one in found[check])


@pytest.fixture(scope="module")
def trained_backup(uv_project, server, trained, tmp_path_factory):
    file = tmp_path_factory.mktemp("backup") / "trained.tar.gz"
    done = uv_project.run(f"{uv_project.script('my-ml-project')} backup {file}")
    assert not done.returncode, done.stderr
    return file


@pytest.fixture
def patient(uv_project, trained_backup, tmp_path):
    """Return a history with a trained model and no server."""
    patient = Patient(uv_project, tmp_path / "history")
    done = patient.run(f"restore {trained_backup}")
    assert not done.returncode, done.stderr
    return patient


def test_a_trained_history_is_well_and_wants_a_backup_elsewhere(patient):
    code, found = patient.findings()
    assert code == 0
    (experiment,) = (o for o in found["experiments"] if o["found"].startswith("my-ml-project"))
    assert "MiB of artifacts" in experiment["found"] and "0.0 MiB" not in experiment["found"]
    places = patient.project.path / "backups" / "elsewhere.txt"
    aside = places.rename(places.with_name("aside.txt"))
    states, text = patient.state("backups")
    assert states == {"warning"} and "there is no backup" in text
    assert "no backup is outside this project" in text
    assert not patient.run("backup").returncode
    aside.rename(places)
    assert patient.state("backups")[0] == {"ok"}


def test_files_and_runs_that_lack_each_other(patient):
    model = next(patient.artifacts.glob("1/models/m-*"))
    (name,) = patient.ask("SELECT run_uuid FROM runs WHERE status = 'FINISHED'")[0]
    run = patient.artifacts / "1" / name
    stray = patient.artifacts / "1" / ("ab" * 16) / "artifacts"
    stray.mkdir(parents=True)
    states, text = patient.state("files")
    assert states == {"warning"} and f"1 folder of no run or model: 1/{stray.parent.name}" in text
    stray.parent.rename(run.with_name("aside"))
    run.rename(patient.folder / "run")
    model.rename(patient.folder / "model")
    states, text = patient.state("files")
    assert "wrong" in states
    assert "files of 2 runs or models are missing: " in text
    assert f"{model.name}/artifacts (0 of 7)" in text
    assert f"{run.name}/artifacts (0 of 8)" in text
    advice = r"The newest backup has (\d+) runs? \(this history has \1\); restore it with: "
    assert re.search(advice, text)


@pytest.mark.parametrize("name", ["OneDrive - Contoso", "Dropbox"])
def test_a_synchronised_folder(uv_project, tmp_path, name):
    """No network file system can be mounted here: those are known by their names only."""
    (tmp_path / name).mkdir()
    states, text = Patient(uv_project, tmp_path / name / "history").state("place")
    assert states == {"warning"} and name in text and "move it to a local disk" in text


def test_variables_of_the_shell(patient):
    states, text = patient.state("settings", MLFLOW_EXPERIMENT_NAME="other")
    assert states == {"warning"}
    for name in ("MLFLOW_EXPERIMENT_NAME=other", "MLFLOW_PORT=", "MLFLOW_TRACKING_URI="):
        assert f"{name}" in text
    assert "-> unset MLFLOW_EXPERIMENT_NAME" in text
    states, text = patient.state("settings", MLFLOW_RUN_ID="1")
    assert "wrong" in states and "MLFLOW_RUN_ID would send part of the history elsewhere" in text


def test_settings_and_environment_that_do_not_fit(patient):
    with patient.project.settings(MLFLOW_BACKEND_STORE_URI=""):
        states, text = patient.state("settings")
        assert "wrong" in states and "no MLFLOW_BACKEND_STORE_URI in" in text
    file = patient.project.path / "pyproject.toml"
    kept = file.read_text()
    file.write_text(kept.replace('"mlflow>=3.17,<4"', '"mlflow>=9",\n    "not-installed"'))
    try:
        states, text = patient.state("environment")
    finally:
        file.write_text(kept)
    assert states == {"wrong"}
    assert "mlflow 3." in text and "not >=9; no not-installed" in text


def test_a_port_that_another_program_holds(patient):
    with socket.create_server(("127.0.0.1", patient.port)):
        states, text = patient.state("server")
    assert states == {"wrong"} and f"is held by process {os.getpid()}" in text


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_history_that_others_may_read(patient):
    patient.artifacts.chmod(0o755)
    states, text = patient.state("store")
    assert states == {"ok", "warning"} and f"can read {patient.artifacts}" in text


def test_an_old_store_is_found_and_imported_with_the_printed_command(uv_project, tmp_path):
    """Both kinds, left in the project by an MLflow that was started without settings."""
    patient = Patient(uv_project, tmp_path / "history")
    runs, other = uv_project.path / "mlruns", uv_project.path / "mlflow.db"
    old = History(uv_project, tmp_path / "old")
    old.make(RELEASES[-1].read_text())
    uv_project.python(
        f"""
import mlflow
mlflow.set_tracking_uri({runs.as_uri()!r})
mlflow.set_experiment("old file store")
with mlflow.start_run():
    mlflow.log_metric("m", 1)
""",
        MLFLOW_ALLOW_FILE_STORE="true",
    )
    old.database.rename(other)
    try:
        states, text = patient.state("strays")
        assert states == {"warning"}
        assert f"{runs} is an old file store" in text and f"{other} is another store" in text
        for name, count in (("migrate-filestore", 1), ("cp ", 3)):
            remedy = next(line for line in text.splitlines() if name in line)
            command = remedy.partition("stay there): ")[2]
            assert not uv_project.run(f"yes | {command}").returncode
            assert patient.ask("SELECT count(*) FROM runs") == [(count,)]
        assert not patient.run("start-server --check").returncode
        assert "two cannot be merged" in patient.state("strays")[1]
    finally:
        other.unlink()
        (uv_project.path / "mlruns").rename(tmp_path / "file-store")


def test_a_backup_that_was_named_is_remembered(patient, tmp_path):
    """It lies where nobody would look: the damaged database names it all the same."""
    place = Path(tmp_path / "usb disk")
    place.mkdir()
    done = patient.run(f"backup {shlex.quote(str(place))}")
    (file,) = place.iterdir()
    assert f"Backup   {file}\n" in done.stdout
    patient.database.write_bytes(b"damaged" * 1000)
    done = patient.run("start-server")
    command = done.stderr.strip().partition("restore it with: ")[2]
    assert str(file) in command
    assert not patient.project.run(command, **patient.env).returncode
    assert patient.state("store")[0] == {"ok"}
