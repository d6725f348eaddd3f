"""The gate: the challenger becomes the champion when it is good enough, and better; and back."""

import getpass
import json
import math
from collections import Counter
from datetime import datetime
from itertools import product

import pandas as pd

from ..config import EXPERIMENT, MODEL, VIEW, UserError
from ..data import TARGET, load, split
from ..model import PRIMARY, TASK, THRESHOLDS, measure
from ..ops import ownership
from ..ops.shell import hush
from .provenance import record_files, run_tags
from .registry import LINE, crown, recorded, version_of
from .rows import row_hashes

FEWEST = 20  # held-out rows that the champion has not seen, or there is nothing to compare


def promote(frame: pd.DataFrame | None = None, unopposed: bool = False) -> None:
    """Give the challenger the alias `champion`, or say why not.

    Both are judged on the same held-out rows of `frame` (of `load`, when there is none), which
    neither was trained on; with `unopposed` a champion that cannot take them is left out.
    Raises `UserError` when the challenger misses a threshold or is no better.
    """
    uri = ownership.connect()
    import mlflow

    hush()
    frame = load() if frame is None else frame
    challenger, champion = version_of("challenger"), version_of("champion")
    if not challenger:
        raise UserError("There is no challenger yet: train one first.")
    if champion and champion.version == challenger.version:
        raise UserError(f"Version {champion.version} is the champion already.")
    versions, rows = {"challenger": challenger}, unseen("challenger", challenger, frame)
    if champion and (common := shared(champion, frame, unopposed)) is not None:
        versions["champion"], rows = champion, common

    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name="gate", tags=run_tags() | {"step": "promote"}) as run:
        results = {alias: judge(alias, version, rows) for alias, version in versions.items()}
        reasons = missed(results)
        mlflow.set_tag("verdict", "refused" if reasons else "promoted")
    print(f"Gate     {uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{VIEW}")
    print(table(results, reasons).to_string())
    if reasons:
        told = "; ".join(f"{name} {reason}" for name, reason in reasons.items())
        raise UserError(f"The challenger is refused, the champion stays: {told}.")
    crown(challenger, champion, results, run.info.run_id)


