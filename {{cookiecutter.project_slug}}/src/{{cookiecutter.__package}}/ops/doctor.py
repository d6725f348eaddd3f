"""Check the project and its history; name each fault and the command that fixes it."""

import sqlite3
import sys
from typing import NamedTuple

import psutil

from ..config import UserError
from . import ownership, shared
from .check_history import backups, experiments, files, store, strays, unfinished
from .check_project import disk, environment, ignored, place, server, settings

FAILURES = (UserError, sqlite3.Error, psutil.Error, OSError, LookupError, ValueError)


class Finding(NamedTuple):
    """The result of a check: `state` is ok, warning or wrong, `found` and `remedy` are text."""

    check: str
    state: str
    found: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Return the findings of all checks; a check that fails is reported as wrong."""
    findings = []
    for check in (environment, settings, shared.shared_history) if shared.elsewhere() else CHECKS:
        try:
            findings += [Finding(check.__name__, *finding) for finding in check()]
        except FAILURES as error:
            findings.append(Finding(check.__name__, "wrong", str(error)))
    return findings


def table(findings: list[Finding]) -> str:
    """Return the findings as text, each with its remedy on the next line."""
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
    """Mark an interrupted run as KILLED; raise `UserError` if `run_id` is not one."""
    if not any(f"run {run_id} " in finding[1] for finding in unfinished()):
        raise UserError(f"{run_id} is not an interrupted run of this history.")
    ownership.connect()
    from mlflow import MlflowClient

    MlflowClient().set_terminated(run_id, "KILLED")
    print(f"Closed   {run_id}: KILLED")


CHECKS = (
    environment,
    settings,
    server,
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
