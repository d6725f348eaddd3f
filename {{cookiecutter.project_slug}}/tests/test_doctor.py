"""What `doctor` finds and advises, on files made here: no server is needed."""

import json
import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections import namedtuple

import psutil
import pytest
from conftest import TABLES, add_run, write
from typer.testing import CliRunner

from {{ cookiecutter.__package }} import cli, config
from {{ cookiecutter.__package }}.ops import (
    backup,
    check_history,
    check_project,
    doctor,
    history,
    ownership,
)


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
    add_run(project, "a1", files=0)
    assert all("histories cannot be merged" in one for *_, one in found(doctor.strays)[:2])
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


def test_one_check_that_fails_costs_none_of_the_others(project, monkeypatch):
    def disk():
        yield "ok", "first"
        raise psutil.AccessDenied(1)

    monkeypatch.setattr(doctor, "CHECKS", (disk, doctor.files))
    found = doctor.examine()
    assert [(one.check, one.state) for one in found] == [("disk", "wrong"), ("files", "ok")]


@pytest.mark.parametrize(("encoding", "marks"), [("utf-8", "\u2713!\u2717"), ("cp1252", "+!x")])
def test_the_table_has_marks_that_the_terminal_can_show(monkeypatch, encoding, marks):
    terminal = namedtuple("terminal", "encoding")(encoding)
    monkeypatch.setattr(doctor.sys, "stdout", terminal)
    states = ("ok", "warning", "wrong")
    lines = doctor.table([doctor.Finding("a", state, "text", "do this") for state in states])
    assert [line[0] for line in lines.splitlines()[::2]] == [*marks]
    assert all("-> do this" in line for line in lines.splitlines()[1::2])


