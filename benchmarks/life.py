"""What the life of a model costs: a large file scored, answers of `serve`, wrong alarms.

    uv run python benchmarks/life.py [--rows 10000000] [--rounds 5] [--resamplings 200]

Makes a project with the real command in a temporary folder, trains and promotes a forest of 10
trees. Scores one file as Parquet and as CSV; the peak memory is the system's own account of the
finished process. Asks three servers of the same champion in turn: `serve` with its log, without it,
and `mlflow models serve`; so each ratio is between neighbours in time. `--only serve` stops there.
`alarms.py` says what the alarms are counted on.
"""

import argparse
import http.client
import json
import os
import signal
import subprocess
import threading
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from first_way import free_port
from history import made, serving

HERE = Path(__file__).parent
SECONDS = 3  # of one round of questions
MAKE = """
import sys, numpy as np, pyarrow as pa, pyarrow.csv, pyarrow.parquet as pq
from my_ml_project import data
rows, folder = int(sys.argv[1]), sys.argv[2]
X = data.load().drop(columns=data.TARGET)
generator = np.random.default_rng(0)
with_index = pa.Table.from_pandas(X.assign(patient=0), preserve_index=False).schema
with pq.ParquetWriter(f"{folder}/in.parquet", with_index) as parquet, pyarrow.csv.CSVWriter(
    f"{folder}/in.csv", with_index
) as text:
    for first in range(0, rows, 100_000):
        size = min(100_000, rows - first)
        part = X.iloc[generator.integers(len(X), size=size)]
        part = (part * generator.normal(1, 0.02, part.shape)).round(6)
        part = part.assign(patient=range(first, first + size))
        table = pa.Table.from_pandas(part, schema=with_index, preserve_index=False)
        parquet.write_table(table)
        text.write_table(table)
"""
ROWS = """
from my_ml_project import data
print(data.load().drop(columns=data.TARGET).to_json(orient="split"))
"""


def scored(project, env, source, target):
    """Return the seconds and the peak megabytes of `predict`."""
    begin = time.monotonic()
    words = [project / ".venv/bin/my-ml-project", "predict", source, target]
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert not status
    return time.monotonic() - begin, usage.ru_maxrss / 1024


@contextmanager
def scoring(env, *words):
    """Run a server of the champion while a block runs; yield its port."""
    port = free_port()
    server = subprocess.Popen(
        [*words, "--port", str(port)],
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # `mlflow models serve` has children
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5)
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.1)
        yield port
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def answers(port, clients, body):
    """Return the median milliseconds of an answer, and answers a second, for `clients` at once."""
    took, until = [], time.perf_counter() + SECONDS

    def ask():
        connection, begin = http.client.HTTPConnection("127.0.0.1", port), time.perf_counter()
        while begin < until:
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            end = time.perf_counter()
            took.append(1000 * (end - begin))
            begin = end

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return median(took), len(took) / SECONDS


def ratio(mine, others):
    """Return the median ratio of neighbours in time, and its range, as text."""
    ratios = sorted(a / b for a, b in zip(mine, others, strict=True))
    return f"{median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


def cost_of_answers(project, env, rounds):
    """Print how fast the three servers answer, and what that is to MLflow's."""
    commands = project / ".venv/bin"
    split = json.loads(subprocess.check_output([commands / "python", "-c", ROWS], env=env))
    ours = commands / "my-ml-project", "serve"
    theirs = commands / "mlflow", "models", "serve", "-m", "models:/my-ml-project@champion"
    theirs += "--env-manager", "local", "--host", "127.0.0.1"
    beside = env | {"PATH": f"{commands}{os.pathsep}{env['PATH']}"}  # it looks for uvicorn there
    with (
        scoring(env, *ours) as logging,
        scoring(env, *ours, "--no-log") as silent,
        scoring(beside, *theirs) as mlflow_s,
    ):
        servers = {"serve": logging, "without log": silent, "mlflow models serve": mlflow_s}
        for clients, rows in ((1, 1), (8, 1), (8, 100)):
            part = {"columns": split["columns"], "data": split["data"][:rows]}
            body = json.dumps({"dataframe_split": part})
            found = {name: [] for name in servers}
            for _ in range(rounds):
                for name, port in servers.items():
                    found[name].append(answers(port, clients, body))
            print(f"{clients} clients, {rows} rows")
            peer = [*zip(*found["mlflow models serve"], strict=True)]
            for name, pairs in found.items():
                p50, rate = zip(*pairs, strict=True)
                print(
                    f"  {name:<20} p50 {median(p50):6.1f} ms   {median(rate):6.1f}/s   "
                    f"to MLflow's: p50 {ratio(p50, peer[0])}, answers a second "
                    f"{ratio(rate, peer[1])}",
                    flush=True,
                )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resamplings", type=int, default=200)
    parser.add_argument("--only", choices=["serve"])
    asked = parser.parse_args()
    with made() as (project, env, root):
        python, command = project / ".venv/bin/python", project / ".venv/bin/my-ml-project"
        with serving(project, env):
            for words in (["train", "-p", "n_estimators=10"], ["promote"]):
                subprocess.run([command, *words], env=env, check=True, capture_output=True)
            print(f"answers of three servers in turn, medians of {asked.rounds} rounds")
            cost_of_answers(project, env, asked.rounds)
            if asked.only:
                return
            subprocess.run(
                [python, HERE / "alarms.py", str(asked.resamplings)], env=env, check=True
            )
            subprocess.run([python, "-c", MAKE, str(asked.rows), str(root)], env=env, check=True)
            for kind in ("parquet", "csv"):
                source, target = root / f"in.{kind}", root / f"out.{kind}"
                size = source.stat().st_size / 1e9
                took, peak = scored(project, env, source, target)
                print(f"predict {asked.rows} rows, {size:.1f} GB of {kind}: "
                      f"{took:.0f} s, peak memory {peak:.0f} MB", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
