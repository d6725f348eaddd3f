"""The report of `monitor`: a run, its metrics over time, and a page."""

import base64
import html
import io
import re
import warnings
from typing import Any, NamedTuple

import mlflow
import pandas as pd
from matplotlib.figure import Figure

from ..config import MODEL, MONITORING_EXPERIMENT
from . import batches
from .drawings import ALARM
from .drift import ALPHA, DISTANCE, TIMES, UNTESTED
from .incoming import Incoming
from .provenance import record_files, run_tags
from .quality import PER_CLASS, Quality
from .registry import open_experiment

MONITORS = "monitors_run"  # tag of the run above all reports on a version: its training run
LONGEST = 200  # characters of a column's name in that of a metric; MLflow takes 250 of all
LINES = 200  # columns in the table of the page
# Measured where nothing changed, by the template's benchmarks/alarms.py (see its alarms.txt). That
# of the best of 30 is for models that err alike, and for such that err differently.
MEASURED_DRIFT, MEASURED_DECAY, MEASURED_BEST_OF_30 = "1.3 %", "1.2 to 1.8 %", "4 % to 11 %"
MEASURED_AT_THRESHOLD = "7 %"
VERDICTS = {"stable": "#1f7a4d", "cannot tell": "#8a6100"}  # their colours; others alarm
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; margin: 0 auto; padding: 2em 1.5em;
  max-width: 62em } h1 { font-size: 1.5em; margin: 0 } h2 { font-size: 1.1em; margin: 2em 0 .5em }
