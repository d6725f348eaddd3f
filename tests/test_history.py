"""A history that cannot be lost: one owner, crashes, backups, upgrades, damage, a full disk."""

import contextlib
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import HANG_SECONDS, ROOT, Running, assert_gone, free_port, wait_until

sys.path.append(str(ROOT / "benchmarks"))
import writers

pytestmark = pytest.mark.slow
RELEASES = sorted((ROOT / "tests" / "histories").glob("*.sql"))
# Writes down whom a Python process asks for, before it does.
WATCH = """
import os, sys
def watch(event, args):
    if event == "socket.connect" and not isinstance(args[1], (str, bytes)):
        print(args[1][0], file=open(os.environ["WATCH"], "a"))
    elif event == "socket.getaddrinfo":
        print(args[0], file=open(os.environ["WATCH"], "a"))
sys.addaudithook(watch)
"""


class History:
    """A history of its own for a project's commands, on a port of its own."""

    def __init__(self, project, folder, **env):
        self.project, self.folder = project, folder
        self.database, self.artifacts = folder / "mlflow.db", folder / "artifacts"
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.env = {
            "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{self.database}",
            "MLFLOW_ARTIFACTS_DESTINATION": str(self.artifacts),
            "MLFLOW_PORT": str(self.port),
            "MLFLOW_TRACKING_URI": self.uri,
            "PROJECT_BACKUP_DIR": str(folder.parent / f"{folder.name}-backups"),
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        } | env
        folder.mkdir(exist_ok=True)
        Path(self.env["PROJECT_BACKUP_DIR"]).mkdir(exist_ok=True)

    def run(self, words, **env):
        """Run a command of the project, as `start-server --check` or `doctor`, on this history."""
        name, _, others = words.partition(" ")
        if name != "start-server":
            name, others = self.project.slug, words
        return self.project.run(f"{self.project.script(name)} {others}", **self.env | env)

    def is_well(self):
        """Assert that `doctor` finds nothing wrong; return what it says."""
        done = self.run("doctor")
        assert not done.returncode, done.stdout + done.stderr
        return done.stdout

    def start(self, words="start-server", **env):
        command = f"{self.project.script(words.split()[0])} {' '.join(words.split()[1:])}"
        env = self.project.environ | self.env | env
        return Running(f"exec {command}", self.project.path, env)

    @contextlib.contextmanager
    def serving(self, **env):
        """Run the server while a block runs."""
        running = self.start(**env)
        try:
            running.expect("Ready")
            yield running
        finally:
            running.end()

    def write(self, folder, *words):
        """Start clients that log; return the running command."""
        folder.mkdir(exist_ok=True)
        python = self.project.path / ".venv" / "bin" / "python"
        command = [python, ROOT / "benchmarks" / "writers.py", folder, *words]
        env = self.project.environ | self.env | {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        return Running("exec " + subprocess.list2cmdline(command), folder, env)

    def make(self, script):
        """Make the database from text, as an older release would have left it."""
        with contextlib.closing(sqlite3.connect(self.database)) as opened:
            opened.executescript(script)
        note = self.artifacts / "1" / "note.txt"
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text("kept")
        hidden = note.with_name(".owner") / "me.txt"  # a user's, though it looks like ours
        hidden.parent.mkdir()
        hidden.write_text("kept too")

    def ask(self, query):
        with contextlib.closing(sqlite3.connect(self.database)) as opened:
            return opened.execute(query).fetchall()

    def content(self):
        """Return every file of the history with its bytes."""
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        return {
            str(file.relative_to(self.folder)): file.read_bytes()
            for file in files
            if file.suffix != ".lock"
        }

    def backups(self):
        return sorted(Path(self.env["PROJECT_BACKUP_DIR"]).glob("*"))


@pytest.fixture
def history(uv_project, tmp_path):
    return History(uv_project, tmp_path / "history")


@pytest.fixture
def old(history):
    """Return a history of an old release, which has three runs and no server yet."""
    history.make(RELEASES[0].read_text())
    return history


# One owner


def test_of_two_servers_started_at_once_one_serves_and_a_killed_one_leaves_no_server(history):
    both = [history.start(), history.start()]
    try:
        wait_until(lambda: any(command.process.poll() is not None for command in both))
        loser = next(command for command in both if command.process.poll() is not None)
        told = loser.expect("already runs")
        assert told.startswith(f"This project's server already runs at {history.uri} (process ")
        assert loser.process.returncode == 0
        (winner,) = (command for command in both if command is not loser)
        winner.expect(f"Ready    {history.uri}")
        assert winner.process.poll() is None

        done = history.run("start-server --port 23456")
        assert (done.returncode, done.stdout) == (0, told)
        assert f"served at {history.uri} (process " in history.run("doctor").stdout
        loses_its_files(history)

        family = psutil.Process(winner.process.pid).children(recursive=True)
        assert family
        winner.process.kill()
        assert_gone(family)
    finally:
        for command in both:
            command.end()
    done = history.run("start-server --check")
    assert not done.returncode, done.stderr
    assert f"Checked: the server answers at {history.uri}" not in done.stdout


def loses_its_files(history):
    """Move away what a server uses, put a copy in its place: nobody takes it for the history's."""
    aside, before = history.folder.with_name("aside"), history.content()
    folder, database = history.folder, history.database
    changes = {
        "folder moved": lambda: folder.rename(aside),
        "folder copied": lambda: shutil.copytree(aside, folder),
        "folder back": lambda: (shutil.rmtree(folder), aside.rename(folder)),
        "database moved": lambda: database.rename(aside),
        "database copied": lambda: shutil.copy(aside, database),
        "database back": lambda: aside.replace(database),
    }
    for name, change in changes.items():
        change()
        if "back" in name:
            assert "already runs" in history.run("start-server").stdout
            continue
        for words in ("train", "start-server"):
            done = history.run(words)
            assert (done.returncode, done.stdout) == (1, ""), (name, words)
            told = re.sub(r"\(process \d+\)", "(process N)", done.stderr)
            assert told == (
                f"The server at {history.uri} (process N) still uses files of {folder} that were "
                "moved, deleted or replaced: press Ctrl-C in its terminal, then try again.\n"
            ), (name, words)
    assert history.content() == before


def test_a_server_that_nobody_watches_any_more_ends(history):
    """Both start-server and its child were killed: no worker goes on with a lock that is free."""
    command = history.start(MLFLOW_WORKERS="2")
    command.expect("Ready")
    child, *others = command.children()
    for process in (psutil.Process(command.process.pid), child):
        process.kill()
    assert_gone([child, *others])
    command.process.wait(HANG_SECONDS)
    assert "no server runs" in history.run("doctor").stdout


def test_a_plain_mlflow_on_this_history_is_named(history, running):
    """It knows nothing of the lock: whoever comes second has to see that it answers, anywhere."""
    mlflow = f"{history.project.script('mlflow')} --env-file mlflow.env server"
    mlflow += f" --port {(port := free_port())}"
    uri = f"http://127.0.0.1:{port}"
    plain = running(mlflow, history.project.path, **history.env)
    plain.expect("Application startup complete")
    done = history.run("start-server")
    assert done.returncode == 0
    told = f"This project's server already runs at {uri}: a plain MLflow (process "
    assert done.stdout.startswith(told)
    told = history.run("doctor").stdout
    assert "without start-server" in told and "end it" not in told  # the guide recommends it
    done = history.run("restore nothing.tar.gz")
    told = f"This history's server runs at {uri}: a plain MLflow (process "
    assert done.stderr.startswith(told)
    assert done.stderr.endswith(". To stop it, press Ctrl-C in its terminal, then try again.\n")
    history.folder.rename(history.folder.with_name("aside"))  # it stays this place's server
    assert history.run("restore nothing.tar.gz").stderr == done.stderr


# Crashes


def test_what_was_acknowledged_survives_kill_9(history, tmp_path):
    """Of start-server and all its processes, while eight clients log; 20 times in benchmarks/."""
    number, folder = int(os.environ.get("KILLS", 2)), tmp_path / "log"
    if mode := os.environ.get("JOURNAL_MODE"):
        assert not history.run("start-server --check").returncode
        assert history.ask(f"PRAGMA journal_mode={mode}") == [(mode,)]
    server = history.start()
    server.expect("Ready")
    load = history.write(folder, "--clients", "8")
    try:
        for _ in range(number):
            wait_for_more(folder)
            time.sleep(random.uniform(0, 1.5))  # any moment
            family = [psutil.Process(server.process.pid), *server.children()]
            for process in family:
                process.kill()
            assert_gone(family)
            assert writers.lost(folder, history.database, history.artifacts)[1] == []
            server = history.start()
            server.expect("Ready")
        wait_for_more(folder)
        (folder / "stop").touch()
        assert load.process.wait(HANG_SECONDS) == 0
        count, missing = writers.lost(folder, history.database, history.artifacts)
        assert missing == [] and count > 50 * number
        given_up = [
            line for file in folder.glob("*.jsonl") for line in file.open() if "gave" in line
        ]
        assert len(given_up) >= number  # the kills came while clients were at it
    finally:
        (folder / "stop").touch()
        load.end()
        server.end()


def wait_for_more(folder):
    """Return once clients have seen some more acknowledged."""

    def size():
        return sum(file.stat().st_size for file in folder.glob("*.jsonl"))

    begin = size()
    wait_until(lambda: size() >= begin + 50_000)


def test_a_run_that_was_cut_off_is_reported_and_closed(uv_project, server, trained, running):
    words = f"exec {uv_project.script('my-ml-project')} train -p n_estimators=100000"
    command = running(words, uv_project.path)
    command.expect("Training on")
    doctor = f"{uv_project.script('my-ml-project')} doctor"
    assert "1 run in progress, none was interrupted" in uv_project.run(doctor).stdout
    command.process.kill()
    command.process.wait(HANG_SECONDS)

    done = uv_project.run(doctor)
    assert done.returncode == 1
    remedy = next(line for line in done.stdout.splitlines() if "doctor --close" in line)
    close = remedy.partition("-> ")[2]
    run_id = close.split()[-1]
    assert uv_project.run(close).stdout.endswith(f"Closed   {run_id}: KILLED\n")
    assert uv_project.run(doctor).returncode == 0


def fill(file):
    """Write to a file until its disk is full."""
    with file.open("wb", buffering=0) as opened, contextlib.suppress(OSError):
        while opened.write(bytes(4096)):
            pass


@pytest.fixture
def disk(tmp_path):
    """Return a folder that is a disk of its own, of 64 MB, which only root can make."""
    folder = tmp_path / "disk"
    folder.mkdir()
    as_root = ["sudo", "-n"] * (os.geteuid() != 0 and shutil.which("sudo") is not None)
    options = f"size=64m,mode=700,uid={os.getuid()}"
    words = [*as_root, "mount", "-t", "tmpfs", "-o", options, "tmpfs", folder]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a disk of its own cannot be made here: {done.stderr.strip()}")
    yield folder
    subprocess.run([*as_root, "umount", folder], check=True)


def test_a_full_disk_is_named_and_costs_nothing(uv_project, disk, tmp_path):
    history = History(uv_project, disk / "history")
    history.env["PROJECT_BACKUP_DIR"] = str(tmp_path / "backups")
    (tmp_path / "backups").mkdir()
    with history.serving():
        assert not history.run("train -p n_estimators=3").returncode
        before = history.content()
        room = shutil.disk_usage(disk).free - 600_000  # a model needs twice as much
        (disk / "filler").write_bytes(bytes(room))
        done = history.run("train")
        assert done.returncode == 1 and "Traceback" not in done.stderr
        told = f"The disk of {history.folder} is full: free some space and try again."
        assert told in done.stderr
        fill(disk / "rest")
        done = history.run("train")
        assert "The history cannot be written to: [Errno 28]" in done.stderr
        assert history.run("doctor").returncode == 1
        assert history.run("backup").returncode == 0  # it goes elsewhere
        (disk / "filler").unlink()
        (disk / "rest").unlink()
        assert not history.run("train -p n_estimators=3").returncode
    fill(disk / "rest")
    done = history.run("start-server --check")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "[Errno 28] No space left" in done.stderr
    now = history.content()
    kept = {name: now[name] for name in before if not name.startswith("mlflow.db")}
    assert kept.items() <= before.items()
    assert history.ask("PRAGMA integrity_check") == [("ok",)]
    finished = history.ask("SELECT status FROM runs ORDER BY start_time")
    assert finished == [("FINISHED",), ("FAILED",), ("FINISHED",)]


# Many at once


@pytest.fixture(scope="module")
def crowd(uv_project, tmp_path_factory):
    """Return a history that 32 clients met at once, and a backup made meanwhile."""
    folder = tmp_path_factory.mktemp("crowd")
    (folder / "sitecustomize.py").write_text(WATCH)
    history = History(uv_project, folder / "history")
    history.asked, history.log = folder / "asked.txt", folder / "log"
    with history.serving(PYTHONPATH=str(folder), WATCH=str(history.asked)):
        load = history.write(history.log, "--clients", "32", "--runs", "5")
        load.expect("Writing")
        wait_for_more(history.log)
        history.known = {file.name: file.read_text() for file in history.log.glob("*.jsonl")}
        history.backed_up = history.run("backup")
        load.expect("Wrote for")
        history.exit = load.process.wait(HANG_SECONDS)
    return history


def test_thirty_two_clients_lose_nothing_on_a_fresh_history(crowd):
    """With MLflow's own pool of connections a third of them fail (pool size in mlflow.env)."""
    assert crowd.exit == 0
    count, missing = writers.lost(crowd.log, crowd.database, crowd.artifacts)
    assert count == 32 * 5 * (1 + writers.BATCHES + 2) and missing == []
    assert crowd.ask("SELECT count(*), min(status) FROM runs") == [(160, "FINISHED")]


def test_a_server_asks_nobody_beyond_this_machine(crowd):
    asked = set(crowd.asked.read_text().split())
    assert asked and asked <= {"127.0.0.1", "localhost", "::1", "None", "0.0.0.0"}


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_nobody_else_on_the_machine_can_read_the_history(crowd):
    assert crowd.artifacts.stat().st_mode & 0o777 == 0o700
    assert crowd.database.stat().st_mode & 0o777 == 0o600
    for file in [*crowd.artifacts.glob("1/**/*"), *crowd.backups()]:
        assert not file.stat().st_mode & 0o077, file


def test_a_backup_while_writers_write_holds_all_that_was_acknowledged(crowd, tmp_path):
    assert not crowd.backed_up.returncode, crowd.backed_up.stderr
    log = tmp_path / "log"
    log.mkdir()
    for name, text in crowd.known.items():
        (log / name).write_text(text)
    other = History(crowd.project, tmp_path / "other")
    done = other.run(f"restore {crowd.backups()[0]}")
    assert not done.returncode, done.stderr
    count, missing = writers.lost(log, other.database, other.artifacts)
    assert count > 50 and missing == []
    assert 0 < other.ask("SELECT count(*) FROM runs")[0][0] <= 160


# Backups


def test_a_restored_history_is_the_same(uv_project, server, trained, tmp_path):
    """Compared through MLflow's API: runs, values, versions, artifacts' bytes, predictions."""
    file = tmp_path / "elsewhere" / "kept.tar.gz"
    file.parent.mkdir()
    done = uv_project.run(f"{uv_project.script('my-ml-project')} backup {file}")
    assert not done.returncode, done.stderr
    assert "Backing up" in done.stdout and "Verifying" in done.stdout
    assert f"Backup   {file}\n" in done.stdout
    assert [*file.parent.iterdir()] == [file]

    other = History(uv_project, tmp_path / "other")
    other.make(RELEASES[0].read_text())
    replaced = other.content()
    (other.folder / "mlflow.db-journal").write_bytes(b"left by a crash")
    done = other.run(f"restore {file}")
    assert not done.returncode, done.stderr
    kept = Path(re.search(r"Before   (.+?)( \(3 runs\))?: delete it", done.stdout)[1])
    assert (kept / "mlflow.db").read_bytes() == replaced["mlflow.db"]
    assert (kept / "artifacts" / "1" / "note.txt").read_text() == "kept"
    assert (kept / "mlflow.db-journal").exists()
    assert not (other.folder / "mlflow.db-journal").exists()
    with other.serving():
        assert described(other.project, other.uri) == described(uv_project, uv_project.uri)


def described(project, uri):
    """Return what MLflow's API tells of a whole history."""
    code = """
import hashlib, mlflow
from pathlib import Path
from my_ml_project import data
client = mlflow.MlflowClient()
for run in client.search_runs(["1"], order_by=["run_id"]):
    print(run.info.run_id, run.info.status, run.info.artifact_uri, sorted(run.data.params.items()))
    print(sorted(run.data.metrics.items()), sorted(run.data.tags.items()))
    for file in sorted(Path(client.download_artifacts(run.info.run_id, "")).rglob("*")):
        print(file.name, file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest())
for one in client.search_model_versions("name = 'my-ml-project'"):
    print(one.name, one.version, one.run_id, one.source, one.aliases)
    rows = data.load().drop(columns=data.TARGET)
    model = mlflow.pyfunc.load_model(f"models:/{one.name}/{one.version}")
    print(hashlib.sha256(model.predict(rows).tobytes()).hexdigest())
"""
    return project.python(code, MLFLOW_TRACKING_URI=uri)


# Upgrades


@pytest.mark.parametrize("release", RELEASES, ids=lambda file: file.stem)
def test_an_old_history_is_backed_up_and_upgraded(history, release):
    history.make(release.read_text() + "UPDATE experiments SET creation_time = NULL;")
    tables = ("runs", "metrics", "latest_metrics", "params", "tags", "model_versions")
    values = history.ask("SELECT key, value, step FROM metrics ORDER BY value")
    before = history.ask("SELECT * FROM runs ORDER BY 1")
    counts = [history.ask(f"SELECT count(*) FROM {name}") for name in tables]
    done = history.run("start-server --check")
    assert not done.returncode, done.stderr
    order = ["Backing up", "Verifying", "Backup ", "Upgrading", "Starting", "Checked"]
    places = [done.stdout.index(text) for text in order]
    assert places == sorted(places)
    assert [history.ask(f"SELECT count(*) FROM {name}") for name in tables] == counts
    assert history.ask("SELECT key, value, step FROM metrics ORDER BY value") == values
    (backup,) = history.backups()
    if release == RELEASES[0]:  # the way back is the same from each
        assert "is sound, 3 runs" in history.run("doctor").stdout
        assert "(3 runs): delete it" in history.run(f"restore {backup}").stdout
        assert history.ask("SELECT * FROM runs ORDER BY 1") == before
        assert "by an older MLflow" in history.run("doctor").stdout


def test_an_upgrade_that_fails_changes_nothing(old):
    """A table is in the way of a migration: mlflow issue #19943."""
    with contextlib.closing(sqlite3.connect(old.database)) as opened:
        opened.execute("CREATE TABLE secrets (in_the_way TEXT)")
    before = old.content()
    done = old.run("start-server")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    told = f"was not changed (its backup is {old.backups()[0]}"
    assert told in done.stderr and "secrets already exists" in done.stderr
    assert old.content() == before
