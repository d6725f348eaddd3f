"""The verdict of the gate: both models on each held-out part, what is logged of it, and told."""

import math
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..config import UserError
from ..model import PRIMARY
from . import gate, record, registry
from .candidate import LOAD, Scored
from .contract import MARGIN, THRESHOLDS, plots
from .provenance import code_hash, record_files


@dataclass(frozen=True)
class Part:
    """The challenger on a held-out part, beside the champion if there is one to compare with."""

    name: str
    scored: list[Scored]
    thresholds: gate.Rules  # those that have to hold here
    reasons: dict[str, str]  # why the challenger is refused, by metric
    gain: float | None
    half_width: float | None  # of the 90 % interval of `gain`; None if it cannot be told


@dataclass(frozen=True)
class Verdict:
    """What the gate decided by each part, of which the last decides, and the number of tries."""

    parts: list[Part]
    tries: int

    @property
    def scored(self) -> list[Scored]:
        """Return challenger and champion on the part that decides."""
        return self.parts[-1].scored

    @property
    def reasons(self) -> list[str]:
        """Return why the challenger is refused."""
        several = len(self.parts) > 1
        return [
            f"{metric} {reason}{f' on the {part.name} rows' if several else ''}"
            for part in self.parts
            for metric, reason in part.reasons.items()
        ]


def judge(challenger: dict[str, Scored], other: dict[str, Scored] | None, champion) -> Verdict:
    """Return the verdict on the challenger, with the `other` model on the same rows if any.

    Thresholds have to hold on each part with at least 50 rows. The primary metric has to be better
    on the last part, and not surely worse on the others.
    """
    big = [name for name, one in challenger.items() if len(one.rows) >= gate.ENOUGH]
    decides = [*challenger][-1]
    parts = [
        compared(
            name,
            [one, *([other[name]] if other else [])],
            THRESHOLDS if name in (big or challenger) else {},
            name == decides,
        )
        for name, one in challenger.items()
    ]
    return Verdict(parts, tries(challenger[LOAD].candidate.record, champion))


def compared(name: str, scored: list[Scored], thresholds: gate.Rules, decides: bool) -> Part:
    """Return what follows for the challenger on a part."""
    gain = half = None
    one, two = scored[0], scored[-1] if len(scored) > 1 else None
    if two:
        gain = gate.gain(one.metrics, two.metrics, PRIMARY)
        first, second = one.metrics_of, two.metrics_of
        half = gate.interval(lambda some: gate.gain(first(some), second(some), PRIMARY), len(one.X))
    to_beat = two.metrics if two and decides else None
    reasons = gate.reasons(one.metrics, to_beat, PRIMARY, thresholds, MARGIN)
    if gain is not None and not decides and gate.worse(gain, half):
        reasons.setdefault(PRIMARY[0], "is worse")
    return Part(name, scored, thresholds, reasons, gain, half)


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


# What is logged


def log(verdict: Verdict, tags: dict[str, str], run_id: str) -> None:
    """Log a verdict to the active run: metrics of both versions, and plots where it was decided."""
    import mlflow

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for one in verdict.scored:
            write_plots(Path(folder, "plots", one.candidate.alias), one)
        mlflow.log_artifacts(folder)
        record_files(run_id, folder=Path(folder))
    told: dict[str, float | None] = {"tries": float(verdict.tries)}
    for part in verdict.parts:
        before = "" if part.name == LOAD else f"{part.name}/"
        told |= {f"{before}gain": part.gain, f"{before}gain_half_width": part.half_width}
        told[f"{before}rows"] = float(len(part.scored[0].rows))
        for one in part.scored:
            path = f"{before}{one.candidate.alias}/"
            told |= {path + name: value for name, value in one.metrics.items()}
    mlflow.log_metrics({name: value for name, value in told.items() if value is not None})
    versions = {one.candidate.alias: one.candidate.version.version for one in verdict.scored}
    decided = {"step": "promote", "verdict": "refused" if verdict.reasons else "promoted"}
    mlflow.set_tags(tags | versions | decided)


def write_plots(folder: Path, scored: Scored) -> None:
    """Write the plots of a version on the rows that it is judged on into a new folder.

    They take long to draw: if rows and code are those of its training run, they are copied.
    """
    candidate = scored.candidate
    if candidate.record.code == code_hash() and scored.as_trained():
        with suppress(UserError):
            with record.file_of(candidate.record.run_id, "plots") as kept:
                shutil.copytree(kept, folder)
            return
    try:
        figures = plots(candidate.model, scored.X, scored.y)
    except Exception as error:  # whatever the user's function raises: it decides nothing
        print(f"No plots of the {candidate}: {type(error).__name__}: {error}")
        return
    record.write_plots(folder, figures)


# What is told


def show(verdict: Verdict, address: str) -> None:
    """Print a verdict and how far to trust it."""
    print(f"Gate     {address}")
    several = len(verdict.parts) > 1
    for part in verdict.parts:
        rows = len(part.scored[0].rows)
        if several:
            decides = ", which decide" if part is verdict.parts[-1] else ""
            print(f"Part     {part.name}: {rows} held-out rows{decides}")
        print(table(part).to_string())
        if part.gain is None:
            continue
        ends = "cannot tell"
        if (half := part.half_width) is not None:
            ends = f"{part.gain - half:+.4f} to {part.gain + half:+.4f}"
        print(f"Gain     {PRIMARY[0]} {part.gain:+.4f} (90 % interval: {ends}; {rows} rows)")
    if trials := verdict.scored[0].candidate.trials:
        print(f"Chosen   among {trials} trials by cross-validation on training rows")
    if verdict.parts[-1].gain is not None and verdict.tries > 1:
        print(f"Tries    best of {verdict.tries}: part of this gain may be luck")


def table(part: Part) -> pd.DataFrame:
    """Return the metrics that decide, of both versions, beside what is wanted and the verdict."""
    names = list(dict.fromkeys([PRIMARY[0], *THRESHOLDS]))
    columns = {
        one.candidate.alias: [one.metrics.get(name, math.nan) for name in names]
        for one in part.scored
    }
    wanted = [" ".join(map(str, part.thresholds.get(name, ("",)))) for name in names]
    told = [part.reasons.get(name, "passes") for name in names]
    return pd.DataFrame({**columns, "wanted": wanted, "": told}, names).round(4)
