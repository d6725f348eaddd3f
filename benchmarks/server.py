"""What the server costs: start and memory, beside `mlflow server` with its settings and without.

    uv run python benchmarks/server.py [--rounds 5] [--project FOLDER]

Makes a project with the real command in a temporary folder. All take turns on fresh histories,
so that the ratio is between neighbours in time. The start lasts until the first answer to a search;
CPU seconds and memory (PSS, which counts a shared page once) are of all processes of the command.
"""

import argparse
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median

import psutil
from first_way import ENVIRON, generate
from history import settings

SETTLE = 3  # seconds until memory is read


def measure(words, cwd, env):
    """Return seconds and CPU seconds to the first answer, megabytes, processes; end the server."""
    url = f"{env['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search?max_results=1"
    begin = time.monotonic()
    server = subprocess.Popen(
        words, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        while True:
            assert server.poll() is None, words
            try:
                urllib.request.urlopen(url, timeout=5)
                break
            except OSError:
                time.sleep(0.05)
        wall = time.monotonic() - begin
        main = psutil.Process(server.pid)
        family = [main, *main.children(recursive=True)]
        cpu = sum(sum(process.cpu_times()[:2]) for process in family)
        time.sleep(SETTLE)
        megabytes = sum(process.memory_full_info().pss for process in family) / 1e6
        return wall, cpu, megabytes, len(family)
    finally:
        server.terminate()
        server.wait(60)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--project", type=Path, help="a project that is there already")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        if not (project := asked.project):
            generate(root, root / "cache")
            project = root / "my-ml-project"
        scripts = project / ".venv/bin"
        ways = {
            "start-server": [scripts / "start-server"],
            "same settings": [scripts / "mlflow", "--env-file", project / "mlflow.env", "server"],
            "defaults": [scripts / "mlflow", "server"],
        }
        found = {way: [] for way in ways}
        for number in range(-1, asked.rounds):  # the first round compiles, and does not count
            for way, words in ways.items():
                folder = root / f"{way}-{number}"
                folder.mkdir()
                env = settings(folder)
                if way == "defaults":  # four workers and the job queue, in the folder that it is
                    own = ("MLFLOW_PORT", "MLFLOW_TRACKING_URI")
                    env = ENVIRON | {name: env[name] for name in own}
                figures = measure(words, folder if way == "defaults" else project, env)
                if number >= 0:
                    found[way].append(figures)
    print(f"{asked.rounds} rounds on fresh histories, medians (range), ratio of start-server to it")
    for place, what in enumerate(("seconds", "CPU seconds", "MB (PSS)", "processes")):
        columns = {way: [one[place] for one in figures] for way, figures in found.items()}
        mine = columns["start-server"]
        for way, values in columns.items():
            ratio = median(a / b for a, b in zip(mine, values, strict=True))
            spread = f"{median(values):6.1f} ({min(values):.1f}-{max(values):.1f})"
            print(f"{what:<12} {way:<14} {spread:<22} {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
