"""The gate: the challenger becomes the champion when it is good enough, and better; and back."""

import getpass
import json
from collections import Counter
from datetime import datetime

import pandas as pd

from .config import EXPERIMENT, MODEL, VIEW, Refused, hush, run_tags
from .data import TARGET, load, split
from .model import PRIMARY, TASK, THRESHOLDS, measure
from .ops import server
from .train import row_hashes

LINE = "champions"  # tag of the registered model: its champions, one after another


def promote() -> None:
    """Give the challenger the alias `champion`, or say why not.

    Both are judged on the held-out rows, which neither was trained on.
    Raises `Refused` when the challenger misses a threshold or is no better.
    """
    uri = server.connect()
    import mlflow

    hush()
    frame = load()
    held_out = split(frame)[1]
    client = mlflow.MlflowClient()
    found = {alias: version_of(alias) for alias in ("challenger", "champion")}
    if not found["challenger"]:
        raise Refused("There is no challenger yet: train one first.")
    versions = {alias: version for alias, version in found.items() if version}
    if len(versions) == 2 and len({version.version for version in versions.values()}) == 1:
        raise Refused(f"Version {found['champion'].version} is the champion already.")
    for alias, version in versions.items():
        refuse_leak(alias, version, frame, held_out)

    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name="gate", tags=run_tags() | {"step": "promote"}) as run:
        results = {alias: judge(alias, version, held_out) for alias, version in versions.items()}
        reasons = missed(results)
        mlflow.set_tag("verdict", "refused" if reasons else "promoted")
    print(f"Gate     {uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{VIEW}")
    print(table(results).to_string())
    if reasons:
        raise Refused("The challenger is refused, the champion stays. " + " ".join(reasons))
    crown(client, found, results, run.info.run_id)


def version_of(alias: str):
    """Return the version of the registered model that has an `alias`, or None."""
    import mlflow

    try:
        return mlflow.MlflowClient().get_model_version_by_alias(MODEL, alias)
    except mlflow.MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def refuse_leak(alias: str, version, frame: pd.DataFrame, held_out: pd.DataFrame) -> None:
    """Refuse to judge a version on held-out rows that it was trained on.

    A row that `frame` has several times may be on both sides, as often as it is there.
    """
    import mlflow

    place = f"runs:/{version.run_id}/data/training_rows.txt"
    try:
        trained = Counter(mlflow.artifacts.load_text(place).split())
    except mlflow.MlflowException as error:
        raise Refused(
            f"The {alias}, version {version.version}, has no record of its training rows, so it "
            "cannot be judged: train one with this project's train."
        ) from error
    held, whole = Counter(row_hashes(held_out)), Counter(row_hashes(frame))
    if leaked := sum(trained[row] + held[row] > whole[row] for row in trained & held):
        raise Refused(
            f"{leaked} of the {len(held_out)} held-out rows were among the training rows of the "
            f"{alias}, version {version.version}: no verdict. Does split() keep them apart?"
        )


def judge(alias: str, version, held_out: pd.DataFrame):
    """Return MLflow's evaluation of a version on held-out rows, with the metrics of `measure`."""
    import mlflow

    place = f"models:/{MODEL}/{version.version}"
    with mlflow.start_run(run_name=f"{alias}: version {version.version}", nested=True):
        result = mlflow.models.evaluate(
            place,
            held_out,
            targets=TARGET,
            model_type=TASK,
            evaluator_config={"log_model_explainability": False},
        )
        X, y = held_out.drop(columns=TARGET), held_out[TARGET]
        ours = measure(mlflow.sklearn.load_model(place), X, y)
        mlflow.log_metrics(ours)
        mlflow.set_tags({"version": version.version, "step": "promote"})
    metrics = {name: float(value) for name, value in {**result.metrics, **ours}.items()}
    return mlflow.models.EvaluationResult(metrics, result.artifacts)


def missed(results: dict) -> list[str]:
    """Return why the challenger is refused, by MLflow's own comparison; nothing when it is not."""
    import mlflow

    wanted = {}
    name, direction = PRIMARY
    for metric in {*THRESHOLDS, name}:
        sign, threshold = THRESHOLDS.get(metric, (None, None))
        greater = sign == ">=" if sign else direction == "maximize"
        better = 1e-9 if metric == name and "champion" in results else None
        wanted[metric] = mlflow.models.MetricThreshold(threshold, better, None, greater)
    try:
        mlflow.validate_evaluation_results(wanted, results["challenger"], results.get("champion"))
    except mlflow.exceptions.MlflowException as error:
        return str(error).splitlines()
    return []


def table(results: dict) -> pd.DataFrame:
    """Return the metrics that decide, of both models, beside what is wanted."""
    names = {PRIMARY[0]: None} | dict.fromkeys(THRESHOLDS)
    columns = {alias: [result.metrics[name] for name in names] for alias, result in results.items()}
    wanted = [" ".join(map(str, THRESHOLDS.get(name, ("",)))) for name in names]
    return pd.DataFrame({**columns, "wanted": wanted}, index=list(names)).round(4)


def crown(client, found: dict, results: dict, run_id: str) -> None:
    """Move the alias `champion` to the challenger and record who, when, from where and why."""
    challenger, champion = found["challenger"], found["champion"]
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


def rollback() -> None:
    """Give the alias `champion` back to the version that had it before."""
    server.connect()
    import mlflow

    client, champion = mlflow.MlflowClient(), version_of("champion")
    if not champion:
        raise Refused("There is no champion to take back.")
    *before, _ = recorded(client, champion)
    if not before:
        raise Refused(f"There was no champion before version {champion.version}: it stays.")
    client.set_registered_model_alias(MODEL, "champion", before[-1])
    client.set_registered_model_tag(MODEL, LINE, json.dumps(before))
    by = f"{getpass.getuser()}, {datetime.now().astimezone().isoformat(timespec='seconds')}"
    client.set_model_version_tag(MODEL, champion.version, "rolled_back_by", by)
    print(f"Version {before[-1]} is the champion again (taken back: {champion.version})")
