"""Many clients that log at once and write down what was acknowledged: run by a project's Python.

    python writers.py FOLDER [--clients 8] [--runs 10]

Without --runs they go on until a file FOLDER/stop appears, through servers that come and go. Each
client writes FOLDER/client-N.jsonl: a line per parameter, metric or file that it saw acknowledged.
The server is that of MLFLOW_TRACKING_URI.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import sqlite3
import time
import urllib.request
from contextlib import closing
from pathlib import Path

PARAMS, BATCHES, METRICS = 20, 5, 100


def log_run(client, experiment, say):
    """Log one run, telling `say` of each thing once the server has acknowledged it."""
    from mlflow.entities import Metric, Param

    run = client.create_run(experiment).info.run_id
    params = {f"p{n}": f"{run}-{n}" for n in range(PARAMS)}
    client.log_batch(run, params=[Param(*item) for item in params.items()])
    say(run=run, params=params)
    for batch in range(BATCHES):
        steps = range(batch * METRICS // BATCHES, (batch + 1) * METRICS // BATCHES)
        client.log_batch(run, [Metric("m", step / 7, 0, step) for step in steps])
        say(run=run, metrics=[[step, step / 7] for step in steps])
    text = run * 5000
    client.log_text(run, text, "note.txt")
    say(run=run, file="note.txt", sha256=hashlib.sha256(text.encode()).hexdigest())
    client.set_terminated(run)
    say(run=run, finished=time.time())


def answers():
    """Return whether the server answers."""
    try:
        url = os.environ["MLFLOW_TRACKING_URI"]
        urllib.request.urlopen(f"{url}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=2)
        return True
    except OSError:
        return False


def client(number, folder, runs, ready):
    """Log `runs` runs, or until there is a file `stop`; a run that fails is given up."""
    import mlflow

    with (folder / f"client-{number}.jsonl").open("a") as log:

        def say(**what):
            log.write(json.dumps(what) + "\n")
            log.flush()

        ready.wait()
        experiment = mlflow.set_experiment("writers").experiment_id
        done = 0
        while done < runs if runs else not (folder / "stop").exists():
            try:
                log_run(mlflow.MlflowClient(), experiment, say)
                done += 1
            except Exception as error:
                if runs:
                    raise
                say(gave_up=f"{error!r:.200}")
                while not (answers() or (folder / "stop").exists()):
                    time.sleep(0.1)


def lost(folder, database, artifacts):
    """Return how much was acknowledged, and what of it the history does not have whole."""
    count, missing = 0, []
    with closing(sqlite3.connect(database)) as opened:
        if (sound := opened.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
            missing.append(sound)
        roots = dict(opened.execute("SELECT run_uuid, artifact_uri FROM runs"))
        for file in Path(folder).glob("client-*.jsonl"):
            for line in file.read_text().splitlines():
                said = json.loads(line)
                count += 1
                if not kept(said, opened, roots, Path(artifacts)):
                    missing.append(said)
    return count, missing


def kept(said, opened, roots, artifacts):
    """Return whether the history has what one line of a client's file says."""
    run = said.get("run")
    if "params" in said:
        query = "SELECT key, value FROM params WHERE run_uuid = ?"
        return dict(opened.execute(query, [run])) == said["params"]
    if "metrics" in said:
        query = "SELECT step, value FROM metrics WHERE run_uuid = ?"
        return {*map(tuple, said["metrics"])} <= {*opened.execute(query, [run])}
    if "file" in said:
        path = artifacts / roots[run].removeprefix("mlflow-artifacts:/") / said["file"]
        return hashlib.sha256(path.read_bytes()).hexdigest() == said["sha256"]
    return run is None or run in roots


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--runs", type=int)
    asked = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # in a forked client it can fail a request
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mlflow"])  # which takes each client seconds
    ready = context.Barrier(asked.clients + 1)
    args = (asked.folder, asked.runs, ready)
    clients = [context.Process(target=client, args=(n, *args)) for n in range(asked.clients)]
    for process in clients:
        process.start()
    ready.wait()
    begin = time.monotonic()
    print("Writing", flush=True)
    for process in clients:
        process.join()
    print(f"Wrote for {time.monotonic() - begin:.1f} s", flush=True)
    raise SystemExit(any(process.exitcode for process in clients))


if __name__ == "__main__":
    main()
