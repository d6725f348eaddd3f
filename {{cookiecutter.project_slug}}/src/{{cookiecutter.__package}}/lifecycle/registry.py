"""Versions of the registered model: their aliases, their runs, and the line of champions."""

import getpass
import json
import math
import os
from contextlib import suppress
from datetime import datetime

from ..config import MODEL, SETTINGS, UserError
from ..ops.shell import command, quoted

BEFORE = "champions_before"  # tag of a version: the champions before it, as [version, run id]
PROMOTED_AT, ROLLED_BACK = "promoted_at", "rolled_back_by"  # tags of a version
LONGEST = 100  # champions that the tag names


def version_of(alias: str):
    """Return the version of the registered model that has an `alias`, or None."""
    import mlflow

    try:
        return mlflow.MlflowClient().get_model_version_by_alias(MODEL, alias)
    except mlflow.MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def version_numbered(number: int):
    """Return a version of the registered model; raise `UserError` if there is none."""
    for version in versions():
        if int(version.version) == number:
            return version
    raise UserError(f"There is no version {number} of {MODEL}: it was deleted or never made.")


def versions() -> list:
    """Return all versions of the registered model, with their tags."""
    import mlflow

    return mlflow.search_model_versions(filter_string=f"name = '{MODEL}'")


def aliased() -> set[str]:
    """Return the numbers of the versions that have an alias, which a search does not tell."""
    import mlflow

    try:
        return {*map(str, mlflow.MlflowClient().get_registered_model(MODEL).aliases.values())}
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return set()


def training_run(version):
    """Return the run that a version was made in.

    Raises `UserError` if the version has no run, or its run is deleted or gone.
    """
    import mlflow

    label = f"Version {version.version}"
    if not version.run_id:
        raise UserError(f"{label} has no run: train one with this project's train.")
    try:
        run = mlflow.get_run(version.run_id)
    except mlflow.MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise UserError(
            f"{label} was made in run {version.run_id}, which no longer exists: train again."
        ) from error
    if run.info.lifecycle_stage != "active":
        raise UserError(
            f"{label} was made in run {version.run_id}, which is deleted. Restore it with "
            f"`{mlflow_command('runs', 'restore', '--run-id', version.run_id)}`."
        )
    return run


def open_experiment(name: str) -> None:
    """Log to the experiment `name` from now on, and make it if there is none.

    Raises `UserError` if it was deleted.
    """
    import mlflow

    known = mlflow.MlflowClient().get_experiment_by_name(name)
    if known and known.lifecycle_stage != "active":
        number = known.experiment_id
        raise UserError(
            f"The experiment {name} was deleted. Restore it with "
            f"`{mlflow_command('experiments', 'restore', '--experiment-id', number)}`."
        )
    mlflow.set_experiment(name)


def mlflow_command(*words: str) -> str:
    """Return what to type to run one of MLflow's own commands on this history."""
    return f"{command('mlflow')} {quoted('--env-file', SETTINGS, *words)}"


# The line of champions


def champions() -> list:
    """Return the living versions of the line of champions, oldest first; the champion is the last.

    The alias decides who the champion is, and a tag of that version who came before it. Where the
    tag names no living version, as of a champion that was made by hand, the times of promotion
    decide. So they do after the champion was deleted: then the last one is the champion before.
    """
    champion = version_of("champion")
    number = champion.version if champion else None
    living = {
        (str(version.version), version.run_id): version
        for version in versions()
        if ROLLED_BACK not in version.tags and version.version != number
    }
    line = [living[key] for key in _line_of(champion) if key in living] if champion else []
    if not line:
        until = (_promoted_at(champion) if champion else None) or math.inf
        times = ((_promoted_at(version), key) for key, version in living.items())
        line = [living[key] for time, key in sorted((t, k) for t, k in times if t and t < until)]
    return [*line, champion] if champion else line


def _line_of(champion) -> list[tuple[str, str]]:
    """Return version and run id of the champions before this one, as its tag tells them."""
    with suppress(KeyError, TypeError, ValueError):
        return [(str(number), run_id) for number, run_id in json.loads(champion.tags[BEFORE])]
    return []


def _promoted_at(version) -> float | None:
    """Return when a version was promoted, in seconds since 1970; None if no tag tells it."""
    with suppress(KeyError, ValueError):
        return datetime.fromisoformat(version.tags[PROMOTED_AT]).timestamp()
    return None


def champion_since(champion) -> float:
    """Return since when a version is the champion, in seconds since 1970."""
    return _promoted_at(champion) or champion.creation_timestamp / 1000


def crown(version, tags: dict[str, str]) -> None:
    """Write `tags` and the line of champions to a version, and then move the alias to it."""
    import mlflow

    client = mlflow.MlflowClient()
    line = [(one.version, one.run_id) for one in champions() if one.version != version.version]
    own = {PROMOTED_AT: now(), "promoted_by": user(), BEFORE: json.dumps(line[-LONGEST:])}
    for name, value in (tags | own).items():
        client.set_model_version_tag(MODEL, version.version, name, value)
    if ROLLED_BACK in version.tags:
        client.delete_model_version_tag(MODEL, version.version, ROLLED_BACK)
    client.set_registered_model_alias(MODEL, "champion", version.version)


def take_back() -> tuple:
    """Give the alias `champion` to the living version before it.

    Returns that version, and the one that was the champion: None if that was deleted. Raises
    `UserError` if there is no champion, or none before it.
    """
    import mlflow

    client, champion = mlflow.MlflowClient(), version_of("champion")
    before = [one for one in champions() if not champion or one.version != champion.version]
    if not before:
        raise UserError(
            f"There was no champion before version {champion.version}: it stays."
            if champion
            else "There is no champion to take back."
        )
    if champion:
        by = f"{user()}, {now()}"
        client.set_model_version_tag(MODEL, champion.version, ROLLED_BACK, by)
    client.set_registered_model_alias(MODEL, "champion", before[-1].version)
    return before[-1], champion


def rolled_back() -> list:
    """Return the versions that were rolled back and have not been promoted since."""
    return [version for version in versions() if ROLLED_BACK in version.tags]


def now() -> str:
    """Return the time, for a tag."""
    return datetime.now().astimezone().isoformat(timespec="milliseconds")


def user() -> str:
    """Return the name of who runs this, or the user's number where the system knows no name."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container's user, for example
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
