"""What the server costs: start and memory, beside `mlflow server` with its settings and without.

    uv run python benchmarks/server.py [--rounds 5] [--project FOLDER]

Makes a project with the real command in a temporary folder. All take turns, so that the ratio is
between neighbours in time. Each starts twice: the first time it makes the history's tables, the
next time they are there. The start lasts until the first answer to a search; CPU seconds and memory
(PSS, which counts a shared page once) are of all processes of the command.
"""

import argparse
import subprocess
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil
from first_way import ENVIRON, generate, running, until_it_answers
from history import settings

SETTLE = 3  # seconds until memory is read


def measure(words, cwd, env):
    """Return seconds and CPU seconds to the first answer, megabytes, processes; end the server."""
    url = f"{env['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/experiments/search?max_results=1"
    begin = time.monotonic()
    told = {"stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT}
    with running(words, cwd=cwd, env=env, **told) as server:
        until_it_answers(server, url)
        wall = time.monotonic() - begin
        main = psutil.Process(server.pid)
        family = [main, *main.children(recursive=True)]
        cpu = sum(sum(process.cpu_times()[:2]) for process in family)
        time.sleep(SETTLE)
        megabytes = sum(process.memory_full_info().pss for process in family) / 1e6
        return wall, cpu, megabytes, len(family)


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
        found = {(start, way): [] for start in ("first", "next") for way in ways}
        for number in range(-1, asked.rounds):  # the first round compiles, and does not count
            for way, words in ways.items():
                folder = root / f"{way}-{number}"
                folder.mkdir()
                env = settings(folder)
                if way == "defaults":  # four workers and the job queue, in the folder that it is
                    own = ("MLFLOW_PORT", "MLFLOW_TRACKING_URI")
                    env = ENVIRON | {name: env[name] for name in own}
                for start in ("first", "next"):
                    figures = measure(words, folder if way == "defaults" else project, env)
                    if number >= 0:
                        found[start, way].append(figures)
    print(f"{asked.rounds} rounds, medians (range), ratio of start-server to it")
    for place, what in enumerate(("seconds", "CPU seconds", "MB (PSS)", "processes")):
        for (start, way), figures in found.items():
            values = [one[place] for one in figures]
            mine = [one[place] for one in found[start, "start-server"]]
            ratio = median(a / b for a, b in zip(mine, values, strict=True))
            spread = f"{median(values):6.1f} ({min(values):.1f}-{max(values):.1f})"
            print(f"{what:<12} {start:<6} {way:<14} {spread:<22} {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
