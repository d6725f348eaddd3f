"""What is where, what is wrong, and the command that mends it."""

import sqlite3
import sys
from typing import NamedTuple

import psutil

from ..config import UserError
from . import ownership
from .check_history import backups, experiments, files, store, strays, unfinished
from .check_project import disk, environment, ignored, place, serving, settings

FAILURES = (UserError, sqlite3.Error, psutil.Error, OSError, LookupError, ValueError)


class Finding(NamedTuple):
    """One line of the table: `state` is ok, warning or wrong."""

    check: str
    state: str
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Return what every check finds; one that cannot be made is wrong."""
    findings = []
    for check in CHECKS:
        try:
            findings += [Finding(check.__name__, *finding) for finding in check()]
        except FAILURES as error:
            findings.append(Finding(check.__name__, "wrong", str(error)))
    return findings


def table(findings: list[Finding]) -> str:
    """Return the findings as lines to read, each with its remedy below."""
    marks = {"ok": "\u2713", "warning": "!", "wrong": "\u2717"}
    try:
        "".join(marks.values()).encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        marks |= {"ok": "+", "wrong": "x"}
    lines = []
    for check, state, found, remedy in findings:
        lines.append(f"{marks[state]} {check:<12} {found}")
        lines += [f"  {'':<12} -> {remedy}"] * bool(remedy)
    return "\n".join(lines)


def close_run(run_id: str) -> None:
    """Give a run whose process is gone the status KILLED; refuse one that is not cut off."""
    if not any(f"run {run_id} " in finding[1] for finding in unfinished()):
        raise UserError(f"{run_id} is no run of this history that was cut off.")
    ownership.connect()
    from mlflow import MlflowClient

    MlflowClient().set_terminated(run_id, "KILLED")
    print(f"Closed   {run_id}: KILLED")


CHECKS = (
    environment,
    settings,
    serving,
    store,
    disk,
    experiments,
    files,
    place,
    strays,
    ignored,
    unfinished,
    backups,
)
