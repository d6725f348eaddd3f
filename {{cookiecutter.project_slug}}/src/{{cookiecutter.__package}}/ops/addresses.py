"""Addresses of servers: what the settings say, and whether a server answers there."""

import base64
import os
import socket
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.parse import urlsplit

from .. import config
from ..config import UserError, how_to_fix, setting

ANSWER_SECONDS = 3
ADDRESS = ("MLFLOW_TRACKING_URI", "MLFLOW_HOST", "MLFLOW_PORT")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = "0.0.0.0"
# Who asks a server with logins: a member of the team, or whoever starts the server.
LOGINS = (
    ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    ("MLFLOW_AUTH_ADMIN_USERNAME", "MLFLOW_AUTH_ADMIN_PASSWORD"),
)


def address(port: int | str | None = None) -> str:
    """Return the address of this project's server on `port`, or on the port of the settings."""
    host = setting("MLFLOW_HOST").replace(EVERYWHERE, "127.0.0.1")
    return f"http://{host}:{port or config.port('MLFLOW_PORT')}"


def request(uri: str, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
    """Return the response of the API of the server at `uri`; raise `OSError` if there is none."""
    asked = urllib.request.Request(f"{uri}/api/2.0/{path}", data=body, method=method)
    for login in LOGINS:
        if name := os.environ.get(login[0]):
            words = f"{name}:{os.environ.get(login[1], '')}".encode()
            asked.add_header("Authorization", f"Basic {base64.b64encode(words).decode()}")
            break
    try:
        with urllib.request.urlopen(asked, timeout=ANSWER_SECONDS) as answer:
            return answer.read()
    except HTTPException as error:  # another program, which does not speak HTTP
        raise OSError(f"{uri} does not speak HTTP: {error!r}") from error


def listens(uri: str) -> bool:
    """Return whether a program accepts connections at `uri`."""
    try:
        place = urlsplit(uri)
        port = place.port or (443 if place.scheme == "https" else 80)
    except ValueError as error:
        raise UserError(f"{uri} is not an address ({error}): {how_to_fix(*ADDRESS)}.") from error
    with (
        suppress(OSError, UnicodeError),
        socket.create_connection((place.hostname, port), ANSWER_SECONDS),
    ):
        return True
    return False


def check_login(uri: str) -> None:
    """Raise `UserError` if the server at `uri` wants another login than that of the environment."""
    try:
        request(uri, "mlflow/experiments/search?max_results=1")
    except HTTPError as error:
        if error.code == 401:
            names = " and ".join(LOGINS[0])
            raise UserError(
                f"{uri} asks for a login: set {names} in your shell, or correct them."
            ) from error
    except OSError:  # whoever asks next says why
        return
