"""An old run again: what differs now, the same training, and whether its metrics come back."""

import difflib
import math

import mlflow
import pandas as pd
from mlflow import MlflowClient, MlflowException, artifacts

from ..config import EXPERIMENT, UserError
from .provenance import origin, parameters, run_tags
from .train import ROWS, train

TOLERANCE = 1e-6  # relative; a metric of the same code, data and seed is the same number


def reproduce(run_id: str) -> None:
    """Train with the parameters and seed of a run, compare the metrics, and link the two runs.

    Prints what differs between then and now first. Raises `UserError` when the run is unknown, was
    not made by `train`, or its metrics do not come back.
    """
    client = MlflowClient()
    try:
        then = client.get_run(run_id)
    except MlflowException as error:
        raise UserError(f"There is no run {run_id} in this history.") from error
    params, seed = parameters(then)
    for line in differences(then):
        print(line)
    again = client.get_run(train(params, seed, register=False, frame=kept_rows(then)))
    client.set_tag(again.info.run_id, "reproduces", run_id)
    client.set_tag(run_id, "reproduced_by", again.info.run_id)
    if changed := {name for name, _ in datasets(then) ^ datasets(again)}:
        print(f"Data     differs: {', '.join(sorted(changed))}")
    compare(then.data.metrics, again.data.metrics)


def kept_rows(run) -> pd.DataFrame | None:
    """Return the rows that a run kept; None for one that was made from those of `load`."""
    mlflow.set_experiment(EXPERIMENT)
    if ROWS in run.data.tags.get("mlflow.loggedArtifacts", ""):
        return mlflow.load_table(ROWS, run_ids=[run.info.run_id])
    return None


def differences(then) -> list[str]:
    """Return a line for each fact of a run's origin that is another one now."""
    tags, now = then.data.tags, run_tags()
    facts = {"Commit": "git", "Changes": "git_dirty", "Python": "python", "MLflow": "mlflow"}
    lines = [
        f"{what:<8} {tags.get(name)} then, {now.get(name)} now"
        for what, name in facts.items()
        if tags.get(name) != now.get(name)
    ]
    files = artifacts.list_artifacts(run_id=then.info.run_id, artifact_path="origin")
    texts = origin()
    for name in sorted({file.path.rpartition("/")[2] for file in files} | {*texts}):
        old, new = recorded(then.info.run_id, name), texts.get(name, "")
        changed = difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")
        if found := [f"{line[0]} {line[1:]}" for line in list(changed)[2:] if line[0] in "+-"]:
            shown = ", ".join(found[:4]) if name == "packages.txt" else f"{len(found)} lines"
            lines.append(f"{name}: {shown}{' ...' if len(found) > 4 else ''} (- then, + now)")
    return lines or ["Nothing differs between then and now, as far as was recorded."]


def recorded(run_id: str, name: str) -> str:
    """Return a file of a run's origin; nothing when it has none of this name."""
    try:
        return artifacts.load_text(f"runs:/{run_id}/origin/{name}")
    except (MlflowException, OSError):
        return ""


def datasets(run) -> set[tuple[str, str]]:
    """Return name and digest of the data sets of a run."""
    return {(one.dataset.name, one.dataset.digest) for one in run.inputs.dataset_inputs}


def compare(then: dict[str, float], now: dict[str, float]) -> None:
    """Print the metrics of two runs; raise `UserError` if they differ by more than `TOLERANCE`."""
    differ = []
    for name in sorted(then.keys() | now.keys()):
        old, new = then.get(name, math.nan), now.get(name, math.nan)
        same = math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
        same |= name in then and name in now and math.isnan(old) and math.isnan(new)
        differ += [] if same else [name]
        print(f"{name:<24} {old} then, {new} now{'' if same else '  differs'}")
    if differ:
        raise UserError(f"Not reproduced: {', '.join(differ)} differ by more than {TOLERANCE:g}.")
    print(f"Reproduced, within {TOLERANCE:g}")
