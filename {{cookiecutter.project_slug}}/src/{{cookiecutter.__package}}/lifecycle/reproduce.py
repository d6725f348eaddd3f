"""An old run again: what differs now, the same training, and whether its metrics come back."""

import difflib
import math
import tempfile
from pathlib import Path

from mlflow import MlflowClient, MlflowException, artifacts

from ..config import UserError
from ..ops.shell import counted
from . import record
from .provenance import code_hash, origin, run_tags
from .train import train

TOLERANCE = 1e-6  # relative; a metric of the same code, data and seed is the same number
SHOWN = 4  # changed lines of a file


def reproduce(run_id: str) -> None:
    """Train with the parameters and seed of a run, compare the metrics, and link the two runs.

    Prints what differs between then and now first. Raises `UserError` if the run does not exist, is
    deleted, was not made by `train`, or if its metrics do not come back.
    """
    client, then = MlflowClient(), record.read(run_id)
    for line in differences(then, client.get_run(run_id).data.tags):
        print(line)
    again = record.read(train(then.params, then.seed, register=False, reports=then.batches))
    client.set_tag(again.run_id, "reproduces", run_id)
    client.set_tag(run_id, "reproduced_by", again.run_id)
    if changed := [part for part, digest in then.digest.items() if again.digest[part] != digest]:
        names = " and ".join(part.replace("_", "-") for part in changed)
        print(f"Data     the {names} rows differ from those of run {run_id}")
    compare(then.metrics, again.metrics)


def differences(then: record.Record, tags: dict[str, str]) -> list[str]:
    """Return a line for each fact of a run's origin that is another one now."""
    now = run_tags()
    facts = {"Commit": "git", "Changes": "git_dirty", "Python": "python", "MLflow": "mlflow"}
    lines = [
        f"{what:<8} {in_words(tags.get(name))} then, {in_words(now.get(name))} now"
        for what, name in facts.items()
        if tags.get(name) != now.get(name)
    ]
    if then.code != code_hash():
        lines.append("Code     the files of the package differ")
    old, new = recorded(then.run_id), origin()
    if old is None:
        return [*lines, "Unknown  what was installed: files of the run's origin cannot be read"]
    for name in sorted(old.keys() | new.keys()):
        before, after = (texts.get(name, "").splitlines() for texts in (old, new))
        changed = [*difflib.unified_diff(before, after, n=0, lineterm="")][2:]
        found = [f"{line[0]} {line[1:]}" for line in changed if line[0] in "+-"]
        if found and name == "packages.txt":
            more = " ..." * (len(found) > SHOWN)
            lines.append(f"{name}: {', '.join(found[:SHOWN])}{more} (- then, + now)")
        elif found:
            lines.append(f"{name} differs in {counted(len(found), 'line')}")
    return lines or ["Code, packages and Python are the same as then."]


def in_words(value: str | None) -> str:
    """Return a tag in words; those of uncommitted changes are true and false."""
    return {None: "unknown", "true": "uncommitted", "false": "none"}.get(value, str(value))


def recorded(run_id: str) -> dict[str, str] | None:
    """Return the files of a run's origin by name; None if they cannot be read."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        try:
            place = f"runs:/{run_id}/origin"
            folder = Path(artifacts.download_artifacts(place, dst_path=temporary))
        except (MlflowException, OSError):
            return None
        files = [file for file in folder.rglob("*") if file.is_file()]
        return {file.relative_to(folder).as_posix(): file.read_text("utf-8") for file in files}


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
