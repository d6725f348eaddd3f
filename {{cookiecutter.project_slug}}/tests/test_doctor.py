"""What `doctor` finds and advises, on files made here: no server is needed."""

import os
import shutil
import sqlite3
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from {{ cookiecutter.__package }} import config
from {{ cookiecutter.__package }}.ops import (
    backup,
    check_history,
    check_project,
    doctor,
    history,
    shell,
)

TABLES = """
CREATE TABLE alembic_version (version_num TEXT);
CREATE TABLE experiments (experiment_id INTEGER, name TEXT);
CREATE TABLE runs (run_uuid TEXT, artifact_uri TEXT, start_time INTEGER);
CREATE TABLE tags (run_uuid TEXT, key TEXT, value TEXT);
CREATE TABLE logged_models (model_id TEXT, artifact_location TEXT, status INTEGER);
CREATE TABLE logged_model_tags (model_id TEXT, tag_key TEXT, tag_value TEXT);
CREATE TABLE registered_models (name TEXT);
INSERT INTO alembic_version VALUES ('{schema}');
INSERT INTO experiments VALUES (0, 'Default');
"""


def write(file: Path, script: str) -> None:
    with closing(sqlite3.connect(file)) as opened:
        opened.executescript(script)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return the folder of a project with a history that has no run."""
    root = tmp_path / "project"
    (root / "tracking" / "artifacts").mkdir(parents=True)
    for module in (backup, check_history, check_project, history, shell):
        monkeypatch.setattr(module, "ROOT", root)
    monkeypatch.setattr(history, "ELSEWHERE", root / "backups" / "elsewhere.txt")
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "sqlite:///tracking/mlflow.db")
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", "tracking/artifacts")
    monkeypatch.setenv("PROJECT_BACKUP_DIR", "")
    known = history.migrations()
    schema = next(iter(known.keys() - known.values()))
    write(root / "tracking" / "mlflow.db", TABLES.format(schema=schema))
    return root


def add_run(project: Path, name: str, files: int, tag: str | None = None) -> None:
    """Add a run with `files`, of which its writer recorded the number `tag`."""
    uri = f"mlflow-artifacts:/1/{name}/artifacts"
    script = f"INSERT INTO runs VALUES ('{name}', '{uri}', 1);"
    script += f"INSERT INTO tags VALUES ('{name}', 'process', 'h 1 1');"
    if tag is not None:
        script += f"INSERT INTO tags VALUES ('{name}', '{config.LOGGED_FILES}', '{tag}');"
    write(project / "tracking" / "mlflow.db", script)
    folder = project / "tracking" / "artifacts" / "1" / name / "artifacts" / "data"
    for number in range(files):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.txt").touch()


def found(check) -> list[tuple]:
    """Return state, text and remedy of each finding of a check."""
    return [(*finding, "")[:3] for finding in check()]


def test_a_run_may_have_more_files_than_were_recorded_but_not_fewer(project):
    add_run(project, "a1", files=2, tag="2")
    add_run(project, "b2", files=3, tag="2")
    add_run(project, "c3", files=0)  # nobody recorded anything: a gate, or an older version
    add_run(project, "d4", files=0, tag="my own")
    assert [state for state, *_ in found(doctor.files)] == ["ok"]

    add_run(project, "e5", files=1, tag="2")
    add_run(project, "f6", files=0, tag="1")
    (finding,) = found(doctor.files)
    assert finding[0] == "wrong"
    assert "1/e5/artifacts (1 of 2), 1/f6/artifacts (0 of 1)" in finding[1]


def test_a_model_s_files_are_counted_where_somebody_recorded_them(project):
    script = ""
    for name, tag in (("m-a", "1"), ("m-b", None)):
        uri = f"mlflow-artifacts:/1/models/{name}/artifacts"
        script += f"INSERT INTO logged_models VALUES ('{name}', '{uri}', 2);"
        if tag:
            script += f"INSERT INTO logged_model_tags VALUES ('{name}', 'logged_files', '{tag}');"
    write(project / "tracking" / "mlflow.db", script)
    states = {state: text for state, text, _ in found(doctor.files)}
    assert states.keys() == {"wrong", "warning"}
    assert "m-a/artifacts (0 of 1)" in states["wrong"] and "m-b" in states["warning"]


def test_a_folder_without_a_run_counts_only_if_it_holds_a_file(project):
    for left in ("1/a1/artifacts/model", "1/models/m-b/artifacts"):  # by `mlflow gc`
        (project / "tracking" / "artifacts" / left).mkdir(parents=True)
    assert [state for state, *_ in found(doctor.files)] == ["ok"]

    (project / "tracking" / "artifacts" / "1" / "a1" / "artifacts" / "model" / "x").touch()
    (finding,) = found(doctor.files)
    assert finding[0] == "warning" and "1/a1/artifacts" in finding[1] and "m-b" not in finding[1]


def test_an_advised_restore_says_what_would_be_lost(project):
    add_run(project, "a1", files=1, tag="1")
    file = backup.backup()
    assert history.runs_in_backup(file) == 1
    add_run(project, "b2", files=0, tag="1")
    (finding,) = found(doctor.files)
    assert "The newest backup has 1 run (this history has 2); restore it with: " in finding[2]

    old = file.with_name(file.name.replace("-2", "-1", 1))  # by a version that wrote no head
    with tarfile.open(file) as archive, tarfile.open(old, "w:gz") as other:
        for member in archive:
            other.addfile(member, archive.extractfile(member))
    assert history.runs_in_backup(old) == 1
    os.utime(old, (9e9, 9e9))
    assert "has 1 run (this history has 2)" in history.how_to_restore()
    old.write_text("damaged")
    os.utime(old, (9e9, 9e9))
    assert "cannot be read (this history has 2)" in history.how_to_restore()


def test_a_lost_database_still_has_its_backups(project):
    assert found(doctor.backups) == [("ok", "there is no run to back up yet", "")]
    add_run(project, "a1", files=1, tag="1")
    file = backup.backup()
    (project / "tracking" / "mlflow.db").unlink()
    (store,) = found(doctor.store)
    assert "The newest backup has 1 run; restore it" in store[1]
    ((state, text, _),) = found(doctor.backups)
    assert state == "ok" and str(file) in text
    file.unlink()
    assert found(doctor.backups) == [("warning", "there is no backup", "")]
    (project / "tracking" / "mlflow.db").write_text("damaged " * 1000)
    assert found(doctor.backups) == [("warning", "there is no backup", "")]


def test_a_stray_store_is_worth_what_it_holds(project):
    stray = project / "mlflow.db"
    write(stray, TABLES)
    old = project / "mlruns"
    (old / "0").mkdir(parents=True)
    (old / "0" / "meta.yaml").touch()
    remedies = [remedy for _, _, remedy in found(doctor.strays)[:2]]
    assert all(one.startswith("it is empty: delete it") for one in remedies)
    assert remedies[0].endswith(str(stray)) and remedies[1].endswith(str(old))

    write(stray, "INSERT INTO registered_models VALUES ('mine')")
    (old / "0" / "run").mkdir()
    (old / "0" / "run" / "meta.yaml").touch()
    assert all("import it" in remedy for _, _, remedy in found(doctor.strays)[:2])
    stray.write_text("of another program")
    assert found(doctor.strays)[0][2] == "it cannot be read: find out what it is"


def test_a_folder_that_is_missing_is_made_in_the_project_only(project, tmp_path, monkeypatch):
    add_run(project, "a1", files=1, tag="1")
    disk = tmp_path / "disk"
    monkeypatch.setenv("PROJECT_BACKUP_DIR", str(disk))
    for named in (None, disk, disk / "file.tar.gz", project / "typo"):
        told = "does not exist: mount its disk or create it"
        with pytest.raises(config.UserError, match=told):
            backup.backup(named)
    assert not disk.exists() and not (project / "typo").exists()
    disk.mkdir()
    assert backup.backup().parent == disk
    assert backup.backup(disk / "file.tar.gz") == disk / "file.tar.gz"
    monkeypatch.setenv("PROJECT_BACKUP_DIR", "kept/backups")
    assert backup.backup().parent == project / "kept" / "backups"


def test_the_setting_s_old_name_is_read_and_told(project, tmp_path, monkeypatch, capsys):
    add_run(project, "a1", files=1, tag="1")
    monkeypatch.setenv("MLFLOW_BACKUP_DIR", str(tmp_path))
    assert backup.backup().parent == tmp_path
    sentence = "MLFLOW_BACKUP_DIR is called PROJECT_BACKUP_DIR now"
    assert capsys.readouterr().out.count(sentence) == 1
    assert ("warning", sentence) in [one[:2] for one in found(doctor.settings)]


@pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")
def test_a_history_that_git_would_take_is_named(project, monkeypatch):
    assert found(doctor.ignored) == []  # no repository
    subprocess.run(["git", "init", "-q", project], check=True)
    ignore = project / ".gitignore"
    ignore.write_text("/tracking/*\n/backups/\n/serving/\n")
    assert [state for state, *_ in found(doctor.ignored)] == ["ok"]

    ignore.write_text("/serving/\n")
    add_run(project, "a1", files=1)
    (project / "backups").mkdir()
    (project / "backups" / "old.tar.gz").touch()
    shown = [remedy.split()[1] for _, _, remedy in found(doctor.ignored)]
    assert shown == ["/tracking/mlflow.db*", "/tracking/artifacts/", "/backups/"]
    subprocess.run(["git", "add", "-A"], cwd=project, check=True)
    ignore.write_text("/tracking/*\n/backups/\n/serving/\n")
    tracked = found(doctor.ignored)  # what is in git already, no rule leaves out
    assert [state for state, *_ in tracked] == ["warning"] * 3
    for _, _, remedy in tracked:
        subprocess.run(remedy.partition("then: ")[2], shell=True, cwd=project, check=True)
    assert [state for state, *_ in found(doctor.ignored)] == ["ok"]
