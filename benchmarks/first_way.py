"""How long the first way takes: from the command to a tracked run, and beside doing it by hand.

    uv run python benchmarks/first_way.py [--runs 3]

Makes a project with the real command in a temporary folder, with an empty and then with a filled
package cache, and starts servers on free loopback ports. Prints medians, and ratios to the peer.
Python's own bytecode is written and read as on a user's machine (PYTHONDONTWRITEBYTECODE is unset).
"""

import argparse
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from statistics import median

TEMPLATE = Path(__file__).resolve().parents[1]
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
ENVIRON.pop("PYTHONDONTWRITEBYTECODE", None)
ENVIRON.pop("VIRTUAL_ENV", None)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def seconds(words, **kwargs):
    """Return the wall time of a whole command."""
    begin = time.monotonic()
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT, **kwargs)
    return time.monotonic() - begin


def until_it_answers(words, port, cwd):
    """Return the seconds from a server's start to its first answer to a search; end the server."""
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
    begin = time.monotonic()
    server = subprocess.Popen(
        words, cwd=cwd, env=ENVIRON, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    try:
        while server.poll() is None and time.monotonic() - begin < 300:
            try:
                urllib.request.urlopen(url, timeout=5)
                return time.monotonic() - begin
            except OSError:
                time.sleep(0.1)
        raise SystemExit(f"{words} never answered")
    finally:
        server.terminate()
        server.wait(60)


def generate(folder, cache):
    words = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input", "-o", str(folder)]
    strict = {"UV_CACHE_DIR": str(cache), "MLFLOW_TEMPLATE_STRICT": "1", "HOME": str(folder)}
    return seconds([*words, f"mlflow_port={free_port()}"], env=ENVIRON | strict)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        cold = [generate(root / f"cold{n}", root / f"cache{n}") for n in range(runs)]
        for n in range(1, runs):
            shutil.rmtree(root / f"cold{n}")
        warm = [generate(root / f"warm{n}", root / "cache0") for n in range(runs)]
        project = root / "cold0" / "my-ml-project"
        scripts = project / (".venv/Scripts" if os.name == "nt" else ".venv/bin")
        port = int(re.search(r"MLFLOW_PORT=(\d+)", (project / "mlflow.env").read_text())[1])

        ours, peer = [], []
        for n in range(runs):
            ours.append(until_it_answers([scripts / "start-server"], port, root))
            (root / f"by-hand{n}").mkdir()
            words = [scripts / "mlflow", "server", "--port", str(other := free_port())]
            peer.append(until_it_answers(words, other, root / f"by-hand{n}"))

        server = subprocess.Popen(
            [scripts / "start-server"], env=ENVIRON, stdout=subprocess.PIPE, text=True
        )
        try:
            while "Ready" not in server.stdout.readline():
                assert server.poll() is None
            train = [scripts / "my-ml-project", "train"]
            first, *later = (seconds(train, env=ENVIRON) for _ in range(runs + 1))
        finally:
            server.terminate()
            server.wait(60)

    print(f"{runs} runs each, medians (range), seconds")
    for what, values in {
        "generate, install, verify: empty package cache": cold,
        "generate, install, verify: filled package cache": warm,
        "start-server until it answers": ours,
        "`mlflow server` by hand, defaults": peer,
        "train, first": [first],
        "train, later": later,
    }.items():
        print(f"{what:<50}{median(values):7.1f} ({min(values):.1f}-{max(values):.1f})")
    ratio = median(a / b for a, b in zip(ours, peer, strict=True))
    print(f"start-server / `mlflow server`: {ratio:.2f}")


if __name__ == "__main__":
    main()