.verdict { border-left: 8px solid; padding: .8em 1.2em; background: #f5f7fa; border-radius: 4px }
.verdict p { margin: .3em 0 0 } img { max-width: 100% } .scroll { overflow-x: auto }
table { border-collapse: collapse; font-size: 14px } td, th { padding: 5px 14px 5px 0;
  text-align: right; border-bottom: 1px solid #e4e7eb; white-space: nowrap }
th { color: #52606d; font-weight: 600 } td:first-child, th:first-child, td.text, th.text {
  text-align: left } tr.alarm td:first-child { color: #c9372c; font-weight: 600 }
.notes { color: #52606d; font-size: 13px }"""


class Watched(NamedTuple):
    """A version, its model, its reference with the target, and what came in."""

    version: Any
    model: Any
    reference: pd.DataFrame
    came: Incoming

    @property
    def live(self) -> pd.DataFrame:
        """Return the features of the new rows."""
        return self.came.live

    @property
    def labelled(self) -> pd.DataFrame:
        """Return the new rows that have a label, with the target."""
        return self.came.labelled if self.came.labelled.size else self.reference.head(0)


class Report(NamedTuple):
    """What `monitor` found out."""

    watched: Watched
    drift: pd.DataFrame
    quality: Quality | None
    pictures: dict[str, Figure]

    @property
    def verdict(self) -> str:
        """Return stable, drift, decay, drift and decay, or cannot tell."""
        said = ["drift"] * bool(self.drift["drift"].any())
        said += ["decay"] * bool(self.quality and self.quality.decay)
        calm = "cannot tell" if self.quality and self.quality.unknown else "stable"
        return " and ".join(said) or calm


def log(report: Report, batch: batches.Sides | None = None):
    """Log a report as a run, with a `batch` to keep, and its metrics to the run above it.

    Returns the info of the report's run.
    """
    version, found = report.watched.version, metrics(report)
    above = run_above(version)
    step = len(mlflow.MlflowClient().get_metric_history(above, "rows")) + 1
    tags = {"step": "monitor", "version": version.version, "verdict": report.verdict}
    name = f"report {step} on version {version.version}"
    with mlflow.start_run(
        run_name=name, tags=run_tags() | tags, parent_run_id=above, nested=True
    ) as run:
        mlflow.log_metrics(found)
        mlflow.log_text(page(report), "report.html")
        if batch:
            batches.log(batch)
        record_files(run.info.run_id)
    mlflow.log_metrics(found, step=step, run_id=above)
    return run.info


def metrics(report: Report) -> dict[str, float]:
    """Return what a report has as curves over time."""
    drift = report.drift
    found = {"drifting": float(drift["drift"].mean()), "rows": float(len(report.watched.live))}
    for place, (name, row) in enumerate(
        drift.sort_index(key=lambda names: names.map(str)).iterrows()
    ):
        safe = re.sub(r"[^\w\-. :]", "_", str(name))[:LONGEST].strip(". ") or "_"
        if f"drift/{safe}" in found:  # the name of another column looks the same
            safe = f"{safe} {place}"
        shares = {"drift": row["distance"], "missing": row["missing"], "unseen": row["unseen"]}
        found |= {f"{what}/{safe}": share for what, share in shares.items() if share == share}
    if report.quality is not None:
        live = report.quality.table["live"].dropna()
        found |= {f"live/{name}": float(value) for name, value in live.items()}
    return found


def run_above(version) -> str:
    """Return the id of the run that is above the reports on a version, wherever it is now.

    It is known by the version's training run, since the version's number may come again.
    """
    wanted = f"tags.{MONITORS} = '{version.run_id}'"
    if runs := mlflow.search_runs(
        filter_string=wanted, search_all_experiments=True, output_format="list"
    ):
        mlflow.set_experiment(experiment_id=runs[0].info.experiment_id)
        return runs[0].info.run_id
    open_experiment(MONITORING_EXPERIMENT)
    tags = {MONITORS: version.run_id, "monitors": version.version, "step": "monitor"}
    with mlflow.start_run(run_name=f"monitoring of version {version.version}", tags=tags) as run:
        return run.info.run_id


# The page


def page(report: Report) -> str:
    """Return the report as a page that needs no other file."""
    watched, verdict = report.watched, report.verdict
    title = html.escape(f"{MODEL}, version {watched.version.version}: {verdict}")
    color = VERDICTS.get(verdict, ALARM)
    drifting = report.drift.index[report.drift["drift"]]
    count = f"{len(drifting)} of {len(report.drift)} columns drift"
    shown = [*map(str, drifting[:8]), *["and others"] * (len(drifting) > 8)]
    names = html.escape(": " + ", ".join(shown)) if shown else ""
    remarks = "".join(f"<p>{html.escape(one)}</p>" for one in watched.came.remarks)
    told = [drawn(report.pictures)]
    told.append(f"<h2>Quality</h2><p>{html.escape(quality_in_words(report.quality))}</p>")
    if report.quality is not None:
        told.append(table(readable_quality(report.quality.table)))
    told.append(f"<h2>Columns</h2>{table(readable_drift(report.drift), report.drift['drift'])}")
    if len(report.drift) > LINES:
        told.append(f"<p>... and {len(report.drift) - LINES} more.</p>")
    return f"""{page_head(title)}
<div class="verdict" style="border-color: {color}"><h1 style="color: {color}">{title}</h1>
<p>{count}{names}.</p>
<p>{len(watched.live):,} new rows, compared with {len(watched.reference):,} held-out rows of the
training run.</p>{remarks}</div>
{"".join(told)}
{LIMITS}
"""


LIMITS = f"""<h2>How far to trust this page</h2><div class="notes">
<p>Drift: a p-value below {ALPHA:.0%} after correction for the number of tests, and a difference of
at least {DISTANCE} between two shares, or one share that changed {TIMES:g}-fold. If nothing
changed, drift is reported in at most {ALPHA:.0%} of reports; measured: {MEASURED_DRIFT}.</p>
<p>Decay: the primary metric is worse than on held-out rows (permutation test, nominal rate of
wrong alarms {ALPHA:.0%}; measured: {MEASURED_DECAY}), or a metric misses its threshold on all
labelled rows and in 95 % of bootstrap resamples, with at least {PER_CLASS} labels of every class
(measured for a metric that is exactly at its threshold: {MEASURED_AT_THRESHOLD} of reports).
A champion that was the best of 30 equally good candidates looks better on its held-out rows than
it is: measured rate of wrong alarms for it: {MEASURED_BEST_OF_30}, the less the candidates
resemble each other, the more.</p>
<p>These rates hold for rows that are independent of each other. Rows in time order (new rows that
resemble each other more than the reference) and rows in groups (several of one customer, device
or place) give more alarms than stated.</p></div>"""


def quality_in_words(quality: Quality | None) -> str:
    """Return what the labels say, in a sentence."""
    if quality is None:
        return "No labels, so nothing is known of the quality: name a file with --labels."
    counted = f"{quality.labels:,} labelled row{'s' * (quality.labels != 1)}. "
    if quality.decay:
        return counted + "The model has decayed."
    if quality.unknown:
        return counted + quality.unknown[:1].upper() + quality.unknown[1:] + "."
    return counted + "No sign of decay."


def readable_quality(found: pd.DataFrame) -> pd.DataFrame:
    """Return the table of metrics as people read it."""
    return pd.DataFrame(
        {
            "metric": found.index,
            "held-out rows": found["held_out"].map(number),
            "new rows": found["live"].map(number),
            "threshold": found["wanted"],
            "p": found["p"].map(probability),
            "": found["state"].map(lambda text: text.partition(": ")[0]),  # told in words below
        }
    )


def readable_drift(drift: pd.DataFrame) -> pd.DataFrame:
    """Return the table of columns as people read it."""
    kept = drift.head(LINES)
    tested = ~kept["kind"].isin(UNTESTED)
    missing = kept["missing_before"].map(share) + " → " + kept["missing"].map(share)
    return pd.DataFrame(
        {
            "column": [str(name) for name in kept.index],
            "kind": kept["kind"],
            "distance": kept["distance"].map("{:.2f}".format).where(tested, "not tested"),
            "p": kept[["p", "p_missing", "p_unseen"]].min(axis=1).map(probability),
            "missing": missing.where(kept["missing_before"] + kept["missing"] > 0, ""),
            "unseen": kept["unseen"].map(share),
            "drift": kept["why"],
        }
    )


def table(shown: pd.DataFrame, alarms: pd.Series | None = None) -> str:
    """Return a table of a page; the first column of rows with an alarm is red."""
    flags = [False] * len(shown) if alarms is None else alarms.head(len(shown))
    kinds = [' class="text"' if name in ("", "kind", "drift") else "" for name in shown]
    head = "".join(f"<th{k}>{html.escape(n)}</th>" for n, k in zip(shown, kinds, strict=True))
    lines = []
    for row, alarm in zip(shown.itertuples(index=False), flags, strict=True):
        cells = (f"<td{k}>{html.escape(str(v))}</td>" for v, k in zip(row, kinds, strict=True))
        lines.append(f"<tr{' class=alarm' if alarm else ''}>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def number(value: float) -> str:
    """Return a metric with four significant digits; nothing where there is none."""
    return "" if value != value else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def probability(value: float) -> str:
    """Return a p-value with two significant digits."""
    return "" if value != value else "< 0.0001" if value < 1e-4 else f"{value:.2g}"


def share(value: float) -> str:
    """Return a share in percent."""
    return "" if value != value else f"{value:.1%}"


def page_head(title: str) -> str:
    """Return the beginning of a page; its `title` is HTML already."""
    return f'<!doctype html><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'


def drawn(pictures: dict[str, Figure]) -> str:
    """Return pictures for a page, each below its name."""
    return "".join(
        f'<h2>{name}</h2><img alt="{name}" src="data:image/png;base64,{png(picture)}">'
        for name, picture in pictures.items()
    )


def png(picture: Figure) -> str:
    """Return a picture as text for a page."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a letter that the font lacks
        picture.savefig(file, format="png", dpi=110)
    return base64.b64encode(file.getvalue()).decode()
