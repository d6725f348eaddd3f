"""The first hour with a stopwatch: from the first command to a served prediction, and by hand.

    uv run python benchmarks/first_way.py [--runs 2]

Makes a project with the real command in a temporary folder and types what its README says; package
caches are empty each time. The peer types what MLflow's quickstart says, with pip and the same
versions of Python and MLflow, and then serves the model that it registered. Seconds are since the
first command, of a person who types without a pause.
Python's own bytecode is written and read as on a user's machine (PYTHONDONTWRITEBYTECODE is unset).
"""

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psutil

TEMPLATE = Path(__file__).resolve().parents[1]
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
ENVIRON.pop("PYTHONDONTWRITEBYTECODE", None)
ENVIRON.pop("VIRTUAL_ENV", None)
STEPS = ("verified", "server ready", "registered version", "served prediction")
QUICKSTART = """
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
X, y = load_iris(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)
mlflow.set_experiment("MLflow Quickstart")
with mlflow.start_run():
    mlflow.log_params({"max_iter": 1000})
    model = LogisticRegression(max_iter=1000).fit(X_train, y_train)
    mlflow.log_metric("accuracy", model.score(X_test, y_test))
    mlflow.sklearn.log_model(
        model, name="iris", input_example=X_train, registered_model_name="quickstart"
    )
"""
ASK = """curl -s -f -H 'Content-Type: application/json' -d '{"dataframe_records": [{
"sepal length (cm)": 5.1, "sepal width (cm)": 3.5, "petal length (cm)": 1.4,
"petal width (cm)": 0.2}]}' http://127.0.0.1:PORT/invocations"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def generate(folder, cache, *answers):
    """Make a project in `folder` with the real command, verified."""
    words = [sys.executable, "-m", "cookiecutter", str(TEMPLATE), "--no-input", "-o", str(folder)]
    strict = {"UV_CACHE_DIR": str(cache), "MLFLOW_TEMPLATE_STRICT": "1", "HOME": str(folder)}
    strict["PIP_CACHE_DIR"] = str(cache)
    words += [f"mlflow_port={free_port()}", *answers]
    subprocess.run(words, env=ENVIRON | strict, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def running(words, **kwargs):
    """Run a server while a block runs; at its end no process of the server is left."""
    server = subprocess.Popen(words, **kwargs)
    main = psutil.Process(server.pid)
    try:
        yield server
    finally:
        family = [main, *main.children(recursive=True)]
        server.terminate()
        _, left = psutil.wait_procs(family, timeout=60)  # they would slow down what comes next
        assert not left, left


def until_it_says(server, word):
    """Return the line with which a server begins to say `word`."""
    while not (line := server.stdout.readline()).startswith(word):
        assert server.poll() is None, server.args
    return line


def until_it_answers(server, url):
    """Return when a server answers."""
    while True:
        assert server.poll() is None, server.args
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(0.05)


def stopwatch(name):
    """Return a list of the seconds until each step, and a function that adds the next one."""
    begin, found = time.monotonic(), []

    def done():
        found.append(time.monotonic() - begin)
        print(f"{name:<8} {STEPS[len(found) - 1]:<20} {found[-1]:.0f} s", flush=True)

    return found, done


def with_the_template(root, environment, language):
    """Return the seconds until each step, by the project's README."""
    found, done = stopwatch(root.name)
    generate(root, root / "cache", f"environment={environment}", f"language={language}")
    done()
    project = root / "my-ml-project"
    settings = (project / "mlflow.env").read_text("utf-8")
    port = free_port()
    settings = re.sub(r"(?m)^PROJECT_SERVE_PORT=.*", f"PROJECT_SERVE_PORT={port}", settings)
    (project / "mlflow.env").write_text(settings, "utf-8")
    prefix = ["uv", "run"] if environment == "uv" else []
    scripts = "" if prefix else ".venv/bin/"
    env = ENVIRON | {"UV_CACHE_DIR": str(root / "cache")}
    told = {"cwd": project, "env": env, "text": True, "stdout": subprocess.PIPE}
    command = [*prefix, f"{scripts}my-ml-project"]
    with running([*prefix, f"{scripts}start-server"], **told) as server:
        until_it_says(server, "Ready")
        done()
        subprocess.run([*command, "train"], check=True, stderr=subprocess.DEVNULL, **told)
        done()
        subprocess.run([*command, "promote"], check=True, stderr=subprocess.DEVNULL, **told)
        with running([*command, "serve"], **told) as serving:
            question = until_it_says(serving, "Ask ").removeprefix("Ask ")
            until_it_answers(serving, f"http://127.0.0.1:{port}/ping")
            asked = subprocess.run(["bash", "-c", question], capture_output=True, text=True)
            assert '"predictions"' in asked.stdout, asked
            done()
    return found


def by_hand(root, version):
    """Return the seconds until each step, by MLflow's quickstart."""
    found, done = stopwatch(root.name)
    root.mkdir()
    env = ENVIRON | {"PIP_CACHE_DIR": str(root / "cache")}
    told = {"cwd": root, "env": env, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([sys.executable, "-m", "venv", ".venv"], check=True, **told)
    install = [".venv/bin/pip", "install", "-q", f"mlflow=={version}"]
    subprocess.run(install, check=True, **told)
    found.append(float("nan"))  # nothing is verified
    uri = f"http://127.0.0.1:{(port := free_port())}"
    with running([".venv/bin/mlflow", "server", "--port", str(port)], **told) as server:
        until_it_answers(server, f"{uri}/health")
        done()
        env["MLFLOW_TRACKING_URI"] = uri
        subprocess.run([".venv/bin/python", "-c", QUICKSTART], check=True, **told)
        done()
        env["PATH"] = f"{root}/.venv/bin:{env['PATH']}"
        port = str(free_port())
        words = [".venv/bin/mlflow", "models", "serve", "-m", "models:/quickstart/1", "-p", port,
                 "--env-manager", "local"]  # fmt: skip
        with running(words, **told) as serving:
            until_it_answers(serving, f"http://127.0.0.1:{port}/ping")
            subprocess.run(["bash", "-c", ASK.replace("PORT", port)], check=True, **told)
            done()
    return found


def version_of(environment):
    """Return the version of MLflow in an environment."""
    (about,) = environment.glob("lib/*/site-packages/mlflow-*.dist-info")
    return about.name.removeprefix("mlflow-").removesuffix(".dist-info")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2)
    runs = parser.parse_args().runs
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for n in range(runs):
            for environment, language in (("uv", "en"), ("venv", "es")):
                took = with_the_template(root / f"{environment}{n}", environment, language)
                found.setdefault(f"{environment}, guide in {language}", []).append(took)
            version = version_of(root / "uv0/my-ml-project/.venv")
            took = by_hand(root / f"hand{n}", version)
            found.setdefault(f"by hand, MLflow {version}", []).append(took)
    print(f"{runs} runs each, medians, seconds since the first command")
    print(f"{'':<24}" + "".join(f"{step:>20}" for step in STEPS))
    for way, times in found.items():
        told = (f"{median(step):.0f}" for step in zip(*times, strict=True))
        print(f"{way:<24}" + "".join(f"{'-' if one == 'nan' else one:>20}" for one in told))


if __name__ == "__main__":
    main()
