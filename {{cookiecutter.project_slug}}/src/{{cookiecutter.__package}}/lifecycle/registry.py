"""Versions of the registered model, their aliases, and the line of champions."""

import getpass
import json
from datetime import datetime

from ..config import MODEL

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
