"""Where things are: the project's root, its settings, its names in MLflow, its commands.

Import this before MLflow, which decides some settings at its own import.
"""

import io
import logging
import os
import platform
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import packages_distributions, version
from pathlib import Path

import psutil
from dotenv import dotenv_values, load_dotenv

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "mlflow.env"
EXPERIMENT = "{{ cookiecutter.project_slug }}"
MODEL = "{{ cookiecutter.project_slug }}"
LOGGED_FILES = "logged_files"  # tag of a run or a model: how many files it has at least
VIEW = "?workflowType=machine_learning"  # else MLflow's pages open as for language models
# What asks a process to end: Ctrl-C, a polite kill, a closed terminal, and what Windows has for it.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
ENDINGS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


class Refused(Exception):
    """What cannot be done, in one sentence that says why and what to do."""


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
    """Return the variable `name` of `mlflow.env`, or what the shell has set for it."""
    if value := os.environ.get(name):
        return value
    if set_by_shell(name):
        raise Refused(f"{name} is empty: {mend(name)}.")
    raise Refused(f"There is no {name} in {SETTINGS}: restore the template's default.")


def port(name: str) -> int:
    """Return the port that the setting `name` holds; raise `Refused` when it holds none."""
    text = setting(name)
    if text.isascii() and text.isdecimal() and 1024 <= int(text) <= 65535:
        return int(text)
    raise Refused(f"{name} is {text}, which is no port from 1024 to 65535: {mend(name)}.")


def set_by_shell(name: str) -> bool:
    """Return whether the shell sets the variable `name`, otherwise than `mlflow.env` does."""
    return name in SHELL and SHELL[name] != WRITTEN.get(name)


def mend(*names: str) -> str:
    """Return what to do about settings that do not fit: unset the shell's, else edit the file."""
    if named := [name for name in names if set_by_shell(name)]:
        return f"unset {' and '.join(named)} in your shell"
    return f"change {' or '.join(names)} in {SETTINGS}"


def from_shell(*names: str) -> str:
    """Return a remark on those of `names` that the shell sets otherwise than `mlflow.env`."""
    named = [name for name in names if set_by_shell(name)]
    return f" ({' and '.join(named)} from your shell)" if named else ""


def command(name: str) -> str:
    """Return what to type to run a command of this project's environment, from here."""
    path = Path(sysconfig.get_path("scripts"), name)
    return quoted(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def quoted(*words: str | Path) -> str:
    """Return `words` as they are typed into a terminal of this system."""
    strings = [str(word) for word in words]
    return subprocess.list2cmdline(strings) if os.name == "nt" else shlex.join(strings)


def run_tags() -> dict[str, str]:
    """Return what tells a run's origin: commit, whether files differ from it, and the process."""
    process = f"{socket.gethostname()} {os.getpid()} {psutil.Process().create_time():.0f}"
    tags = {"process": process, "python": platform.python_version(), "mlflow": version("mlflow")}
    try:
        commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain", "--", ".")
    except (OSError, subprocess.CalledProcessError):
        return tags | {"git": "none"}
    return tags | {"git": commit.strip(), "git_dirty": str(bool(changed)).lower()}


def git(*words: str, wrong: int = 0) -> str:
    """Return what git says of the project; exit code `wrong` is none of an error either."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True)
    if done.returncode not in (0, wrong):
        raise subprocess.CalledProcessError(done.returncode, words)
    return done.stdout.decode(errors="backslashreplace")


def requirements(model) -> list[str]:
    """Return the installed versions of the few libraries that loading `model` needs."""
    parts = [model, *model.get_params().values()]
    modules = {type(part).__module__.partition(".")[0] for part in parts} - {__package__}
    found = packages_distributions()
    names = {"mlflow", "numpy", "pandas", "skops"}
    names |= {found[module][0] for module in modules if module in found}
    return [f"{name}=={version(name)}" for name in sorted(names)]


@contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Put this process's temporary files into a folder of its own, which goes with the block.

    MLflow leaves a copy of every model that it loads.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        kept, tempfile.tempdir = tempfile.tempdir, folder
        try:
            yield
        finally:
            tempfile.tempdir = kept


def hush() -> None:
    """Silence what MLflow says on every run and asks for nothing."""
    logging.getLogger("mlflow.models.evaluation").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", "Hint: Inferred schema contains integer")
    environment = logging.getLogger("mlflow.utils.environment")
    environment.addFilter(lambda record: "installed pip version" not in record.getMessage())


def _check_environment() -> None:
    """Refuse to act on this project when a copy of it, or another one, is meant."""
    for place in (Path(sys.argv[0]).absolute().parent, Path.cwd()):
        above = (place, *place.parents)
        meant = next((folder for folder in above if (folder / SETTINGS.name).is_file()), ROOT)
        if not meant.samefile(ROOT):
            raise Refused(
                f"{place} belongs to the project in {meant}, but this environment runs the one in "
                f"{ROOT}: make its environment anew, as {meant / 'README.md'} says, or leave it."
            )


def run(app: Callable[[], None], advice: Callable[[], str] = str) -> None:
    """Run a command line `app`; a refusal, ours or MLflow's, ends in a sentence and exit code 1.

    What `advice` returns is added to MLflow's, which rarely names the cause.
    """
    for number in ENDINGS:
        if signal.getsignal(number) == signal.SIG_DFL:  # else a parent wants it ignored, as nohup
            signal.signal(number, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a path may hold what a terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        _check_environment()
        app()
    except Exception as error:
        mlflow = sys.modules.get("mlflow")
        if mlflow and isinstance(error, mlflow.MlflowException):
            sys.exit(f"MLflow refuses: {error} {advice()}".rstrip())
        if isinstance(error, Refused):
            sys.exit(str(error))
        if isinstance(error, OSError):
            sys.exit(f"The system refuses: {error}. {advice()}".rstrip())
        raise
