"""What a history bears: clients at once, SQLite's journal modes, backups, and 20 kills under load.

    uv run python benchmarks/history.py [--repeats 3]

Each of 1, 4, 8 and 16 client processes logs 10 runs (20 parameters, 100 metrics in 5 batches, a
file of 160 kB) through a server on a fresh history. The two journal modes take turns, so that the
ratio is between neighbours in time. The kills are the suite's own test, 20 times for each mode.
"""

import argparse
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median

import writers
from first_way import ENVIRON, TEMPLATE, free_port, generate, running, until_it_says

HERE = Path(__file__).parent


@contextmanager
def serving(project, env):
    """Run the project's server while a block runs."""
    words = [project / ".venv/bin/start-server"]
    with running(words, env=env, stdout=subprocess.PIPE, text=True) as server:
        until_it_says(server, "Ready")
        yield


@contextmanager
def made():
    """Make a project with a history of its own; yield it, the history's settings, and a folder."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        generate(root, root / "cache")
        (root / "history").mkdir()
        yield root / "my-ml-project", settings(root / "history"), root


def settings(folder):
    """Return the environment of a history of its own in `folder`."""
    port = free_port()
    return ENVIRON | {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": f"{folder}/artifacts",
        "PROJECT_BACKUP_DIR": f"{folder}/backups",
        "MLFLOW_PORT": str(port),
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
    }


def throughput(project, folder, clients, mode):
    """Return the runs per second of `clients` at once on a fresh history with a journal `mode`."""
    folder.mkdir()
    env = settings(folder)
    subprocess.run([project / ".venv/bin/start-server", "--check"], env=env, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    with closing(sqlite3.connect(folder / "mlflow.db")) as opened:
        assert opened.execute(f"PRAGMA journal_mode={mode}").fetchone() == (mode,)
    (folder / "log").mkdir()
    words = [project / ".venv/bin/python", HERE / "writers.py", folder / "log"]
    words += ["--clients", str(clients), "--runs", "10"]
    with serving(project, env):
        done = subprocess.run(words, env=env, capture_output=True, text=True)
    if done.returncode:
        print(f"     {clients} clients, {mode}: {done.stderr.splitlines()[-1]}", flush=True)
        return 0.0
    count, lost = writers.lost(folder / "log", folder / "mlflow.db", folder / "artifacts")
    assert count == clients * 10 * 8 and not lost
    return clients * 10 / float(re.search(r"Wrote for (\S+) s", done.stdout)[1])


def backup(project, folder):
    """Return seconds and megabytes of a backup of the history in `folder`."""
    begin = time.monotonic()
    env = settings(folder)
    subprocess.run([project / ".venv/bin/my-ml-project", "backup"], env=env, check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    seconds = time.monotonic() - begin
    files = [file for file in folder.rglob("*") if "backups" not in file.parts and file.is_file()]
    return seconds, sum(file.stat().st_size for file in files) / 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        generate(root, root / "cache")
        project = root / "my-ml-project"
        print(
            f"runs per second, medians (range) of {repeats}; each loses nothing, without an error"
        )
        for clients in (1, 4, 8, 16):
            rates = {"delete": [], "wal": []}
            for n in range(repeats):
                for mode, found in rates.items():
                    place = root / f"{mode}-{clients}-{n}"
                    found.append(throughput(project, place, clients, mode))
            told = (f"{m} {median(v):5.1f} ({min(v):.1f}-{max(v):.1f})" for m, v in rates.items())
            ratio = median(w / d for d, w in zip(*rates.values(), strict=True))
            print(f"{clients:>3} clients  {'  '.join(told)}  wal/delete {ratio:.2f}", flush=True)
        seconds, size = zip(*(backup(project, root / f"delete-16-{n}") for n in range(repeats)),
                            strict=True)  # fmt: skip
        print(f"backup of {median(size):.0f} MB, 160 runs: {median(seconds):.1f} s with its proof")
    for mode in ("delete", "wal"):
        test = ["tests/test_history.py", "-k", "survives_kill_9", "-n", "0", "-q"]
        env = os.environ | {"KILLS": "20", "JOURNAL_MODE": mode}
        done = subprocess.run([sys.executable, "-m", "pytest", *test], cwd=TEMPLATE, env=env)
        print(f"20 kills under load, {mode}: {'lost nothing' if not done.returncode else 'FAILED'}")


if __name__ == "__main__":
    main()
