"""A history that cannot be lost: one owner, crashes, backups, upgrades, damage, a full disk."""

import contextlib
import io
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tarfile
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
        assert len(family) >= 2
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
        for words in ("train", "restore nothing", "start-server", "start-server --check"):
            done = history.run(words)
            assert (done.returncode, done.stdout) == (1, ""), (name, words)
            told = re.sub(r"\(process \d+\)", "(process N)", done.stderr)
            assert told == (
                f"The server at {history.uri} (process N) still uses files of {folder} that were "
                "moved, deleted or replaced: press Ctrl-C in its terminal, then try again.\n"
            ), (name, words)
        done = history.run("doctor --json")
        serving = next(one for one in json.loads(done.stdout) if one["check"] == "server")
        assert serving["state"] == "wrong" and "press Ctrl-C" in serving["found"]
    assert history.content() == before


def test_a_server_that_nobody_watches_any_more_is_seen(history, tmp_path):
    """Both start-server and its child were killed: the lock is free, but uvicorn answers."""
    command = history.start("start-server --port " + str(port := free_port()))
    command.expect("Ready")
    child, *others = command.children()
    for process in (psutil.Process(command.process.pid), child):
        process.kill()
    assert_gone([child])
    try:
        uri = f"http://127.0.0.1:{port}"
        done = history.run("start-server")
        assert done.returncode == 0
        pids = " or ".join(str(process.pid) for process in others)
        assert f"already runs at {uri}: a plain MLflow (process {pids})" in done.stdout
        assert f"This history's server runs at {uri}: a plain" in history.run("restore x").stderr
    finally:
        for process in others:
            process.kill()
        command.process.wait(HANG_SECONDS)


def test_what_a_dead_owner_wrote_is_not_believed(history):
    """Its process number belongs to another program by now: to this test."""
    history.folder.joinpath("mlflow.db.lock").touch()
    history.folder.joinpath("mlflow.db.owner").write_text(f"{history.uri} (process {os.getpid()})")
    done = history.run("doctor --json")
    serving = next(one for one in json.loads(done.stdout) if one["check"] == "server")
    assert serving["state"] == "ok" and "no server runs" in serving["found"]


def test_a_plain_mlflow_on_this_history_is_named(history, running):
    """It knows nothing of the lock: whoever comes second has to see that it answers."""
    mlflow = f"{history.project.script('mlflow')} --env-file mlflow.env server"
    plain = running(mlflow, history.project.path, **history.env)
    plain.expect("Application startup complete")
    done = history.run("start-server")
    assert done.returncode == 0
    told = f"This project's server already runs at {history.uri}: a plain MLflow (process "
    assert done.stdout.startswith(told)
    told = history.run("doctor").stdout
    assert "without start-server" in told and "end it" not in told  # the guide recommends it
    done = history.run("restore nothing.tar.gz")
    told = f"This history's server runs at {history.uri}: a plain MLflow (process "
    assert done.stderr.startswith(told)
    assert done.stderr.endswith(". To stop it, press Ctrl-C in its terminal, then try again.\n")
    history.folder.rename(history.folder.with_name("aside"))  # it stays this place's server
    assert history.run("restore nothing.tar.gz").stderr == done.stderr


# Crashes