def test_the_command_exits_with_1_only_if_something_is_wrong(project, monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", (doctor.store, doctor.files))
    done = CliRunner().invoke(cli.app, ["doctor", "--json"])
    findings = json.loads(done.stdout)
    assert done.exit_code == 0 and [*findings[0]] == ["check", "state", "found", "remedy"]
    assert "is sound, 0 runs" in findings[0]["found"]
    add_run(project, "a1", files=0, tag="1")
    assert CliRunner().invoke(cli.app, ["doctor"]).exit_code == 1


def test_an_older_and_a_newer_database_are_told_apart(project):
    database = project / "tracking" / "mlflow.db"
    known = history.migrations()
    oldest = next(one for one, before in known.items() if before not in known)
    write(database, f"UPDATE alembic_version SET version_num = '{oldest}'")
    state, text, remedy = found(doctor.store)[0]
    assert state == "warning" and f"older MLflow ({len(known) - 1} migrations behind)" in text
    assert "start-server upgrades it, after a backup" in remedy
    write(database, "UPDATE alembic_version SET version_num = 'ffff00001111'")
    (finding,) = [one for one in doctor.examine() if one.check == "store"]
    assert finding.state == "wrong" and "was written by a newer MLflow" in finding.found


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_a_history_that_others_can_read_is_named(project):
    history.keep_private()
    assert [state for state, *_ in found(doctor.store)] == ["ok"]
    history.artifacts().chmod(0o755)
    (_, (state, text, _)) = found(doctor.store)
    assert state == "warning" and f"can read {history.artifacts()}" in text


def test_the_largest_experiments_are_shown_with_their_size(project, monkeypatch):
    add_run(project, "a1", files=0)
    (project / "tracking" / "artifacts" / "1" / "a1").mkdir(parents=True)
    (project / "tracking" / "artifacts" / "1" / "a1" / "big").write_bytes(bytes(3 << 20))
    script = "INSERT INTO experiments VALUES (1, 'mine', 1);"
    script += "".join(f"INSERT INTO experiments VALUES ({n}, 'e{n}', 1);" for n in range(2, 13))
    write(project / "tracking" / "mlflow.db", script)
    (_, text, remedy), *others = found(doctor.experiments)
    assert text == "mine: 1 run, 3.0 MiB of artifacts" and not remedy and len(others) == 9
    monkeypatch.setattr(check_history, "LARGE", 2 << 20)
    (_, _, remedy), (_, _, other), *_ = found(doctor.experiments)
    assert " clean lists the runs" in remedy and not other


def test_a_run_whose_process_has_ended_is_interrupted(project, monkeypatch):
    me = psutil.Process()
    tags = {
        "mine": f"{socket.gethostname()} {me.pid} {me.create_time()}",
        "another's pid": f"{socket.gethostname()} {me.pid} 1.0",
        "gone": f"{socket.gethostname()} 999999999 1.0",
        "elsewhere": "another-host 1 1.0",
        "elsewhere, long ago": "another-host 1 1.0",
    }
    script = ""
    for name, tag in tags.items():
        begin = 1 if "long ago" in name else int(time.time() * 1000)
        name = name.replace("'", "")
        script += f"INSERT INTO runs VALUES ('{name}', 1, '', {begin}, 'RUNNING', 'active');"
        script += f"INSERT INTO tags VALUES ('{name}', 'process', '{tag}');"
    write(project / "tracking" / "mlflow.db", script)
    findings = found(doctor.unfinished)
    assert {state for state, *_ in findings} == {"wrong"}
    interrupted = {text.removeprefix("run ").partition(" is ")[0] for _, text, _ in findings}
    assert interrupted == {"anothers pid", "gone", "elsewhere, long ago"}
    assert all(f"run {remedy.partition('--close ')[2]} is" in text for _, text, remedy in findings)

    with pytest.raises(config.UserError, match="mine is not an interrupted run"):
        doctor.close_run("mine")
    write(project / "tracking" / "mlflow.db", "UPDATE runs SET status = 'FINISHED'")
    assert found(doctor.unfinished)[0][0] == "ok"


def test_an_old_backup_and_one_inside_the_project_are_not_enough(project, tmp_path, monkeypatch):
    add_run(project, "a1", files=1, tag="1")
    now = time.time()
    write(project / "tracking" / "mlflow.db", f"UPDATE runs SET start_time = {int(now * 1000)}")
    file = backup.backup()
    assert [state for state, *_ in found(doctor.backups)] == ["ok", "warning"]
    os.utime(file, (now - 9 * 86400,) * 2)
    state, text, remedy = found(doctor.backups)[0]
    assert state == "warning" and "9 days older than the newest run" in text
    assert remedy.endswith(" backup")
    file = backup.backup(tmp_path)
    ((state, text, _),) = found(doctor.backups)
    assert state == "ok" and text.startswith("2 backups") and str(file) in text


def test_files_that_are_kept_elsewhere_are_told(project):
    script = "INSERT INTO runs VALUES ('a1', 1, 's3://bucket/a1', 1, 'FINISHED', 'active')"
    write(project / "tracking" / "mlflow.db", script)
    (state, text, remedy) = found(doctor.files)[0]
    assert state == "warning" and "the files of 1 run or model are elsewhere" in text
    assert "in no backup" in remedy


def test_missing_dependencies_and_an_unfit_python_are_named(project):
    pyproject = project / "pyproject.toml"
    head = '[project]\nrequires-python = ">=3.11"\n'
    pyproject.write_text(head + 'dependencies = ["mlflow>=9", "not-installed", "pytest"]\n')
    ((state, text, _),) = found(doctor.environment)
    assert state == "wrong" and "not >=9; no not-installed" in text and "pytest" not in text
    pyproject.write_text('[project]\nrequires-python = ">=9"\ndependencies = []\n')
    assert "Python 3." in found(doctor.environment)[0][1]
    pyproject.write_text(head + 'dependencies = ["mlflow"]\n')
    assert found(doctor.environment)[0][0] == "ok"


def test_variables_of_the_shell_are_named(project, tmp_path, monkeypatch):
    for name in (*check_project.REDIRECTING, *ownership.DIVERTING):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(check_project, "FROM_SHELL", frozenset())
    assert [state for state, *_ in found(doctor.settings)] == ["ok"]
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "other")
    monkeypatch.setenv("MLFLOW_RUN_ID", "1")
    findings = {text: (state, remedy) for state, text, remedy in found(doctor.settings)}
    assert findings == {
        "MLFLOW_RUN_ID would send part of the history elsewhere": ("wrong", "unset MLFLOW_RUN_ID"),
        "MLFLOW_EXPERIMENT_NAME=other comes from your shell": (
            "warning",
            "unset MLFLOW_EXPERIMENT_NAME",
        ),
    }
    monkeypatch.setattr(check_project, "FROM_SHELL", frozenset({"MLFLOW_PORT"}))
    monkeypatch.setenv("MLFLOW_PORT", "28999")  # valid: the way around a port that is taken
    assert ("ok", "MLFLOW_PORT=28999 comes from your shell", "") in found(doctor.settings)
    lines = config.SETTINGS.read_text("utf-8").replace("MLFLOW_PORT=", "#MLFLOW_PORT=")
    (tmp_path / "mlflow.env").write_text(lines, "utf-8")
    monkeypatch.setattr(check_project, "SETTINGS", tmp_path / "mlflow.env")
    state, text, _ = found(doctor.settings)[0]
    assert state == "wrong" and text.startswith("no MLFLOW_PORT in ")


