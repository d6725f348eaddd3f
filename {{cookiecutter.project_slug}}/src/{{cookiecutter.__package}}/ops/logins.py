"""Logins of the server: MLflow's basic auth, with the secrets of the environment.

Users are in the database of the history, so that several servers of it know the same ones.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ..config import SETTINGS, WRITTEN, UserError
from .shell import install_extra

AUTH, PLUGIN = "PROJECT_AUTH", "basic-auth"
ADMIN, PASSWORD, KEY = (
    "MLFLOW_AUTH_ADMIN_USERNAME",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
)
SHORTEST = {ADMIN: 1, PASSWORD: 12, KEY: 32}  # characters; 12 is MLflow's own rule
SECRETS = {PASSWORD, KEY, "PGPASSWORD", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
    "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"}  # fmt: skip
CACHED_SECONDS = 60  # without it, each request hashes the password twice: 230 ms
FILE = """[mlflow]
default_permission = EDIT
database_uri = {store}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = {seconds}
"""


def wanted() -> bool:
    """Return whether the server asks for logins; raise `UserError` for an unknown setting."""
    if (value := os.environ.get(AUTH, "")) not in ("", PLUGIN):
        raise UserError(f"{AUTH} is {value}: write {PLUGIN}, or nothing for no login.")
    return bool(value)


def check() -> None:
    """Raise `UserError` if a secret is missing or weak, or stands in a file that git keeps."""
    if named := sorted(SECRETS & {name for name, value in WRITTEN.items() if value}):
        raise UserError(
            f"{SETTINGS} is in git, and has {named[0]}: remove the line, and set it in the "
            "environment of the server."
        )
    if not wanted():
        return
    if not find_spec("flask_wtf"):
        raise UserError(f"{AUTH} needs Flask-WTF: type {install_extra('shared')}")
    for name, length in SHORTEST.items():
        if len(value := os.environ.get(name, "")) < length:
            what = f"has {len(value)} characters, not {length} or more" if value else "is not set"
            raise UserError(f"{AUTH}={PLUGIN}, and {name} {what}: set it in the environment.")


@contextmanager
def configured(store: str) -> Iterator[dict[str, str]]:
    """Yield the variables with which a server that keeps its users in `store` asks for logins."""
    if not wanted():
        yield {}
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "logins.ini")
        file.touch(0o600)
        text = FILE.format(store=store.replace("%", "%%"), seconds=CACHED_SECONDS)
        file.write_text(text, "utf-8")
        yield {"MLFLOW_AUTH_CONFIG_PATH": str(file)}
