"""One owner at a time, and a schema that is read as MLflow reads it."""

import os
from collections import namedtuple
from pathlib import Path

import pytest

from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.ops import backup, history


def test_a_history_has_one_owner_at_a_time(project):
    assert history.owner() is None
    with history.owning("a restore"):
        assert history.owner() == f"a restore (process {os.getpid()})"
        with (
            pytest.raises(UserError, match="in use by a restore .process .* wait for it"),
            history.owning("a start", seconds=0.1),
        ):
            pass
    assert history.owner() is None and not history.database(".owner").exists()


def test_an_owner_that_wrote_nothing_yet_is_one(project):
    with history.owning("a start"):
        history.database(".owner").unlink()
        assert history.owner() == "a process that is starting or stopping"


def test_what_a_dead_owner_wrote_is_not_believed(project):
    """Its process number may belong to another program by now."""
    history.database(".lock").touch()
    history.database(".owner").write_text(f"http://127.0.0.1:1 (process {os.getpid()})")
    assert history.owner() is None


def test_a_place_that_cannot_be_written_to_is_told(project, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    with pytest.raises(UserError, match="The history cannot be written to"), history.owning("it"):
        pass


def test_a_full_disk_is_named(project, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(history.shutil, "disk_usage", lambda folder: usage(1 << 30))
    assert history.full_disk() == ""
    monkeypatch.setattr(history.shutil, "disk_usage", lambda folder: usage(1 << 20))
    folder = history.database().parent
    assert history.full_disk() == f"The disk of {folder} is full: free some space and try again."
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql://host/db")
    assert history.full_disk() == ""


def test_the_schema_is_read_as_mlflow_s_own_tool_reads_it():
    """Private: MLflow's folder of migrations and their file format."""
    import mlflow.store
    from alembic.script import ScriptDirectory

    folder = ScriptDirectory(str(Path(mlflow.store.__file__).parent / "db_migrations"))
    known = history.migrations()
    assert {one.revision: one.down_revision for one in folder.walk_revisions()} == {
        one: None if before == "None" else before for one, before in known.items()
    }
    assert {folder.get_current_head()} == known.keys() - {*known.values()}


@pytest.mark.usefixtures("tracking_server")
def test_a_backup_is_made_while_the_server_runs():
    assert history.steps_behind(history.database()) == 0
    file = backup.backup()
    assert backup.unpack(file, "Reading")["rows"] == history.row_counts(history.database())
    with pytest.raises(UserError, match="is in use by http"):
        backup.restore(file)
