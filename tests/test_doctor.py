"""What is wrong, what mends it: each fault injected for real, each remedy typed as printed."""

import json
import re

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

    model = next(patient.artifacts.glob("1/models/m-*"))
    (name,) = patient.ask("SELECT run_uuid FROM runs WHERE status = 'FINISHED'")[0]
    (patient.artifacts / "1" / name).rename(patient.folder / "run")
    model.rename(patient.folder / "model")
    states, text = patient.state("files")
    assert "wrong" in states and "files of 2 runs or models are missing: " in text
    assert re.search(rf"{model.name}/artifacts \(0 of \d+\)", text)
    assert re.search(rf"{name}/artifacts \(0 of \d+\)", text)


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
    finally:
        other.unlink()
        (uv_project.path / "mlruns").rename(tmp_path / "file-store")
