"""Who may use the server: addresses, host names and web pages."""

import os
import re

from .. import config
from ..config import SETTINGS, UserError, how_to_fix, set_by_shell, setting
from . import logins
from .addresses import EVERYWHERE, LOOPBACK

HOSTS, ORIGINS = "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
UNGUARDED = "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"
# Settings that can let more people or pages use MLflow's server, or let it do more for them.
OPENING = re.compile(
    r"MLFLOW_(SERVER_\w+|ALLOWED_\w+|\w+_ALLOW(ED)?_\w+|ENABLE_AI_GATEWAY|ENABLE_\w*ASSISTANT\w*"
    r"|GUNICORN_OPTS|WAITRESS_OPTS)"
)


def opened_by_shell() -> list[str]:
    """Return the variables set by the shell that can open the server to others."""
    host = ["MLFLOW_HOST"] * (setting("MLFLOW_HOST") not in LOOPBACK)
    no_login = [logins.AUTH] * (not logins.wanted())
    found = [*host, *no_login, *sorted(filter(OPENING.fullmatch, config.SHELL))]
    return [name for name in found if set_by_shell(name) and not (name == UNGUARDED and guarded())]


def guarded() -> bool:
    """Return whether MLflow's server checks host names and origins."""
    return os.environ.get(UNGUARDED, "false").lower() in ("false", "0")


def refuse_exposure() -> None:
    """Print the names that the server answers to if it listens to the network.

    Raises `UserError` if that, or access for any web page, was not decided in `mlflow.env`, and if
    the server would ask for no login there.
    """
    logins.check()
    host, allowed = setting("MLFLOW_HOST"), setting(HOSTS)
    if named := opened_by_shell():
        raise UserError(
            f"Your shell sets {named[0]}, which can open the history to others: unset it, or "
            f"write it into {SETTINGS} to allow that."
        )
    everybody = [name for name in (HOSTS, ORIGINS) if "*" in entries(os.environ.get(name, ""))]
    if everybody := everybody + [UNGUARDED] * (not guarded()):
        name, value = everybody[0], os.environ[everybody[0]]
        raise UserError(f"{name}={value} lets any web page change the history: {how_to_fix(name)}.")
    if host in LOOPBACK:
        return
    if host != EVERYWHERE and host not in entries(allowed):
        raise UserError(f"Add {host},{host}:* to {HOSTS} in {SETTINGS}.")
    if not logins.wanted():
        raise UserError(
            f"MLFLOW_HOST is {host}, which other machines can reach: write {logins.AUTH}="
            f"{logins.PLUGIN} in {SETTINGS}, so that the server asks for a login."
        )
    print(f"The server answers to these names only ({HOSTS}): {allowed}", flush=True)


def entries(text: str) -> list[str]:
    """Return the entries of a comma-separated list."""
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def accepted(port: int | str) -> dict[str, str]:
    """Return the settings of the host names that the server accepts, and of their pages' origins.

    Browsers send the origin of the page with every change and search, and MLflow allows only
    origins of this machine by default. Origins that `mlflow.env` lists are kept.
    """
    hosts = entries(setting(HOSTS)) + codespace(port)
    others = [host for host in hosts if host.removesuffix(":*") not in LOOPBACK]
    pages = [f"{scheme}://{host}" for host in others for scheme in ("http", "https")]
    origins = dict.fromkeys([*entries(os.environ.get(ORIGINS, "")), *pages])
    return {HOSTS: ",".join(hosts)} | ({ORIGINS: ",".join(origins)} if origins else {})


def codespace(port: int | str) -> list[str]:
    """Return the host name by which GitHub Codespaces forwards a port of this machine, if it does.

    GitHub asks for the login of the codespace's owner there, unless they make the port public.
    """
    name = os.environ.get("CODESPACE_NAME")
    domain = os.environ.get("GITHUB_CODESPACES_PORT_FORWARDING_DOMAIN")
    return [f"{name}-{port}.{domain}"] if name and domain else []
