"""How a command line runs, refuses, and says what to type."""

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

# What asks a process to end: Ctrl-C, a polite kill, a closed terminal, and what Windows has for it.
NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
ENDINGS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


def command(name: str) -> str:
    """Return what to type to run a command of this project's environment, from here."""
    path = Path(sysconfig.get_path("scripts"), name)
    return quoted(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def quoted(*words: str | Path) -> str:
    """Return `words` as they are typed into a terminal of this system."""
    strings = [str(word) for word in words]
    return subprocess.list2cmdline(strings) if os.name == "nt" else shlex.join(strings)


def git(*words: str, wrong: int = 0) -> str:
    """Return what git says of the project; exit code `wrong` is none of an error either."""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True)
    if done.returncode not in (0, wrong):
        raise subprocess.CalledProcessError(done.returncode, words)
    return done.stdout.decode(errors="backslashreplace")


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
    models = logging.getLogger("mlflow.models.model")  # `train` proves more, and by our own reader
    models.addFilter(lambda record: "serving input example" not in record.getMessage())
    environment = logging.getLogger("mlflow.utils.environment")
    environment.addFilter(lambda record: "installed pip version" not in record.getMessage())


def _check_environment() -> None:
    """Refuse to act on this project when a copy of it, or another one, is meant."""
    for place in (Path(sys.argv[0]).absolute().parent, Path.cwd()):
        above = (place, *place.parents)
        meant = next((folder for folder in above if (folder / SETTINGS.name).is_file()), ROOT)
        if not meant.samefile(ROOT):
            raise UserError(
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
        if isinstance(error, UserError):
            sys.exit(str(error))
        if isinstance(error, OSError):
            sys.exit(f"The system refuses: {error}. {advice()}".rstrip())
        raise
