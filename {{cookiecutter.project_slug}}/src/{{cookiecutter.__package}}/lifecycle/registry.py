"""Versions of the registered model, their aliases, and the line of champions."""

import getpass
import json
from datetime import datetime

from ..config import MODEL, SETTINGS, UserError
from ..ops.shell import command, quoted

LINE = "champions"  # tag of the registered model: its champions, one after another


def version_of(alias: str):
    """Return the version of the registered model that has an `alias`, or None."""
    import mlflow

    try:
        return mlflow.MlflowClient().get_model_version_by_alias(MODEL, alias)
    except mlflow.MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


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
            f"{label} was made in run {version.run_id}, which is deleted. To restore it: "
            f"{mlflow_command('runs', 'restore', '--run-id', version.run_id)}"
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
            f"The experiment {name} was deleted. To restore it: "
            f"{mlflow_command('experiments', 'restore', '--experiment-id', number)}"
        )
    mlflow.set_experiment(name)


def mlflow_command(*words: str) -> str:
    """Return what to type to run one of MLflow's own commands on this history."""
    return f"{command('mlflow')} {quoted('--env-file', SETTINGS, *words)}"


def crown(challenger, champion, results: dict, run_id: str) -> None:
    """Move the alias `champion` to the challenger and record who, when, from where and why."""
    import mlflow

    client = mlflow.MlflowClient()
    line = recorded(client, champion)
    tags = {
        "promoted_by": getpass.getuser(),
        "promoted_at": datetime.now().astimezone().isoformat(timespec="seconds"),
        "promoted_from": champion.version if champion else "none",
        "promoted_in_run": run_id,
    }
    tags |= {f"metrics_of_{alias}": json.dumps(one.metrics) for alias, one in results.items()}
    for name, value in tags.items():
        client.set_model_version_tag(MODEL, challenger.version, name, value)
    client.set_registered_model_tag(MODEL, LINE, json.dumps([*line, challenger.version]))
    client.set_registered_model_alias(MODEL, "champion", challenger.version)
    print(f"Version {challenger.version} is the champion (before: {tags['promoted_from']})")


def recorded(client, champion) -> list[str]:
    """Return the line of champions up to the present one, even one that was made by hand."""
    line = json.loads(client.get_registered_model(MODEL).tags.get(LINE, "[]"))
    if not champion:
        return []
    if champion.version in line:
        return line[: len(line) - line[::-1].index(champion.version)]
    return [*line, champion.version]
