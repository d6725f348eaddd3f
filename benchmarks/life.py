"""What the life of a model costs: a large file scored, the log of `serve`, wrong alarms.

    uv run python benchmarks/life.py [--rows 10000000] [--rounds 5] [--resamplings 200]

Makes a project with the real command in a temporary folder, trains and promotes a forest of 10
trees. Scores one file as Parquet and as CSV; the peak memory is the system's own account of the
finished process. Asks two servers of the same champion in turn, one with and one without its log,
so that the ratio is between neighbours in time. `alarms.py` says what the alarms are counted on.
"""

import argparse
import http.client
import json
import os
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from first_way import free_port, generate
from history import serving, settings

HERE = Path(__file__).parent
SECONDS = 5  # of one round of questions
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
def scoring(project, env, *words):
    """Run `serve` while a block runs; yield its port."""
    port = free_port()
    words = [project / ".venv/bin/my-ml-project", "serve", "--port", str(port), *words]
    server = subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True)
    try:
        while "Serving" not in server.stdout.readline():
            assert server.poll() is None
        yield port
    finally:
        server.terminate()
        server.wait(60)


def answers(port, clients, body):
    """Return the answers a second that `clients` at once get, each on a connection of its own."""
    counts, until = [], time.monotonic() + SECONDS

    def ask():
        connection, count = http.client.HTTPConnection("127.0.0.1", port), 0
        while time.monotonic() < until:
            connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200
            count += 1
        counts.append(count)

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counts) == clients
    return sum(counts) / SECONDS


def cost_of_log(project, env, rounds):
    """Print answers a second with and without the log, and their ratio."""
    split = json.loads(subprocess.check_output([project / ".venv/bin/python", "-c", ROWS], env=env))
    with scoring(project, env) as with_log, scoring(project, env, "--no-log") as without:
        for clients, rows in ((1, 1), (8, 1), (8, 100)):
            part = {"columns": split["columns"], "data": split["data"][:rows]}
            body = json.dumps({"dataframe_split": part})
            pairs = []
            for _ in range(rounds):
                pairs.append([answers(port, clients, body) for port in (with_log, without)])
            logged, bare = (median(values) for values in zip(*pairs, strict=True))
            ratios = sorted(a / b for a, b in pairs)
            spread = f"{median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
            told = f"log {logged:6.1f}/s   none {bare:6.1f}/s   ratio {spread}"
            print(f"{clients} clients, {rows:>3} rows   {told}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resamplings", type=int, default=200)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        generate(root, root / "cache")
        project, history = root / "my-ml-project", root / "history"
        history.mkdir()
        env = settings(history)
        python, command = project / ".venv/bin/python", project / ".venv/bin/my-ml-project"
        with serving(project, env):
            for words in (["train", "-p", "n_estimators=10"], ["promote"]):
                subprocess.run([command, *words], env=env, check=True, capture_output=True)
            print("answers of `serve`, medians; a second server without the log asked in turn")
            cost_of_log(project, env, asked.rounds)
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
