"""The suite tells the same wherever a developer starts it."""

import signal
import subprocess
import sys

import pytest


def test_what_tests_start_takes_signals_as_in_a_terminal():
    code = "import signal as s; print(s.getsignal(s.SIGINT), s.getsignal(s.SIGHUP))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"{signal.default_int_handler} {signal.SIG_DFL}\n"


@pytest.mark.parametrize("workers", [0, 1])
def test_it_may_be_started_by_nohup_or_in_the_background(environ, tmp_path, workers):
    test = f"{__file__}::{test_what_tests_start_takes_signals_as_in_a_terminal.__name__}"
    words = f"{sys.executable} -m pytest -n {workers} -p no:cacheprovider --basetemp {tmp_path}/t"
    env = {name: value for name, value in environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(
        ["bash", "-c", f"trap '' INT HUP; exec {words} {test}"],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stdout
