"""A team's server and the move there: PostgreSQL and an object store beside SQLite and a folder.

    uv run python benchmarks/team.py [--runs 10000] [--gigabytes 1] [--repeats 3]

Needs PostgreSQL and nginx on the machine, as the tests do. `migrate` moves a history of runs that
are copies of one (20 parameters, 100 metrics in 5 steps, 6 tags), its peer is `pg_restore` of the
same rows; then files of 1 MB go to the object store and are read back. Writers are threads of one
client without retries: each call is timed.
"""

import argparse
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import services
from first_way import ENVIRON, generate
from history import serving, settings
from large import cost

ONE = """
import mlflow
mlflow.set_experiment("many")
with mlflow.start_run():
    mlflow.log_params({f"p{n}": n for n in range(20)})
    for step in range(5):
        mlflow.log_metrics({f"m{n}": n / 7 for n in range(20)}, step=step)
    mlflow.set_tags({f"t{n}": n for n in range(3)})
"""
WRITE = """
import sys, threading, time, mlflow
from mlflow.entities import Metric, Param
clients, seconds = int(sys.argv[1]), float(sys.argv[2])
experiment = mlflow.set_experiment("writers").experiment_id
times, errors, end = [], [], time.monotonic() + seconds
def timed(call, *words, **named):
    begin = time.monotonic()
    try:
        return call(*words, **named)
    except Exception as error:
        errors.append(repr(error)[:200])
    finally:
        times.append(time.monotonic() - begin)
def write():
    client = mlflow.MlflowClient()
    while time.monotonic() < end:
        run = timed(client.create_run, experiment)
        if not run:
            continue
        key = run.info.run_id
        timed(client.log_batch, key, params=[Param(f"p{n}", str(n)) for n in range(20)])
        for step in range(5):
            timed(client.log_batch, key, [Metric("m", n / 7, 0, step * 20 + n) for n in range(20)])
        timed(client.log_text, key, key * 5000, "note.txt")
        timed(client.set_terminated, key)
threads = [threading.Thread(target=write) for _ in range(clients)]
begin = time.monotonic()
for thread in threads: thread.start()
for thread in threads: thread.join()
times.sort()
took = time.monotonic() - begin
print(len(times) / took, times[len(times) // 2], times[-1], len(errors))
"""
# Tables of a run, and the column that names it.
OF_RUN = ("params", "metrics", "latest_metrics", "tags")


def multiply(database, count):
    """Copy the one run of experiment 1 until there are `count` runs."""
    with closing(sqlite3.connect(database)) as opened:
        tables = {"runs": "run_uuid"} | dict.fromkeys(OF_RUN, "run_uuid")
        ((run,),) = opened.execute("SELECT run_uuid FROM runs WHERE experiment_id = 1")
        numbers = (
            f"WITH RECURSIVE n(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM n WHERE k < {count})"
        )
        for table, key in tables.items():
            columns = [row[1] for row in opened.execute(f"PRAGMA table_info({table})")]
            given = ", ".join("printf('%032x', k)" if one == key else one for one in columns)
            opened.execute(
                f"INSERT INTO {table} {numbers} SELECT {given} FROM {table}, n WHERE {key} = ?",
                [run],
            )
        opened.execute(
            "UPDATE runs SET artifact_uri = 'mlflow-artifacts:/1/' || run_uuid || '/artifacts'"
        )
        opened.commit()


