"""A server and a history of the tests' own: nothing here touches `tracking/`."""

import os
import socket
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

with socket.create_server(("127.0.0.1", 0)) as probe:
    PORT = probe.getsockname()[1]
HISTORY = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)

# Before the package is imported: what is set already wins over mlflow.env.
os.environ |= {
    "MLFLOW_PORT": str(PORT),
    "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{PORT}",
    "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{Path(HISTORY.name, 'mlflow.db').as_posix()}",
    "MLFLOW_ARTIFACTS_DESTINATION": Path(HISTORY.name, "artifacts").as_posix(),
    "PROJECT_BACKUP_DIR": Path(HISTORY.name, "backups").as_posix(),
}
Path(HISTORY.name, "backups").mkdir()


@pytest.fixture(scope="session")
def tracking_server():
    """Run the project's own server on the tests' history."""
    from {{ cookiecutter.__package }}.ops.server import running

    with running(PORT):
        yield


@pytest.fixture(autouse=True)
def proved_anew():
    """Let each test prove its server itself, whatever an earlier one has proved."""
    from {{ cookiecutter.__package }}.ops import ownership

    ownership.connect.cache_clear()


# What the checks and backups need of MLflow's tables.
TABLES = """
CREATE TABLE alembic_version (version_num TEXT);
CREATE TABLE experiments (experiment_id INTEGER, name TEXT, creation_time INTEGER);
CREATE TABLE runs (run_uuid TEXT, experiment_id INTEGER, artifact_uri TEXT, start_time INTEGER,
    status TEXT, lifecycle_stage TEXT);
CREATE TABLE tags (run_uuid TEXT, key TEXT, value TEXT);
CREATE TABLE logged_models (model_id TEXT, artifact_location TEXT, status INTEGER);
CREATE TABLE logged_model_tags (model_id TEXT, tag_key TEXT, tag_value TEXT);
CREATE TABLE registered_models (name TEXT);
INSERT INTO alembic_version VALUES ('{schema}');
INSERT INTO experiments VALUES (0, 'Default', 1);
"""


def write(file: Path, script: str) -> None:
    """Execute an SQL script on a database."""
    with closing(sqlite3.connect(file)) as database:
        database.executescript(f"PRAGMA synchronous = OFF; BEGIN; {script}; COMMIT;")


def add_run(project: Path, name: str, files: int, tag: str | None = None) -> None:
    """Add a run with `files`, of which its writer recorded the number `tag`."""
    uri = f"mlflow-artifacts:/1/{name}/artifacts"
    script = f"INSERT INTO runs VALUES ('{name}', 1, '{uri}', 1, 'FINISHED', 'active');"
    script += f"INSERT INTO tags VALUES ('{name}', 'process', 'h 1 1');"
    if tag is not None:
        script += f"INSERT INTO tags VALUES ('{name}', 'logged_files', '{tag}');"
    write(project / "tracking" / "mlflow.db", script)
    folder = project / "tracking" / "artifacts" / "1" / name / "artifacts" / "data"
    for number in range(files):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").write_text(f"{number}")


def content(project: Path) -> dict[str, bytes]:
    """Return the files of a project's history."""
    files = [file for file in (project / "tracking").rglob("*") if file.is_file()]
    names = [file.relative_to(project).as_posix() for file in files]
    found = {name: file.read_bytes() for name, file in zip(names, files, strict=True)}
    return {name: text for name, text in found.items() if not name.endswith(".db.lock")}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return the folder of a project with a history that has no run."""
    from {{ cookiecutter.__package }}.ops import (
        backup,
        check_history,
        check_project,
        history,
        ownership,
        shell,
    )

    root = tmp_path / "project"
    (root / "tracking" / "artifacts").mkdir(parents=True)
    for module in (backup, check_history, check_project, history, shell):
        monkeypatch.setattr(module, "ROOT", root)
    for module in (backup, history):
        monkeypatch.setattr(module, "ELSEWHERE", root / "backups" / "elsewhere.txt")
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "sqlite:///tracking/mlflow.db")
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "tracking/artifacts")
    monkeypatch.setenv("PROJECT_BACKUP_DIR", "")
    monkeypatch.setattr(ownership, "listeners", lambda: iter(()))  # whatever else runs here
    known = history.migrations()
    newest = next(iter(known.keys() - known.values()))
    write(root / "tracking" / "mlflow.db", TABLES.format(schema=newest))
    return root
