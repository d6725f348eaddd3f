"""Promote the challenger if it passes the gate; roll back to an earlier champion."""

import json

from ..config import GATE_EXPERIMENT, VIEW, UserError
from ..ops import ownership
from . import contract, record, registry
from .candidate import Candidate, Scored, Today, candidate_of, score, unseen_rows
from .provenance import run_tags
from .verdict import Verdict, judge, log, show


def promote(unopposed: bool = False, number: int | None = None) -> None:
    """Give the alias `champion` to the challenger, or to the version `number`, if it passes.

    Both are judged on the held-out rows that neither was trained on: those of `load`, and labelled
    ones that `monitor` has kept. With `unopposed`, a champion that cannot be compared is left out.
    Raises `UserError` if the challenger is refused or cannot be judged. Everything is known before
    anything is written, and the alias is written last.
    """
    uri = ownership.connect()
    import mlflow

    contract.check_names()
    champion = registry.version_of("champion")
    try:
        verdict = verdict_on(number, champion, unopposed)
    except BaseException:
        mlflow.end_run("FAILED")  # a run that `load` began by logging to it
        raise

    tags = run_tags()
    with mlflow.active_run() or mlflow.start_run(run_name="gate", tags=tags) as run:
        log(verdict, tags, run.info.run_id)
    show(verdict, f"{uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}{VIEW}")
    if verdict.reasons:
        stays = ", the champion stays" if champion else ""
        raise UserError(f"The challenger is refused{stays}: {'; '.join(verdict.reasons)}.")
    crown(verdict, champion, run.info.run_id)


def rollback() -> None:
    """Give the alias `champion` back to the living version that had it before."""
    ownership.connect()
    champion, before = registry.take_back()
    told = f"taken back: {before.version}" if before else "the version after it was deleted"
    print(f"Version {champion.version} is the champion again ({told})")


def verdict_on(number: int | None, champion, unopposed: bool) -> Verdict:
    """Return the verdict on a version beside the champion; `promote` says what is raised."""
    challenger = challenger_of(number, champion)
    beside = f" beside version {champion.version}, the champion" if champion else ""
    print(f"Judging  version {challenger.version.version}{beside} ...", flush=True)
    registry.open_experiment(GATE_EXPERIMENT)
    today = Today()
    rows = unseen_rows(challenger, today)
    other = opponent(champion, today, unopposed) if champion else None
    rows |= {name: one.rows for name, one in (other or {}).items()}
    return judge({name: score(challenger, some) for name, some in rows.items()}, other, champion)


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


def opponent(version, today: Today, unopposed: bool) -> dict[str, Scored] | None:
    """Return the champion on the held-out rows, by part, that it was not trained on.

    Raises `UserError` if it cannot be compared; with `unopposed`, says so and returns None.
    """
    try:
        candidate = candidate_of("champion", version)
        rows = unseen_rows(candidate, today)
        return {name: score(candidate, some) for name, some in rows.items()}
    except UserError as reason:
        if not unopposed:
            raise UserError(
                f"{reason} To judge the challenger by its thresholds alone: `promote --unopposed`."
            ) from reason
        print(f"Unopposed: {reason}")
        return None


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