def test_the_state_of_the_server_is_told(project, monkeypatch):
    uri = ownership.address()
    monkeypatch.setattr(check_project.access, "opened_by_shell", lambda: ["MLFLOW_HOST"])
    monkeypatch.setattr(ownership, "displaced_server", lambda: "")
    monkeypatch.setattr(ownership, "own_server", lambda: None)
    monkeypatch.setattr(ownership, "listens", lambda uri: False)
    (opened, free) = found(doctor.server)
    assert opened[0] == "warning" and opened[2] == "unset MLFLOW_HOST"
    assert free[:2] == ("ok", f"{uri} is free, no server runs")

    monkeypatch.setattr(check_project.access, "opened_by_shell", list)
    with history.owning("a start"):
        ((state, text, remedy),) = found(doctor.server)
        assert state == "wrong" and "in use by a start (process" in text and remedy
        monkeypatch.setattr(ownership, "own_server", lambda: uri)
        ((state, text, _),) = found(doctor.server)
        assert state == "ok" and "this history is served at a start" in text
    ((state, text, _),) = found(doctor.server)
    assert state == "ok" and f"served at {uri}: a plain MLflow" in text
    monkeypatch.setattr(ownership, "own_server", lambda: None)
    monkeypatch.setattr(ownership, "listens", lambda uri: True)
    ((state, text, _),) = found(doctor.server)
    assert state == "wrong" and f"{uri}" in text and "is held by" in text
    monkeypatch.setattr(ownership, "displaced_server", lambda: "its files are gone")
    assert found(doctor.server) == [("wrong", "its files are gone", "")]


@pytest.mark.parametrize(("free", "state"), [(0.1, "wrong"), (1, "warning"), (3, "ok")])
def test_a_disk_that_gets_full_is_named_in_time(project, monkeypatch, free, state):
    usage = namedtuple("usage", "free")(free * check_project.GIB)
    monkeypatch.setattr(check_project.psutil, "disk_usage", lambda path: usage)
    ((found_state, text, remedy),) = found(doctor.disk)
    assert found_state == state and bool(remedy) == (state != "ok")


@pytest.mark.parametrize("name", ["OneDrive - Contoso", "Dropbox", "Mobile Documents"])
def test_a_synchronised_folder_is_named(project, tmp_path, monkeypatch, name):
    assert found(doctor.place)[0][0] == "ok"
    (tmp_path / name).mkdir()
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", f"sqlite:///{tmp_path / name}/mlflow.db")
    ((state, text, remedy),) = found(doctor.place)
    assert state == "warning" and name in text and "move it to a local disk" in remedy


def test_a_path_that_gets_too_long_for_windows_is_named(project, tmp_path, monkeypatch):
    monkeypatch.setattr(check_project, "takes_short_paths_only", lambda: True)
    place = tmp_path / "artifacts"
    monkeypatch.setenv("MLFLOW_ARTIFACTS_DESTINATION", str(place))
    assert [state for state, *_ in found(doctor.place)] == ["ok"]
    file = place / ("x" * 50) / ("y" * (257 - len(str(place)) - 50))
    file.parent.mkdir(parents=True)
    file.touch()
    assert len(str(file)) == 259
    assert [state for state, *_ in found(doctor.place)] == ["ok"]
    file.with_name(f"{file.name}y").touch()
    _, (state, text, remedy) = found(doctor.place)
    assert state == "warning" and "260 characters" in text and "shorter path" in remedy


@pytest.mark.parametrize("kind", ["nfs4", "CIFS", "9p", "fuse.sshfs"])
def test_a_network_disk_is_named(project, monkeypatch, kind):
    partition = namedtuple("partition", "mountpoint fstype")
    mounts = [partition(project.anchor, "ext4"), partition(str(project), kind)]
    monkeypatch.setattr(check_project.psutil, "disk_partitions", lambda all: mounts)
    ((state, text, _),) = found(doctor.place)
    assert state == "warning" and kind.lower() in text