def test_what_was_acknowledged_survives_kill_9(history, tmp_path):
    """Of start-server and all its processes, while eight clients log; 20 times in benchmarks/."""
    number, folder = int(os.environ.get("KILLS", 3)), tmp_path / "log"
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
    runs = uv_project.history()[1]["runs"]
    doctor = f"{uv_project.script('my-ml-project')} doctor"
    alive = uv_project.run(doctor)
    assert "1 run in progress, none was interrupted" in alive.stdout
    wait_until(lambda: uv_project.history()[1]["runs"] >= runs)
    command.process.kill()
    command.process.wait(HANG_SECONDS)

    done = uv_project.run(doctor)
    assert done.returncode == 1
    remedy = next(line for line in done.stdout.splitlines() if "doctor --close" in line)
    close = remedy.partition("-> ")[2]
    run_id = close.split()[-1]
    assert uv_project.run(close).stdout.endswith(f"Closed   {run_id}: KILLED\n")
    assert uv_project.run(doctor).returncode == 0
    again = uv_project.run(close)
    assert again.stderr == f"{run_id} is not an interrupted run of this history.\n"


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
        assert not history.run("train").returncode
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
        assert not history.run("train").returncode
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
    """Return a history that 16 clients met at once, and a backup made meanwhile."""
    folder = tmp_path_factory.mktemp("crowd")
    (folder / "sitecustomize.py").write_text(WATCH)
    history = History(uv_project, folder / "history")
    history.asked, history.log = folder / "asked.txt", folder / "log"
    with history.serving(PYTHONPATH=str(folder), WATCH=str(history.asked)):
        load = history.write(history.log, "--clients", "16", "--runs", "10")
        load.expect("Writing")
        wait_for_more(history.log)
        history.known = {file.name: file.read_text() for file in history.log.glob("*.jsonl")}
        history.backed_up = history.run("backup")
        load.expect("Wrote for")
        history.exit = load.process.wait(HANG_SECONDS)
    return history


def test_sixteen_clients_lose_nothing_on_a_fresh_history(crowd):
    assert crowd.exit == 0
    count, missing = writers.lost(crowd.log, crowd.database, crowd.artifacts)
    assert count == 16 * 10 * (1 + writers.BATCHES + 2) and missing == []
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
    uv = f"{uv_project.script('my-ml-project')} backup {file}"
    done = uv_project.run(uv)
    assert not done.returncode, done.stderr
    assert "Backing up" in done.stdout and "Verifying" in done.stdout
    assert f"Backup   {file}\n" in done.stdout
    assert [*file.parent.iterdir()] == [file]
    assert (
        "no backup is outside"
        not in uv_project.run(f"{uv_project.script('my-ml-project')} doctor").stdout
    )
    assert uv_project.run(uv).stderr.startswith(f"{file} exists already")

    other = History(uv_project, tmp_path / "other")
    other.make(RELEASES[0].read_text())
    replaced = other.content()
    (other.folder / "mlflow.db-journal").write_bytes(b"left by a crash")
    done = other.run(f"restore {file}")
    assert not done.returncode, done.stderr
    kept = Path(done.stdout.splitlines()[-1].removeprefix("Before   ").partition(" (")[0])
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


def test_a_restore_is_refused_while_the_server_runs(uv_project, server):
    before = uv_project.history()
    done = uv_project.run(f"{uv_project.script('my-ml-project')} restore x.tar.gz")
    assert done.returncode == 1
    assert done.stderr.startswith(f"This history's server runs at {uv_project.uri} (process ")
    assert uv_project.history() == before


def rewritten(source, target, change):
    """Write an archive like `source`, its members changed by `change`."""
    with tarfile.open(source) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            content = old.extractfile(member).read()
            for other, bytes_ in change(member, content):
                other.size = len(bytes_)
                new.addfile(other, io.BytesIO(bytes_))


def named(name, **kwargs):
    member = tarfile.TarInfo(name)
    for key, value in kwargs.items():
        setattr(member, key, value)
    return member


