"""Promote the challenger if it passes the gate; roll back to an earlier champion."""

import json
import math
from contextlib import suppress
from dataclasses import dataclass

import pandas as pd

from ..config import GATE_EXPERIMENT, VIEW, UserError
from ..model import PRIMARY
from ..ops import ownership
from ..ops.shell import hush
from . import gate, record, registry
from .candidate import Candidate, Scored, Today, candidate_of, score, unseen_rows
from .contract import MARGIN, THRESHOLDS, plots
from .provenance import code_hash, record_files, run_tags


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, and what is told beside it."""

    scored: list[Scored]  # the challenger, and the champion if there is one to compare with
    reasons: dict[str, str]  # why the challenger is refused, by metric
    gain: float | None
    half_width: float | None  # of the 90 % interval of `gain`; None if it cannot be told
    tries: int


def promote(
    frame: pd.DataFrame | None = None, unopposed: bool = False, number: int | None = None
) -> None:
    """Give the alias `champion` to the challenger, or to the version `number`, if it passes.

    Both are judged on the held-out rows of `frame` (of `load`, if there is none) that neither was
    trained on. With `unopposed`, a champion that cannot be compared is left out. Raises `UserError`
    if the challenger is refused or cannot be judged. Everything is known before anything is
    written, and the alias is written last.
    """
    uri = ownership.connect()
    import mlflow

    hush()
    gate.check_rules(PRIMARY, THRESHOLDS, MARGIN)
    champion = registry.version_of("champion")
    try:
        verdict = verdict_on(number, champion, frame, unopposed)
    except BaseException:
        mlflow.end_run("FAILED")  # a run that `load` began by logging to it
        raise

    tags = run_tags()
    with mlflow.active_run() or mlflow.start_run(run_name="gate", tags=tags) as run:
        log(verdict, tags, run.info.run_id)
    show(verdict, f"{uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{VIEW}")
    if verdict.reasons:
        told = "; ".join(f"{name} {reason}" for name, reason in verdict.reasons.items())
        stays = ", the champion stays" if champion else ""
        raise UserError(f"The challenger is refused{stays}: {told}.")
    crown(verdict, champion, run.info.run_id)


def rollback() -> None:
    """Give the alias `champion` back to the living version that had it before."""
    ownership.connect()
    champion, before = registry.take_back()
    told = f"taken back: {before.version}" if before else "the version after it was deleted"
    print(f"Version {champion.version} is the champion again ({told})")


def verdict_on(
    number: int | None, champion, frame: pd.DataFrame | None, unopposed: bool
) -> Verdict:
    """Return the verdict on a version beside the champion; `promote` says what is raised."""
    challenger = challenger_of(number, champion)
    registry.open_experiment(GATE_EXPERIMENT)
    today = Today(frame)
    rows = unseen_rows(challenger, today)
    other = opponent(champion, today, unopposed) if champion else None
    return judge(score(challenger, other.rows if other else rows), other, champion)


def challenger_of(number: int | None, champion) -> Candidate:
    """Return the version `number`, else the challenger; refuse one that was rolled back.

    A version that was rolled back is judged again only if it is asked for by number. So is one
    that was made with the same parameters, seed, code and data.
    """
    version = registry.version_numbered(number) if number else registry.version_of("challenger")
    if not version:
        raise UserError("There is no challenger yet: train one first.")
    if champion and champion.version == version.version:
        raise UserError(f"Version {version.version} is the champion already.")
    candidate = candidate_of("challenger", version)
    for old in [] if number else registry.rolled_back():
        same = old.version == version.version
        if same or same_training(old, candidate.record):
            which = "" if same else f" is the same model as version {old.version}, which"
            raise UserError(
                f"The {candidate},{which} was rolled back by {old.tags[registry.ROLLED_BACK]}. To "
                f"judge it all the same: `promote {version.version}`."
            )
    return candidate


def same_training(version, new: record.Record) -> bool:
    """Return whether a version was made with the parameters, seed, code and data of a record."""
    try:
        old = record.read(version.run_id)
    except UserError:
        return False
    made = [
        (sorted((name, repr(value)) for name, value in one.params.items()), one.seed, one.code)
        for one in (old, new)  # repr: nan is nan
    ]
    return made[0] == made[1] and old.digest == new.digest


def opponent(version, today: Today, unopposed: bool) -> Scored | None:
    """Return the champion on the held-out rows that it was not trained on.

    Raises `UserError` if it cannot be compared; with `unopposed`, says so and returns None.
    """
    try:
        candidate = candidate_of("champion", version)
        return score(candidate, unseen_rows(candidate, today))
    except UserError as reason:
        if not unopposed:
            raise UserError(
                f"{reason} To judge the challenger by its thresholds alone: `promote --unopposed`."
            ) from reason
        print(f"Unopposed: {reason}")
        return None


def judge(challenger: Scored, other: Scored | None, champion) -> Verdict:
    """Return the verdict on the challenger, with the `other` model on the same rows if any."""
    gain = half = None
    metrics = other.metrics if other else None
    reasons = gate.reasons(challenger.metrics, metrics, PRIMARY, THRESHOLDS, MARGIN)
    if other:
        one, two = challenger.metrics_of, other.metrics_of
        gain = gate.gain(challenger.metrics, other.metrics, PRIMARY)
        half = gate.interval(lambda some: gate.gain(one(some), two(some), PRIMARY), len(other.rows))
    scored = [challenger, *([other] if other else [])]
    return Verdict(scored, reasons, gain, half, tries(challenger.candidate.record, champion))


def tries(of: record.Record, champion) -> int:
    """Return how many training runs with these held-out rows finished since the promotion.

    Of whatever experiment; runs of `reproduce` do not count.
    """
    import mlflow

    since = registry.champion_since(champion) if champion else 0
    found = mlflow.search_runs(
        search_all_experiments=True,
        filter_string=f"datasets.digest = '{of.digest['held_out']}' AND "
        f"attributes.status = 'FINISHED' AND attributes.end_time > {since * 1000:.0f}",
        output_format="list",
    )
    return sum("reproduces" not in run.data.tags for run in found)


def crown(verdict: Verdict, champion, run_id: str) -> None:
    """Make the challenger the champion, unless another version became it meanwhile."""
    present = registry.version_of("champion")
    if (present and present.version) != (champion and champion.version):
        raise UserError("Another version became the champion meanwhile: promote again.")
    tags = {f"metrics_of_{one.candidate.alias}": json.dumps(one.metrics) for one in verdict.scored}
    tags["promoted_from"] = champion.version if champion else "none"
    version = verdict.scored[0].candidate.version
    registry.crown(version, tags | {"promoted_in_run": run_id})
    print(f"Version {version.version} is the champion (before: {tags['promoted_from']})")


# What is written and told


def log(verdict: Verdict, tags: dict[str, str], run_id: str) -> None:
    """Log a verdict to the active run: plots and metrics of both versions, and what decided."""
    import mlflow

    for one in verdict.scored:
        log_plots(one)
    told = {"gain": verdict.gain, "gain_half_width": verdict.half_width}
    told |= {"tries": float(verdict.tries), "rows": float(len(verdict.scored[0].rows))}
    for one in verdict.scored:
        told |= {f"{one.candidate.alias}/{name}": value for name, value in one.metrics.items()}
    mlflow.log_metrics({name: value for name, value in told.items() if value is not None})
    versions = {one.candidate.alias: one.candidate.version.version for one in verdict.scored}
    decided = {"step": "promote", "verdict": "refused" if verdict.reasons else "promoted"}
    mlflow.set_tags(tags | versions | decided)
    record_files(run_id)


def log_plots(scored: Scored) -> None:
    """Log the plots of a version on the rows that it is judged on.

    They take long to draw: if rows and code are those of its training run, they are copied.
    """
    import mlflow

    candidate, folder = scored.candidate, f"plots/{scored.candidate.alias}"
    if candidate.record.code == code_hash() and scored.as_trained():
        with suppress(mlflow.MlflowException):
            place = f"runs:/{candidate.record.run_id}/plots"
            mlflow.log_artifacts(mlflow.artifacts.download_artifacts(place), folder)
            return
    try:
        figures = plots(candidate.model, scored.X, scored.y)
    except Exception as error:  # whatever the user's function raises: it decides nothing
        print(f"No plots of the {candidate}: {type(error).__name__}: {error}")
        return
    for name, figure in figures.items():
        mlflow.log_figure(figure, f"{folder}/{name}.png")


def show(verdict: Verdict, address: str) -> None:
    """Print a verdict and how far to trust it."""
    print(f"Gate     {address}")
    print(table(verdict).to_string())
    if verdict.gain is not None:
        half, rows = verdict.half_width, len(verdict.scored[0].rows)
        ends = "cannot tell"
        if half is not None:
            ends = f"{verdict.gain - half:+.4f} to {verdict.gain + half:+.4f}"
        print(f"Gain     {PRIMARY[0]} {verdict.gain:+.4f} (90 % interval: {ends}; {rows} rows)")
        if verdict.tries > 1:
            print(f"Tries    best of {verdict.tries}: part of this gain may be luck")


def table(verdict: Verdict) -> pd.DataFrame:
    """Return the metrics that decide, of both versions, beside what is wanted and the verdict."""
    names = list(dict.fromkeys([PRIMARY[0], *THRESHOLDS]))
    columns = {
        one.candidate.alias: [one.metrics.get(name, math.nan) for name in names]
        for one in verdict.scored
    }
    wanted = [" ".join(map(str, THRESHOLDS.get(name, ("",)))) for name in names]
    told = [verdict.reasons.get(name, "passes") for name in names]
    return pd.DataFrame({**columns, "wanted": wanted, "": told}, names).round(4)
