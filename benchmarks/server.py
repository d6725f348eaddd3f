"""What the server costs: start and memory, beside plain `mlflow server` on the same settings.

    uv run python benchmarks/server.py [--rounds 5] [--project FOLDER]

Makes a project with the real command in a temporary folder. The two take turns on fresh histories,
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
from first_way import generate
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
            "mlflow server": [scripts / "mlflow", "--env-file", project / "mlflow.env", "server"],
        }
        found = {way: [] for way in ways}
        for number in range(-1, asked.rounds):  # the first round compiles, and does not count
            for way, words in ways.items():
                folder = root / f"{way}-{number}"
                folder.mkdir()
                figures = measure(words, project, settings(folder))
                if number >= 0:
                    found[way].append(figures)
    print(f"{asked.rounds} rounds on fresh histories, a worker each, medians (range)")
    for place, what in enumerate(("seconds", "CPU seconds", "MB (PSS)", "processes")):
        columns = {way: [one[place] for one in figures] for way, figures in found.items()}
        told = (f"{way} {median(v):6.1f} ({min(v):.1f}-{max(v):.1f})" for way, v in columns.items())
        ratio = median(a / b for a, b in zip(*columns.values(), strict=True))
        print(f"{what:<12} {'   '.join(told)}   ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
