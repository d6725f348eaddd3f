"""The project's root, its settings, its names in MLflow, and the class of its errors.

Import this before MLflow, which reads some settings when it is imported.
"""

import os
import sys
from pathlib import Path

from dotenv import dotenv_values, load_dotenv

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "mlflow.env"
EXPERIMENT = "{{ cookiecutter.project_slug }}"
GATE_EXPERIMENT = f"{EXPERIMENT}-gate"
MONITORING_EXPERIMENT = f"{EXPERIMENT}-monitoring"
TUNING_EXPERIMENT = f"{EXPERIMENT}-tuning"
MODEL = "{{ cookiecutter.project_slug }}"
LOGGED_FILES = "logged_files"  # tag of a run or a model: how many files it has at least
VIEW = "?workflowType=machine_learning"  # otherwise the UI opens for language models


class UserError(Exception):
    """An expected error: one sentence that says what is wrong and what to do."""


def _set_variables() -> tuple[dict[str, str], dict[str, str | None]]:
    """Set the variables of `mlflow.env`; return those of the shell, and those of the file."""
    if not SETTINGS.is_file():
        sys.exit(f"There is no {SETTINGS}: install the project in place, as its README says.")
    shell, written = dict(os.environ), dotenv_values(SETTINGS)
    load_dotenv(SETTINGS)
    # A proxy cannot reach this machine's loopback; requests reads the lower-case name first.
    for name in ("NO_PROXY", "no_proxy"):
        known = os.environ.get(name)
        os.environ[name] = ",".join([*([known] if known else []), "localhost,127.0.0.1,::1"])
    return shell, written


SHELL, WRITTEN = _set_variables()
FROM_SHELL = frozenset(name for name, value in WRITTEN.items() if SHELL.get(name, value) != value)


def setting(name: str) -> str:
    """Return the value of the setting `name`: the shell's, else that of `mlflow.env`.

    Raises `UserError` if it is missing or empty.
    """
    if value := os.environ.get(name):
        return value
    if set_by_shell(name):
        raise UserError(f"{name} is empty: {how_to_fix(name)}.")
    raise UserError(f"There is no {name} in {SETTINGS}: restore the template's default.")


def port(name: str) -> int:
    """Return the port in the setting `name`; raise `UserError` if it is not one."""
    text = setting(name)
    if text.isascii() and text.isdecimal() and 1024 <= int(text) <= 65535:
        return int(text)
    raise UserError(f"{name} is {text}, not a port from 1024 to 65535: {how_to_fix(name)}.")


def set_by_shell(name: str) -> bool:
    """Return whether the shell sets the variable `name` to another value than `mlflow.env`."""
    return name in SHELL and SHELL[name] != WRITTEN.get(name)


def how_to_fix(*names: str) -> str:
    """Return how to fix wrong settings: unset those of the shell, or else change the file."""
    if named := [name for name in names if set_by_shell(name)]:
        return f"unset {' and '.join(named)} in your shell"
    return f"change {' or '.join(names)} in {SETTINGS}"


def from_shell(*names: str) -> str:
    """Return a remark on those of `names` that the shell sets to other values than `mlflow.env`."""
    named = [name for name in names if set_by_shell(name)]
    return f" ({' and '.join(named)} from your shell)" if named else ""