BAD = {
    "truncated": lambda good, bad: bad.write_bytes(good.read_bytes()[:-2000]),
    "half": lambda good, bad: bad.write_bytes(good.read_bytes()[: good.stat().st_size // 2]),
    "flipped": lambda good, bad: bad.write_bytes(flipped(good.read_bytes())),
    "no archive": lambda good, bad: bad.write_text("hello"),
    "empty": lambda good, bad: bad.touch(),
    "foreign": lambda good, bad: rewritten(good, bad, lambda m, c: [(named("a.txt"), c)]),
    "no manifest": lambda good, bad: rewritten(
        good, bad, lambda m, c: [(m, c)] if m.name != "manifest.json" else []
    ),
    "other bytes": lambda good, bad: rewritten(
        good, bad, lambda m, c: [(m, c + b"x" if m.name.endswith(".txt") else c)]
    ),
    "one missing": lambda good, bad: rewritten(
        good, bad, lambda m, c: [(m, c)] if not m.name.endswith(".txt") else []
    ),
    "..": lambda good, bad: rewritten(
        good, bad, lambda m, c: [(m, c), (named("artifacts/../../evil"), b"evil")]
    ),
    "absolute": lambda good, bad: rewritten(
        good, bad, lambda m, c: [(m, c), (named("/tmp/evil"), b"evil")]
    ),
    "another project's": lambda good, bad: rewritten(
        good, bad, lambda m, c: [(m, c.replace(b'"my-ml-project"', b'"other"'))]
    ),
    "an older form": lambda good, bad: rewritten(
        good, bad, lambda m, c: [(m, c.replace(b'"created"', b'"made"'))]
    ),
    "link": lambda good, bad: rewritten(
        good,
        bad,
        lambda m, c: [(m, c), (named("artifacts/l", type=tarfile.SYMTYPE, linkname="/etc"), b"")],
    ),
    "hard link": lambda good, bad: rewritten(
        good,
        bad,
        lambda m, c: [
            (m, c),
            (named("artifacts/l", type=tarfile.LNKTYPE, linkname="/etc/hosts"), b""),
        ],
    ),
}


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :]


def test_a_bad_backup_is_refused_and_the_history_untouched(old, tmp_path):
    assert not old.run("backup").returncode
    good = old.backups()[0]
    before = old.content()
    around = sorted(tmp_path.rglob("*"))
    for name, spoil in BAD.items():
        bad = Path(old.env["PROJECT_BACKUP_DIR"]) / f"bad {name}.tar.gz".replace("/", "")
        bad = bad.with_name(bad.name.replace("'", ""))
        spoil(good, bad)
        done = old.run(f"restore '{bad}'")
        assert done.returncode == 1, name
        assert f"{bad} is not a complete backup: " in done.stderr, name
        assert "Traceback" not in done.stderr, name
        bad.unlink()
        assert old.content() == before, name
    left = {path.name for path in tmp_path.rglob("*") if path not in around}
    assert left <= {".owner", "mlflow.db.lock"}
    done = old.run("restore nothing.tar.gz")
    assert done.stderr == "There is no backup nothing.tar.gz.\n"
    assert not old.run(f"restore {good}").returncode


def test_a_backup_of_a_newer_mlflow_is_refused(history, tmp_path):
    other = History(history.project, tmp_path / "newer")
    other.make(RELEASES[0].read_text())
    with contextlib.closing(sqlite3.connect(other.database)) as opened:
        opened.execute("UPDATE alembic_version SET version_num = 'ffff00001111'")
        opened.commit()
    assert not other.run("backup").returncode
    history.make(RELEASES[0].read_text())
    before = history.content()
    done = history.run(f"restore {other.backups()[0]}")
    assert done.returncode == 1
    assert f"{other.backups()[0]} was written by a newer MLflow than the installed" in done.stderr
    assert history.content() == before


def test_a_restore_that_was_cut_off_is_seen_and_mended(old):
    """As a power cut leaves it, between the moves: the database goes first and comes last."""
    assert not old.run("backup").returncode
    (old.folder / "replaced-1").mkdir()
    old.database.rename(old.folder / "replaced-1" / "mlflow.db")
    for words in ("start-server --check", "start-server"):
        done = old.run(words)
        assert done.returncode == 1
        assert done.stderr.startswith(f"{old.database} is missing or empty, but its artifacts")
        assert f"a restore replaced are in {old.folder / 'replaced-1'}. " in done.stderr
    junk = old.folder / "restoring" / "artifacts" / "1" / "junk.txt"
    junk.parent.mkdir(parents=True)
    junk.touch()
    restore = done.stderr.strip().partition("with: ")[2]
    assert not old.project.run(restore, **old.env).returncode
    assert not junk.exists() and not (old.artifacts / "1" / "junk.txt").exists()
    assert (old.artifacts / "1" / ".owner" / "me.txt").read_text() == "kept too"
    assert old.ask("SELECT count(*) FROM runs") == [(3,)]


def test_an_emptied_database_is_no_new_history(old):
    assert not old.run("backup").returncode
    old.database.write_bytes(b"")
    before = old.content()
    for words in ("start-server --check", "doctor"):
        done = old.run(words)
        assert done.returncode == 1
        assert f"restore {old.backups()[0]}" in done.stdout + done.stderr
        assert "remove" not in done.stdout
    assert old.content() == before


def test_a_deleted_folder_is_told_of_its_backups(old):
    assert not old.run("backup").returncode
    shutil.rmtree(old.folder)
    way = "The newest backup has 3 runs; restore it with: "
    told = old.run("doctor").stdout
    assert way in told and "there is no run to back up yet" not in told
    done = old.run("start-server --check")
    assert not done.returncode, done.stderr
    assert f"a new, empty history. {way}" in done.stdout


def test_a_locked_database_is_not_called_damaged(old):
    with contextlib.closing(sqlite3.connect(old.database, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = old.run("backup")
    assert done.returncode == 1
    assert f"{old.database} cannot be used now (database is locked)" in done.stderr
    assert "damaged" not in done.stderr and "restore" not in done.stderr


# Upgrades


@pytest.mark.parametrize("release", RELEASES, ids=lambda file: file.stem)
def test_an_old_history_is_backed_up_and_upgraded(history, release):
    history.make(release.read_text() + "UPDATE experiments SET creation_time = NULL;")
    tables = ("runs", "metrics", "latest_metrics", "params", "tags", "model_versions")
    values = history.ask("SELECT key, value, step FROM metrics ORDER BY value")
    before = history.ask("SELECT * FROM runs ORDER BY 1")
    counts = [history.ask(f"SELECT count(*) FROM {name}") for name in tables]
    assert "by an older MLflow" in history.run("doctor").stdout

    done = history.run("start-server --check")
    assert not done.returncode, done.stderr
    order = ["Backing up", "Verifying", "Backup ", "Upgrading", "Starting", "Checked"]
    places = [done.stdout.index(text) for text in order]
    assert places == sorted(places)
    assert [history.ask(f"SELECT count(*) FROM {name}") for name in tables] == counts
    assert history.ask("SELECT key, value, step FROM metrics ORDER BY value") == values
    assert "is sound, 3 runs" in history.run("doctor").stdout

    (backup,) = history.backups()
    assert "(3 runs): delete it" in history.run(f"restore {backup}").stdout
    assert history.ask("SELECT * FROM runs ORDER BY 1") == before


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


def test_a_newer_history_is_left_alone(old):
    with contextlib.closing(sqlite3.connect(old.database)) as opened:
        opened.execute("UPDATE alembic_version SET version_num = 'ffff00001111'")
        opened.commit()
    before = old.content()
    for words in ("start-server", "doctor"):
        done = old.run(words)
        assert done.returncode == 1
        assert f"{old.database} was written by a newer MLflow" in done.stdout + done.stderr
    assert old.content() == before and old.backups() == []


@pytest.mark.parametrize("damage", ["truncated", "random", "overwritten"])
def test_a_damaged_database_names_its_newest_backup(old, damage):
    assert not old.run("backup").returncode
    whole = old.database.read_bytes()
    middle = len(whole) // 2
    old.database.write_bytes(
        {
            "truncated": whole[:middle],
            "random": random.Random(0).randbytes(50_000),
            "overwritten": whole[:middle] + bytes(8192) + whole[middle + 8192 :],
        }[damage]
    )
    before = old.content()
    for words in ("start-server", "doctor", "backup"):
        done = old.run(words)
        assert done.returncode == 1, words
        assert f"restore {old.backups()[0]}" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    assert old.content() == before and len(old.backups()) == 1
    assert not old.run(f"restore {old.backups()[0]}").returncode
    assert old.ask("SELECT count(*) FROM runs") == [(3,)]


# The contract with MLflow


def test_the_schema_is_read_as_mlflow_s_own_tool_reads_it(uv_project):
    """Private: MLflow's folder of migrations and their file format."""
    code = """
from pathlib import Path
import mlflow.store
from alembic.script import ScriptDirectory
from my_ml_project.ops import history
folder = ScriptDirectory(str(Path(mlflow.store.__file__).parent / "db_migrations"))
known = history.migrations()
assert {one.revision: one.down_revision for one in folder.walk_revisions()} == {
    one: None if before == "None" else before for one, before in known.items()}
print(folder.get_current_head() == next(iter(known.keys() - set(known.values()))))
"""
    assert uv_project.python(code) == "True"