def until_ready(project, env):
    """Return the seconds until `start-server` is ready."""
    begin = time.monotonic()
    with serving(project, env):
        return time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--gigabytes", type=float, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as temporary,
        services.postgres() as port,
        services.object_store() as store,
    ):
        root = Path(temporary)
        generate(root, root / "cache")
        project = root / "my-ml-project"
        words = ["uv", "sync", "-q", "--extra", "shared"]
        subprocess.run(
            words, cwd=project, env=ENVIRON | {"UV_CACHE_DIR": f"{root}/cache"}, check=True
        )
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        password = {"PGPASSWORD": "of-the-tests", "PGUSER": "postgres", "PGHOST": "127.0.0.1"}
        admin = os.environ | password | {"PGPORT": str(port)}
        command, python = project / ".venv/bin/my-ml-project", project / ".venv/bin/python"

        def database(name):
            subprocess.run([programs / "createdb", name], env=admin, check=True)
            return f"postgresql://postgres@127.0.0.1:{port}/{name}"

        def history(name):
            (root / name).mkdir()
            return settings(root / name) | store | {"PGPASSWORD": "of-the-tests"}

        def shared(name):
            place = {"MLFLOW_ARTIFACTS_DESTINATION": f"s3://{services.BUCKET}/{name}"}
            return history(name) | place | {"MLFLOW_BACKEND_STORE_URI": database(name)}

        for count in (asked.runs // 10, asked.runs):
            env = history(f"moved{count}")
            with serving(project, env):
                subprocess.run([python, "-c", ONE], env=env, check=True, capture_output=True)
            multiply(root / f"moved{count}" / "mlflow.db", count)
            found = []
            for n in range(asked.repeats):
                name = f"move_{count}_{n}"
                # Tables first: making them is no part of the move.
                subprocess.run([project / ".venv/bin/start-server", "--check"],
                               env=shared(name), check=True, capture_output=True)  # fmt: skip
                target = f"postgresql://postgres@127.0.0.1:{port}/{name}"
                moved = cost([command, "migrate", "--to", target], env)
                dump = root / f"{name}.dump"
                subprocess.run(
                    [programs / "pg_dump", "-Fc", "-f", dump, name], env=admin, check=True
                )
                database(f"{name}_again")
                begin = time.monotonic()
                subprocess.run([programs / "pg_restore", "-d", f"{name}_again", dump], env=admin,
                               check=True)  # fmt: skip
                found.append((*moved, time.monotonic() - begin))
            wall, cpu, peak, peer = (median(one) for one in zip(*found, strict=True))
            ratio = median(one[0] / one[3] for one in found)
            print(f"migrate of {count} runs: {wall:.1f} s, {cpu:.1f} CPU s, {peak:.0f} MB; "
                  f"pg_restore {peer:.1f} s; ratio {ratio:.2f}", flush=True)  # fmt: skip

        folder = root / f"moved{asked.runs}" / "artifacts" / "1"
        for n in range(int(asked.gigabytes * 1024)):
            file = folder / f"{n % 64:032x}" / "artifacts" / f"{n}.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(os.urandom(1 << 20))
        words = [command, "migrate", "--to", database("files"), "--artifacts",
                 f"s3://{services.BUCKET}/files"]  # fmt: skip
        wall, cpu, peak = cost(words, env)
        told = f"{wall:.0f} s, {cpu:.0f} CPU s, {peak:.0f} MB"
        print(f"with {asked.gigabytes:g} GiB of files: {told}", flush=True)
        shutil.rmtree(folder)

        kinds = {"SQLite": history("sqlite"), "PostgreSQL": shared("postgres_server")}
        quiet = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
        starts = {kind: [] for kind in kinds}
        for env in kinds.values():
            until_ready(project, env)  # makes the tables
        for _ in range(asked.repeats):
            for kind, env in kinds.items():
                starts[kind].append(until_ready(project, env))
        told = ", ".join(f"{kind} {median(seconds):.1f} s" for kind, seconds in starts.items())
        print(f"start until ready: {told}", flush=True)
        for clients in (1, 8, 32):
            for kind, env in kinds.items():
                with serving(project, env):
                    done = subprocess.run([python, "-c", WRITE, str(clients), "15"],
                                          env=env | quiet, capture_output=True, text=True,
                                          check=True)  # fmt: skip
                rate, middle, slowest, errors = map(float, done.stdout.splitlines()[-1].split())
                print(f"{clients:2} writers, {kind:10} {rate:5.1f} calls/s, p50 {middle:.3f} s, "
                      f"slowest {slowest:.1f} s, {errors:.0f} errors", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
