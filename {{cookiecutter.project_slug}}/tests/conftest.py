"""A server and a history of the tests' own: nothing here touches `tracking/`."""

import os
import socket
import tempfile
from pathlib import Path

import pytest

with socket.create_server(("127.0.0.1", 0)) as probe:
    PORT = probe.getsockname()[1]
HISTORY = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)

# Before the package is imported: what is set already wins over mlflow.env.
os.environ |= {
    "MLFLOW_PORT": str(PORT),
    "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{PORT}",
    "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{Path(HISTORY.name, 'mlflow.db').as_posix()}",
    "MLFLOW_ARTIFACTS_DESTINATION": Path(HISTORY.name, "artifacts").as_posix(),
    "PROJECT_BACKUP_DIR": Path(HISTORY.name, "backups").as_posix(),
}
Path(HISTORY.name, "backups").mkdir()


@pytest.fixture(scope="session")
def tracking_server():
    """Run the project's own server on the tests' history."""
    from {{ cookiecutter.__package }}.ops.server import running

    with running(PORT):
        yield
