"""Where work runs: real processes here; a cluster is shown by the template's tests."""

import os
import time

import pytest

from {{ cookiecutter.__package }} import config
from {{ cookiecutter.__package }}.lifecycle import executors


def task(shared, number):
    """Return a number, or end like a process that crashes, or raise."""
    if number == 3:
        os._exit(9)
    if number == 4:
        raise KeyError("four")
    return shared + number, os.environ["OMP_NUM_THREADS"]


def test_a_process_that_dies_costs_its_task_alone(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    left, found = [1, 2, 3, 4, 5], {}
    deadline = time.monotonic() + 300
    with executors.workers(2, "", 10) as hands:
        assert hands.slots() == 2
        while left or hands.running():
            while left and hands.idle():
                number = left.pop(0)
                hands.start(number, task, number)
            found |= {one.key: (one.value, type(one.error).__name__) for one in hands.wait()}
            assert time.monotonic() < deadline
    assert found == {
        1: ((11, "1"), "NoneType"),
        2: ((12, "1"), "NoneType"),
        3: (None, "BrokenProcessPool"),
        4: (None, "KeyError"),
        5: ((15, "1"), "NoneType"),
    }
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_a_cluster_needs_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with (
        pytest.raises(config.UserError, match="--cluster needs Dask: type .*cluster"),
        executors.workers(1, "tcp://127.0.0.1:1", None),
    ):
        pass
