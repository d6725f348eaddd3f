"""Run a command line, report errors, and show commands to type."""

import gc
import io
import logging
import os
import shlex
import signal
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..config import ROOT, SETTINGS, UserError

# Requests to end: Ctrl-C, kill, a closed terminal, and Ctrl-Break on Windows.
SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
ENDINGS = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]


def command(name: str) -> str:
    """Return the command line that runs a command of this environment from the current folder."""
    path = Path(sysconfig.get_path("scripts"), name)
    return quoted(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def quoted(*words: str | Path) -> str:
    """Return `words` quoted for a terminal of this system."""
    strings = [str(word) for word in words]
    return subprocess.list2cmdline(strings) if os.name == "nt" else shlex.join(strings)


def install_extra(name: str) -> str:
    """Return what to type to install an optional part of the project's dependencies."""
    if (ROOT / "uv.lock").is_file():
        return f"uv sync --extra {name}"
    return f'{command("python")} -m pip install -e ".[{name}]"'


def git(*words: str, wrong: int = 0) -> str:
    """Return the output of git in the project; exit code `wrong` is not an error either."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True)
    if done.returncode not in (0, wrong):
        raise subprocess.CalledProcessError(done.returncode, words)
    return done.stdout.decode(errors="backslashreplace")


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return "1 run" or "2 runs"; `plural` is for nouns that do not just take an s."""
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def one_line(error: BaseException) -> str:
    """Return what an error says, in one line that is not too long."""
    return " ".join(str(error).split())[:300]


def size(count: float) -> str:
    """Return a number of bytes as text in MiB or GiB."""
    gib, mib = 1 << 30, 1 << 20
    return f"{count / gib:.1f} GiB" if count > gib else f"{count / mib:.1f} MiB"


@contextmanager
def importing() -> Iterator[None]:
    """Collect no garbage while this block imports, and never look for any in what it has made.

    All of that stays. To look through it takes an eighth of `train`, and more of a server's start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def own_temporary_folder() -> Iterator[None]:
    """Put the temporary files of this block into a folder that is deleted at its end.

    MLflow leaves a copy of every model that it loads.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        kept, tempfile.tempdir = tempfile.tempdir, folder
        try:
            yield
        finally:
            tempfile.tempdir = kept


def hush() -> None:
    """Silence the messages of MLflow that appear on every run and need no action."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    warnings.filterwarnings("ignore", "Hint: Inferred schema contains integer")
    models = logging.getLogger("mlflow.models.model")  # `train` proves more, and by our own reader
    models.addFilter(lambda record: "serving input example" not in record.getMessage())
    fluent = logging.getLogger("mlflow.tracking.fluent")
    fluent.addFilter(lambda record: "Creating a new experiment" not in record.getMessage())
    environment = logging.getLogger("mlflow.utils.environment")
    environment.addFilter(lambda record: "installed pip version" not in record.getMessage())


def _check_environment() -> None:
    """Raise `UserError` if the command was started from another project or a copied environment."""
    for place in (Path(sys.argv[0]).absolute().parent, Path.cwd()):
        above = (place, *place.parents)
        meant = next((folder for folder in above if (folder / SETTINGS.name).is_file()), ROOT)
        if not meant.samefile(ROOT):
            raise UserError(
                f"{place} belongs to the project in {meant}, but this environment runs the one in "
                f"{ROOT}: create its environment again, as {meant / 'README.md'} says."
            )


def run(app: Callable[[], None], advice: Callable[[], str] = str) -> None:
    """Run a command line `app`; print an expected error as one sentence and exit with code 1.

    `advice()` is added to errors of MLflow and the system, which rarely name the cause.
    """
    for number in ENDINGS:
        if signal.getsignal(number) == signal.SIG_DFL:  # not if a parent ignores it, as nohup does
            signal.signal(number, signal.default_int_handler)
    if isinstance(sys.stdout, io.TextIOWrapper):  # for paths that a terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    hush()
    try:
        _check_environment()
        app()
    except Exception as error:
        mlflow = sys.modules.get("mlflow")
        if mlflow and isinstance(error, mlflow.MlflowException):
            sys.exit(f"MLflow refuses: {error} {advice()}".rstrip())
        if isinstance(error, UserError):
            sys.exit(str(error))
        if isinstance(error, OSError):
            sys.exit(f"The system refuses: {error}. {advice()}".rstrip())
        raise
