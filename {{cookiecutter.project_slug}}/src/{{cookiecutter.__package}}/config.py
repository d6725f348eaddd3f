"""Where things are: the project's root, its settings, its names in MLflow, its commands.

Import this before MLflow, which decides some settings at its own import.
"""

import os
import signal
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

from dotenv import dotenv_values, load_dotenv

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "mlflow.env"
EXPERIMENT = "{{ cookiecutter.project_slug }}"
MODEL = "{{ cookiecutter.project_slug }}"
VIEW = "?workflowType=machine_learning"  # else MLflow's pages open as for language models
# What asks a process to end: Ctrl-C, a polite kill, a closed terminal (Windows has no SIGHUP).
ENDINGS = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]


class Refused(Exception):
    """What cannot be done, in one sentence that says why and what to do."""


def _set_variables() -> frozenset[str]:
    """Set the variables of `mlflow.env`; return the names that the shell sets otherwise."""
    if not SETTINGS.is_file():
        sys.exit(f"There is no {SETTINGS}: install the project in place, as its README says.")
    written = dotenv_values(SETTINGS)
    load_dotenv(SETTINGS)
    # A proxy cannot reach this machine's loopback; requests reads the lower-case name first.
    for name in ("NO_PROXY", "no_proxy"):
        known = os.environ.get(name)
        os.environ[name] = ",".join([*([known] if known else []), "localhost,127.0.0.1,::1"])
    return frozenset(name for name, value in written.items() if os.environ.get(name) != value)


FROM_SHELL = _set_variables()


def command(name: str) -> str:
    """Return what to type to run a command of this project's environment, from here."""
    path = Path(sysconfig.get_path("scripts"), name)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _check_environment() -> None:
    """Refuse to act on this project when a copy of it, or another one, is meant."""
    for place in (Path(sys.argv[0]).absolute().parent, Path.cwd()):
        above = (place, *place.parents)
        meant = next((folder for folder in above if (folder / SETTINGS.name).is_file()), ROOT)
        if not meant.samefile(ROOT):
            raise Refused(
                f"{place} belongs to the project in {meant}, but this environment runs the one in "
                f"{ROOT}: run the install line of {meant / 'README.md'}, or leave that folder."
            )


def run(app: Callable[[], None]) -> None:
    """Run a command line `app`; a refusal ends in its sentence and exit code 1."""
    for number in ENDINGS:
        if signal.getsignal(number) == signal.SIG_DFL:  # else a parent wants it ignored, as nohup
            signal.signal(number, signal.default_int_handler)
    sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what a terminal cannot show
    try:
        _check_environment()
        app()
    except Refused as refusal:
        sys.exit(str(refusal))
