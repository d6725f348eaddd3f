"""Make the histories of old releases of MLflow that the upgrade is tested with.

    uv run --no-project python tests/histories/make.py 2.9.2 2.22.1 3.1.4

Installs each release from the package index, logs through its own server as users did, and writes
the database as text beside this file. What was logged is said by LOGGED.
"""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

LOGGED = """
import sys, time, urllib.request
import mlflow
for _ in range(600):
    try:
        urllib.request.urlopen(sys.argv[1] + "/health", timeout=1)
        break
    except OSError:
        time.sleep(0.2)
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("old")
client = mlflow.MlflowClient()
client.create_registered_model("old")
for number in range(3):
    with mlflow.start_run(run_name=f"run {number}") as run:
        mlflow.log_param("number", number)
        mlflow.set_tag("kind", "old")
        for step in range(5):
            mlflow.log_metric("score", number + step / 10, step=step)
        mlflow.log_text(f"text {number}", "model/note.txt")
        source = f"{run.info.artifact_uri}/model"
        version = client.create_model_version("old", source, run.info.run_id)
client.set_registered_model_alias("old", "champion", version.version)
"""


def make(release):
    """Write `mlflow-RELEASE.sql`, the database that this release makes."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    packages = [f"mlflow=={release}", "sqlalchemy<2.1", "setuptools<80"]
    python = ["uv", "run", "--no-project", "--python=3.11", *(f"--with={p}" for p in packages)]
    words = ["--host=127.0.0.1", f"--port={uri.rpartition(':')[2]}", "--workers=1"]
    words += ["--backend-store-uri=sqlite:///mlflow.db", "--artifacts-destination=artifacts"]
    with tempfile.TemporaryDirectory() as folder:
        words = [*python, "mlflow", "server", *words]
        server = subprocess.Popen(words, cwd=folder, start_new_session=True)
        try:
            env = os.environ | {"MLFLOW_TRACKING_URI": uri, "GIT_PYTHON_REFRESH": "quiet"}
            subprocess.run([*python, "python", "-c", LOGGED, uri], cwd=folder, env=env, check=True)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)
        with closing(sqlite3.connect(f"{folder}/mlflow.db")) as database:
            lines = "\n".join(database.iterdump())
    Path(__file__).with_name(f"mlflow-{release}.sql").write_text(lines + "\n")


for release in sys.argv[1:]:
    make(release)