def unseen(alias: str, version, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the held-out rows of `frame`; refuse when a challenger was trained on any.

    Those that the champion was trained on are left out: the data may have grown since.
    A row that `frame` has several times may be on both sides, as often as it is there.
    """
    import mlflow

    try:
        place = f"runs:/{version.run_id}/data/training_rows.txt"
        trained = Counter(int(row, 16) for row in mlflow.artifacts.load_text(place).split())
    except mlflow.MlflowException as error:
        raise UserError(
            f"The {alias}, version {version.version}, has no record of its training rows, so it "
            "cannot be judged: train one with this project's train."
        ) from error
    held_out = split(frame)[1]
    hashes = row_hashes(held_out, [*frame]).tolist()
    held, whole = Counter(hashes), Counter(row_hashes(frame, [*frame]).tolist())
    fresh = [trained[row] + held[row] <= whole[row] or not trained[row] for row in hashes]
    leaked = len(held_out) - sum(fresh)
    if leaked and alias == "challenger":
        raise UserError(
            f"{leaked} of the {len(held_out)} held-out rows were among the training rows of the "
            f"challenger, version {version.version}: no verdict. Does split() keep them apart?"
        )
    if leaked and sum(fresh) < FEWEST:
        raise UserError(
            f"The champion, version {version.version}, was trained on {leaked} of the "
            f"{len(held_out)} held-out rows, which leaves too few to compare: get new rows."
        )
    if leaked:
        print(f"Judging  on {sum(fresh)} of {len(held_out)} held-out rows: the champion saw others")
    return held_out[fresh]


def shared(champion, frame: pd.DataFrame, unopposed: bool) -> pd.DataFrame | None:
    """Return the held-out rows on which the champion can be judged too.

    Where it cannot be, refuse; or return None when it is to be `unopposed`.
    """
    import mlflow

    model = mlflow.models.get_model_info(f"models:/{MODEL}/{champion.version}")
    lacking = set(model.signature.inputs.input_names() if model.signature else []) - {*frame}
    try:
        if lacking:
            raise UserError(
                f"The champion, version {champion.version}, needs columns that your data lacks: "
                f"{', '.join(sorted(lacking)[:5])}."
            )
        return unseen("champion", champion, frame)
    except UserError as reason:
        if not unopposed:
            raise UserError(
                f"{reason} To judge the challenger by its thresholds alone: promote --unopposed."
            ) from reason
        print(f"Unopposed: {reason}")
        return None


def judge(alias: str, version, rows: pd.DataFrame):
    """Return MLflow's evaluation of a version on held-out rows, with the metrics of `measure`."""
    import mlflow

    place = f"models:/{MODEL}/{version.version}"
    with mlflow.start_run(run_name=f"{alias}: version {version.version}", nested=True) as run:
        result = mlflow.models.evaluate(
            place,
            rows,
            targets=TARGET,
            model_type=TASK,
            evaluator_config={"log_model_explainability": False},
        )
        X, y = rows.drop(columns=TARGET), rows[TARGET]
        ours = measure(mlflow.sklearn.load_model(place), X, y)
        mlflow.log_metrics(ours)
        mlflow.set_tags({"version": version.version, "step": "promote"})
        record_files(run.info.run_id)
    metrics = {name: float(value) for name, value in {**result.metrics, **ours}.items()}
    return mlflow.models.EvaluationResult(metrics, result.artifacts)


def missed(results: dict) -> dict[str, str]:
    """Return why the challenger is refused, by metric and MLflow's own comparison."""
    import mlflow

    wanted = {}
    name, direction = PRIMARY
    for alias, metric in product(results, [name, *THRESHOLDS]):
        if not math.isfinite(results[alias].metrics.get(metric, math.nan)):
            raise UserError(f"The {alias} has no {metric}: does measure() in model.py return it?")
    for metric in dict.fromkeys([name, *THRESHOLDS]):
        sign, threshold = THRESHOLDS.get(metric, (None, None))
        greater = sign == ">=" if sign else direction == "maximize"
        better = None
        if metric == name and "champion" in results:
            better = 1e-9 * max(1, abs(results["champion"].metrics[name]))
        wanted[metric] = mlflow.models.MetricThreshold(threshold, better, None, greater)
    try:
        mlflow.validate_evaluation_results(wanted, results["challenger"], results.get("champion"))
    except mlflow.exceptions.MlflowException as error:
        return {metric: why for metric in wanted if (why := reason(metric, str(error)))}
    return {}


def reason(metric: str, told: str) -> str:
    """Return what MLflow's refusal `told` of a metric, in short; nothing when it said nothing."""
    lines = [line for line in told.splitlines() if line.startswith(f"Metric {metric} ")]
    short = ["is no better" if " change " in line else "misses its threshold" for line in lines]
    return " and ".join(short)


def table(results: dict, reasons: dict[str, str]) -> pd.DataFrame:
    """Return the metrics that decide, of both models, beside what is wanted and what came of it."""
    names = list(dict.fromkeys([PRIMARY[0], *THRESHOLDS]))
    columns = {alias: [result.metrics[name] for name in names] for alias, result in results.items()}
    wanted = [" ".join(map(str, THRESHOLDS.get(name, ("",)))) for name in names]
    verdict = [reasons.get(name, "passes") for name in names]
    return pd.DataFrame({**columns, "wanted": wanted, "": verdict}, names).round(4)


def rollback() -> None:
    """Give the alias `champion` back to the version that had it before."""
    ownership.connect()
    import mlflow

    client, champion = mlflow.MlflowClient(), version_of("champion")
    if not champion:
        raise UserError("There is no champion to take back.")
    *before, _ = recorded(client, champion)
    if not before:
        raise UserError(f"There was no champion before version {champion.version}: it stays.")
    client.set_registered_model_alias(MODEL, "champion", before[-1])
    client.set_registered_model_tag(MODEL, LINE, json.dumps(before))
    by = f"{getpass.getuser()}, {datetime.now().astimezone().isoformat(timespec='seconds')}"
    client.set_model_version_tag(MODEL, champion.version, "rolled_back_by", by)
    print(f"Version {before[-1]} is the champion again (taken back: {champion.version})")
