"""Who may reach the server: addresses, host names, and web pages."""

import os
import re

from .. import config
from ..config import SETTINGS, UserError, mend, set_by_shell, setting
from .ownership import EVERYWHERE, LOOPBACK

HOSTS, ORIGINS = "MLFLOW_SERVER_ALLOWED_HOSTS", "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
UNGUARDED = "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE"
# What can widen who may ask MLflow's server, and what it does for them: its own settings, whatever
# it is allowed to reach, the assistant and the gateway, and web servers that check no names.
OPENING = re.compile(
    r"MLFLOW_(SERVER_\w+|ALLOWED_\w+|\w+_ALLOW(ED)?_\w+|ENABLE_AI_GATEWAY|ENABLE_\w*ASSISTANT\w*"
    r"|GUNICORN_OPTS|WAITRESS_OPTS)"
)


def opening() -> list[str]:
    """Return the variables of the shell that can open the server to others."""
    host = ["MLFLOW_HOST"] * (setting("MLFLOW_HOST") not in LOOPBACK)
    found = [*host, *sorted(filter(OPENING.fullmatch, config.SHELL))]
    return [name for name in found if set_by_shell(name) and not (name == UNGUARDED and guarded())]


def guarded() -> bool:
    """Return whether MLflow's server checks names and origins at all."""
    return os.environ.get(UNGUARDED, "false").lower() in ("false", "0")


def refuse_exposure() -> None:
    """Say what it means to listen to the network; refuse it where nobody decided it."""
    host, allowed = setting("MLFLOW_HOST"), setting(HOSTS)
    if named := opening():
        raise UserError(
            f"Your shell sets {named[0]}, which can open the history to others: unset it, or "
            f"write it into {SETTINGS} to allow that."
        )
    everybody = [name for name in (HOSTS, ORIGINS) if "*" in names(os.environ.get(name, ""))]
    if everybody := everybody + [UNGUARDED] * (not guarded()):
        name, value = everybody[0], os.environ[everybody[0]]
        raise UserError(f"{name}={value} lets any web page change the history: {mend(name)}.")
    if host in LOOPBACK:
        return
    if host != EVERYWHERE and host not in names(allowed):
        raise UserError(f"Add {host},{host}:* to {HOSTS} in {SETTINGS}.")
    print(
        f"MLFLOW_HOST is {host}: there is no login, so whoever reaches this machine can read, "
        "change and delete every run and model.\nThe server answers to these names only "
        f"({HOSTS}): {allowed}",
        flush=True,
    )


def names(text: str) -> list[str]:
    """Return the entries of a list that is written with commas."""
    return [entry.strip() for entry in text.split(",") if entry.strip()]


def origins() -> dict[str, str]:
    """Return the setting that lets the server's own pages ask it, under each name it answers to.

    A browser names the page's origin with every change that it asks for, and with every search.
    MLflow takes the origins of this machine only; those of other names, behind a proxy with TLS or
    not, follow from `MLFLOW_SERVER_ALLOWED_HOSTS`. What `mlflow.env` lists itself is kept.
    """
    others = [host for host in names(setting(HOSTS)) if host.removesuffix(":*") not in LOOPBACK]
    pages = [f"{scheme}://{host}" for host in others for scheme in ("http", "https")]
    listed = dict.fromkeys([*names(os.environ.get(ORIGINS, "")), *pages])
    return {ORIGINS: ",".join(listed)} if listed else {}
