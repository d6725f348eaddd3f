"""The report of `monitor`: a run, its metrics over time, and a page."""

import base64
import html
import io
import re
from typing import Any, NamedTuple

import mlflow
import pandas as pd
from matplotlib.figure import Figure

from ..config import MODEL
from .drift import ALPHA, DISTANCE
from .provenance import record_files, run_tags

STYLE = """body { font: 15px sans-serif; margin: 2em; max-width: 60em } img { max-width: 100% }
td, th { padding: 2px 12px; text-align: right } tr:nth-child(even) { background: #f2f2f2 }"""


class Watched(NamedTuple):
    """A version, its reference, and what came in: features, and those rows whose label arrived."""

    version: Any
    model: Any
    reference: pd.DataFrame
    live: pd.DataFrame
    labelled: pd.DataFrame


def report(watched: Watched, drift: pd.DataFrame, quality, verdict: str, pictures: list[Figure]):
    """Log a report as a run, and its metrics to the run above it; return the report's info."""
    version = watched.version.version
    metrics = {"drifting": float(drift["drift"].mean()), "rows": float(len(watched.live))}
    for name, row in drift.iterrows():
        safe = re.sub(r"[^\w\-. :]", "_", str(name))
        found = {"drift": row["distance"], "missing": row["missing"], "unseen": row["unseen"]}
        metrics |= {f"{what}/{safe}": share for what, share in found.items() if share == share}
    if quality is not None:
        metrics |= {f"live/{name}": value for name, value in quality["live"].items()}
    above = run_above(version)
    step = len(mlflow.MlflowClient().get_metric_history(above, "rows")) + 1
    tags = run_tags() | {"step": "monitor", "version": version, "verdict": verdict}
    name = f"report {step} on version {version}"
    with mlflow.start_run(run_name=name, tags=tags, parent_run_id=above, nested=True) as run:
        mlflow.log_metrics(metrics)
        mlflow.log_text(page(watched, drift, quality, verdict, pictures), "report.html")
        record_files(run.info.run_id)
    mlflow.log_metrics(metrics, step=step, run_id=above)
    return run.info


def run_above(version: str) -> str:
    """Return the id of the run that is above the reports on a version."""
    wanted = f"tags.monitors = '{version}'"
    if found := mlflow.search_runs(filter_string=wanted, output_format="list"):
        return found[0].info.run_id
    tags = {"monitors": version, "step": "monitor"}
    with mlflow.start_run(run_name=f"monitoring of version {version}", tags=tags) as run:
        return run.info.run_id


def page(watched: Watched, drift: pd.DataFrame, quality, verdict: str, pictures) -> str:
    """Return the report as a page that needs no other file."""
    shown = [f'<img src="data:image/png;base64,{png(picture)}">' for picture in pictures]
    tables = {"Quality": quality, "Columns": drift}
    shown += [
        f"<h2>{title}</h2>{table.to_html(border=0, float_format='%.4f', na_rep='')}"
        for title, table in tables.items()
        if table is not None
    ]
    title = html.escape(f"{MODEL}, version {watched.version.version}: {verdict}")
    return f"""<!doctype html><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>
<h1>{title}</h1>
<p>{len(watched.live)} rows against {len(watched.reference)} held-out ones of the training run;
{len(watched.labelled)} rows have a label. Drift: p below {ALPHA}, corrected for the number of
tests, and a distance of at least {DISTANCE}.</p>
{"".join(shown)}
"""


def png(picture: Figure) -> str:
    """Return a picture as text for a page."""
    file = io.BytesIO()
    picture.savefig(file, format="png", dpi=90)
    return base64.b64encode(file.getvalue()).decode()
