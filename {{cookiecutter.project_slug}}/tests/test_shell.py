"""How a command line runs, and what it says of errors."""

import gc
import signal
import sys
import tempfile
from pathlib import Path

import mlflow
import pytest

from {{ cookiecutter.__package }} import cli, config
from {{ cookiecutter.__package }}.config import UserError
from {{ cookiecutter.__package }}.ops import shell


@pytest.fixture(autouse=True)
def here(monkeypatch):
    """Start from this project's environment, with the signals of a terminal."""
    monkeypatch.setattr(sys, "argv", [str(config.ROOT / ".venv" / "bin" / "command")])
    monkeypatch.chdir(config.ROOT)
    kept = {number: signal.getsignal(number) for number in shell.ENDINGS}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def raising(error):
    def app():
        raise error

    return app


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (UserError("Say this."), "Say this."),
        (OSError(28, "No space left"), "The system refuses: [Errno 28] No space left. Advice."),
        (mlflow.MlflowException("no such run"), "MLflow refuses: no such run Advice."),
    ],
)
def test_an_expected_error_is_one_sentence(error, told):
    with pytest.raises(SystemExit) as end:
        shell.run(raising(error), lambda: "Advice.")
    assert end.value.code == told


def test_another_error_is_a_fault_of_the_program():
    with pytest.raises(ZeroDivisionError):
        shell.run(raising(ZeroDivisionError()))


def test_a_closed_terminal_ends_a_command_like_ctrl_c_unless_its_parent_ignores_it():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    shell.run(lambda: None)
    assert signal.getsignal(signal.SIGTERM) == signal.default_int_handler
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    shell.run(lambda: None)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


@pytest.mark.parametrize("where", ["command", "folder"])
def test_a_copied_environment_does_not_act_on_the_original(tmp_path, monkeypatch, where):
    copy = tmp_path / "copy"
    (copy / ".venv" / "bin").mkdir(parents=True)
    (copy / "mlflow.env").touch()
    if where == "folder":
        monkeypatch.chdir(copy)
    else:
        monkeypatch.setattr(sys, "argv", [str(copy / ".venv" / "bin" / "command")])
    with pytest.raises(SystemExit) as end:
        shell.run(lambda: pytest.fail("it ran"))
    told = str(end.value.code)
    assert f"belongs to the project in {copy}, but this environment runs" in told
    assert f"as {copy / 'README.md'} says" in told


def test_temporary_files_go_with_the_command():
    with shell.own_temporary_folder():
        inside = Path(tempfile.mkdtemp())
        (inside / "model").touch()
    assert not inside.exists() and tempfile.gettempdir() != str(inside.parent)


def test_counts_are_in_english():
    assert [shell.counted(number, "run") for number in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]
    assert shell.counted(2, "run or model", "runs or models") == "2 runs or models"


def test_a_value_is_a_literal_or_text():
    found = [cli.assignment(text)[1] for text in ("a=3", "a=None", "a=x", "a=(1,)", "a==")]
    assert found == [3, None, "x", (1,), "="]
    with pytest.raises(cli.typer.BadParameter, match="not of the form name=value"):
        cli.assignment("a")


def test_garbage_is_collected_again_after_an_import():
    with pytest.raises(ImportError), shell.importing():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled()
