"""Delete training runs whose models nothing needs: no alias, champion or former champion."""

import time
from contextlib import suppress
from typing import NamedTuple

import mlflow

from ..config import EXPERIMENT, MODEL, UserError, setting
from ..ops import history, ownership
from ..ops.check_history import bytes_below
from ..ops.shell import command, counted, size
from . import registry
from .record import STEP

DAY = 24 * 3600 * 1000  # in milliseconds


class Unneeded(NamedTuple):
    """A training run that nothing needs, its models, its versions, and their size in bytes."""

    run_id: str
    name: str
    models: list[str]
    versions: list[str]
    size: int


def clean(days: int, delete: bool = False) -> None:
    """List the training runs that ended `days` ago and nothing needs; with `delete`, delete them.

    They can be restored until MLflow's `gc` removes what is deleted.
    """
    ownership.connect()
    found = unneeded(days)
    for one in found:
        made = f", version {', '.join(one.versions)}" if one.versions else ""
        print(f"{one.run_id}  {size(one.size):>10}  {one.name}{made}")
    total = f"{counted(len(found), 'run')}, {size(sum(one.size for one in found))} of artifacts"
    if not found:
        print(f"Nothing to delete: every run that ended over {days} days ago is needed.")
    elif not delete:
        print(f"Unneeded {total}. Nothing is deleted yet. To delete them, type:")
        print(f"  {command(MODEL)} clean --days {days} --yes")
    else:
        for one in found:
            remove(one)
        print(f"Deleted  {total}. To free the disk for good, write a backup and type:")
        print(f"  {collect()}")


def unneeded(days: int) -> list[Unneeded]:
    """Return the ended training runs of this project that nothing needs, the largest first."""
    versions, aliased = registry.versions(), registry.aliased()
    kept = {one.run_id for one in registry.champions()}
    kept |= {one.run_id for one in versions if str(one.version) in aliased}
    made: dict[str, list[str]] = {}
    for version in versions:
        made.setdefault(version.run_id, []).append(str(version.version))
    found = []
    for run in training_runs(days, [*made]):
        if (name := run.info.run_id) not in kept:
            models = [one.model_id for one in run.outputs.model_outputs] if run.outputs else []
            places = [name, *(f"models/{model}" for model in models)]
            count = sum(bytes_of(f"{run.info.experiment_id}/{place}") for place in places)
            found.append(Unneeded(name, run.info.run_name, models, made.get(name, []), count))
    return sorted(found, key=lambda one: -one.size)


def training_runs(days: int, of_versions: list[str]) -> list:
    """Return the training runs of the experiment, and those of versions, that ended `days` ago."""
    until = f"attributes.end_time <= {time.time() * 1000 - days * DAY:.0f}"
    found = mlflow.search_runs(
        experiment_names=[EXPERIMENT],
        filter_string=f"tags.{STEP} = 'train' AND {until}",
        output_format="list",
    )
    known = {run.info.run_id for run in found}
    for run_id in of_versions:  # wherever they are: experiments are renamed
        if run_id and run_id not in known:
            found += mlflow.search_runs(
                search_all_experiments=True,
                filter_string=f"attributes.run_id = '{run_id}' AND {until}",
                output_format="list",
            )
    return found


def bytes_of(place: str) -> int:
    """Return the size of a folder of artifacts; 0 where they are in an object store."""
    with suppress(UserError):
        return bytes_below(history.artifacts() / place)
    return 0


def remove(one: Unneeded) -> None:
    """Delete the versions of a run, its models and the run; the run is last, so it can be found."""
    client = mlflow.MlflowClient()
    for version in one.versions:
        client.delete_model_version(MODEL, version)
    for model in one.models:
        client.delete_logged_model(model)
    client.delete_run(one.run_id)


def collect() -> str:
    """Return the command that removes what is deleted for good."""
    stores = {
        "--backend-store-uri": setting("MLFLOW_BACKEND_STORE_URI"),
        "--artifacts-destination": setting("MLFLOW_ARTIFACTS_DESTINATION"),
    }
    words = [word for pair in stores.items() for word in pair]
    return registry.mlflow_command("gc", *words)
