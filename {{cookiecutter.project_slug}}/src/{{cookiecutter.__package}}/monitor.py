"""Drift and live quality: what was served, or a file, against the reference logged at training.

A column of numbers is compared by the two-sample Kolmogorov-Smirnov test, one of categories by the
chi-squared test, text by its length, missing values by Fisher's exact test; their p-values are
multiplied by the number of tests (Bonferroni). Each report is a run; the run above the reports of
a version has their metrics as curves over time.
"""

import base64
import html
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import mlflow
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from .config import EXPERIMENT, MODEL, VIEW, Refused, hush, run_tags
from .data import TARGET
from .model import PRIMARY, TASK, measure
from .ops import server
from .predict import chunks, fitting, scored
from .promote import promote, version_of
from .reproduce import parameters
from .serve import LOG, rows_of
from .train import REFERENCE, train

ALPHA = 0.01  # at most so many of the reports on data that does not drift say drift; decay likewise
DISTANCE = 0.05  # a smaller change is none: from 0, the same distribution, to 1
ROWS = 1000  # a report is about the newest rows
FEWEST, TO_TRAIN = 50, 200  # rows, to say something and to train on
CATEGORIES = 10  # numbers with no more values than this are categories
RESAMPLES = 50
STYLE = """body { font: 15px sans-serif; margin: 2em; max-width: 60em } img { max-width: 100% }
td, th { padding: 2px 12px; text-align: right } tr:nth-child(even) { background: #f2f2f2 }"""


class Watched(NamedTuple):
    """The champion, its reference, and what came in: features, with labels where they arrived."""

    version: str
    model: object
    promoted: dict[str, float]
    reference: pd.DataFrame
    live: pd.DataFrame
    labelled: pd.DataFrame


def monitor(source: Path | None = None, labels: Path | None = None, retrain: bool = False) -> None:
    """Report drift, and live quality where there are labels, as a run; say the verdict.

    About the newest rows that the champion has served, or the rows of `source`. `labels` has the
    target, and the `id` of a prediction (with `row`, from 0, where a request had several).
    With `retrain`, drift or decay trains on the labelled rows and puts the result before the gate.
    Raises `Refused` when there is nothing, or too little, to compare.
    """
    uri = server.connect()
    hush()
    mlflow.set_experiment(EXPERIMENT)
    champion = version_of("champion")
    if not champion:
        raise Refused("There is no champion to monitor: promote a version first.")
    watched = watch(champion, source, labels)
    if retrain and len(watched.labelled) < TO_TRAIN:
        raise Refused(
            f"--retrain learns from labels, at least {TO_TRAIN}; there are "
            f"{len(watched.labelled)}: name more with --labels FILE."
        )
    drift, quality = drifts(watched), qualities(watched)
    verdict = judgement(drift, quality)
    run = report(watched, drift, quality, verdict)
    print(drift.head(5)[["kind", "distance", "p", "drift"]].round(4).to_string())
    if quality is not None:
        print(quality.round(4).to_string())
    print(f"Report   {uri}/#/experiments/{run.experiment_id}/runs/{run.run_id}/artifacts{VIEW}")
    print(f"Verdict  on version {champion.version}, {len(watched.live)} rows: {verdict}")
    if retrain and verdict == "stable":
        print("Nothing has to be learned: not retrained.")
    elif retrain:
        learn(champion, watched, run.run_id)


# What came in


def watch(champion, source: Path | None, labels: Path | None) -> Watched:
    """Return the champion and what it is asked now, in the types of its signature."""
    place = f"models:/{MODEL}/{champion.version}"
    inputs = mlflow.models.get_model_info(place).signature.inputs
    try:
        reference = mlflow.load_table(REFERENCE, run_ids=[champion.run_id])
    except mlflow.MlflowException as error:
        raise Refused(
            f"The champion, version {champion.version}, has no reference to compare with: "
            "train one with this project's train, and promote it."
        ) from error
    known = answers_of(labels, reference) if labels else None
    what = source or "What was served"
    rows = filed(source) if source else served(champion.version, known)
    rows = rows.loc[~rows.index.duplicated(keep="last")]
    X = fitting(rows, inputs, what)
    newest = X if source else X.tail(ROWS)
    if len(X) < FEWEST:
        raise Refused(
            f"{what} has {len(X)} rows for the champion, version {champion.version}: at least "
            f"{FEWEST} are needed to say something."
        )
    if known is None and TARGET in rows:
        known = targets(rows, reference, what)
    if known is None:
        known = pd.Series(name=TARGET, dtype=object, index=X.index[:0])
    elif sum(X.index.isin(known.index)) < FEWEST:
        raise Refused(
            f"{sum(X.index.isin(known.index))} rows of version {champion.version} have a label in "
            f"{labels or source}: at least {FEWEST} are needed. Is `id` the x-prediction-id?"
        )
    promoted = json.loads(champion.tags.get("metrics_of_challenger", "{}"))
    model = mlflow.sklearn.load_model(place)
    old = fitting(reference, inputs, "The reference").assign(**{TARGET: reference[TARGET]})
    return Watched(champion.version, model, promoted, old, newest, X.join(known, how="inner"))


def served(version: str, labels: pd.Series | None) -> pd.DataFrame:
    """Return the newest `ROWS` rows that a version has served, and all that have `labels`.

    They are indexed by the id of the prediction and the row in its request, the newest last.
    """
    wanted = set() if labels is None else set(labels.index.get_level_values("id"))
    found: list[pd.DataFrame] = []
    for record in records():
        if record["version"] != version:
            continue
        if record["id"] in wanted or sum(map(len, found)) < ROWS:
            wanted.discard(record["id"])
            rows = rows_of(record["type"], record["input"])
            index = pd.MultiIndex.from_product([[record["id"]], range(len(rows))])
            found.append(rows.set_axis(index.set_names(["id", "row"])))
        elif not wanted:
            break
    if not found:
        raise Refused(
            f"The champion, version {version}, has served nothing yet: ask `serve`, or name a file."
        )
    return pd.concat(found[::-1])


def records() -> Iterator[dict]:
    """Yield what the log of served predictions has, the newest first."""
    files = sorted(LOG.parent.glob(f"{LOG.stem}*"), key=lambda file: file.stat().st_mtime)
    for file in reversed(files):
        for line in reversed(file.read_text("utf-8").split("\n")):
            try:
                yield json.loads(line)
            except json.JSONDecodeError:  # the end of the file, or cut by a crash
                continue


def filed(source: Path) -> pd.DataFrame:
    """Return the rows of a file, indexed by its columns `id` and `row` where it has them."""
    rows = pd.concat([rows for rows, _ in chunks(source)] or [pd.DataFrame()], ignore_index=True)
    index = [rows.get("id", pd.Series(rows.index)).astype(str).str.strip(), rows.get("row", 0)]
    numbers = pd.to_numeric(pd.Series(index[1], rows.index), errors="coerce").fillna(-1)
    return rows.set_axis(
        pd.MultiIndex.from_arrays([index[0], numbers.astype(int)], names=["id", "row"])
    )


def answers_of(labels: Path, reference: pd.DataFrame) -> pd.Series:
    """Return the labels of a file, by the id and the row of their predictions."""
    rows = filed(labels)
    if lacking := {"id", TARGET} - {*rows}:
        raise Refused(f"{labels} lacks the column {', '.join(sorted(lacking))}.")
    return targets(rows[~rows.index.duplicated(keep="last")], reference, labels)


def targets(rows: pd.DataFrame, reference: pd.DataFrame, source: Path | str) -> pd.Series:
    """Return the target of those `rows` that have one, in the type of the reference's."""
    known = rows[rows[TARGET].notna() & (rows[TARGET].astype(str) != "")]
    inputs = mlflow.models.infer_signature(reference[[TARGET]]).inputs
    return fitting(known, inputs, source)[TARGET].astype(reference[TARGET].dtype)


# Drift


def drifts(watched: Watched) -> pd.DataFrame:
    """Return how far each column and the predictions moved; those that drift first."""
    old, new = (
        with_answers(watched.model, rows)
        for rows in (watched.reference.drop(columns=TARGET), watched.live)
    )
    found = pd.DataFrame({name: moved(old[name], new[name]) for name in old}).T
    found = found.infer_objects()
    tests = found[["p", "p_missing"]].count().sum()
    found[["p", "p_missing"]] = (found[["p", "p_missing"]] * tests).clip(upper=1)
    gap = (found["missing_now"] - found["missing_then"]).abs()
    values = (found["p"] < ALPHA) & (found["distance"] >= DISTANCE)
    found["drift"] = values | (found["p_missing"] < ALPHA) & (gap >= DISTANCE)
    return found.sort_values(["drift", "distance"], ascending=False)


def with_answers(model, X: pd.DataFrame) -> pd.DataFrame:
    """Return `X` with what `model` answers, as columns of their own."""
    answers = scored(model, X)
    if TASK == "classifier":
        answers["prediction"] = answers["prediction"].astype(str)
    return X.assign(**answers)


def moved(old: pd.Series, new: pd.Series) -> dict:
    """Return how far the values of a column moved, and how likely that is by chance.

    The distance is the largest difference between the shares that the two have of any values (of
    any interval of the form "at most x", for numbers): between 0 and 1.
    """
    then, now = old.dropna(), new.dropna()
    sort = kind(pd.concat([then, now]))
    found = {"kind": sort, "distance": 0.0, "p": np.nan, "p_missing": np.nan, "unseen": np.nan}
    if sort == "category":
        found["unseen"] = float((~now.isin(then.unique())).mean()) if len(now) else 0.0
    if len(then) and len(now) and sort != "date":
        found["distance"], found["p"] = TESTS[sort](then, now)
    gaps, sizes = ([f(part) for part in (old, new)] for f in (lambda v: int(v.isna().sum()), len))
    if any(gaps):
        whole = [size - gap for size, gap in zip(sizes, gaps, strict=True)]
        found["p_missing"] = stats.fisher_exact([gaps, whole]).pvalue
    shares = [gap / size for size, gap in zip(sizes, gaps, strict=True)]
    return found | {"missing_then": shares[0], "missing_now": shares[1]}


def kind(values: pd.Series) -> str:
    """Return what a column holds: number, category, text or date (which moves by itself)."""
    if pd.api.types.is_datetime64_any_dtype(values):
        return "date"
    count = values.nunique()
    if pd.api.types.is_numeric_dtype(values) and values.dtype != bool:
        return "number" if count > CATEGORIES else "category"
    return "text" if count > max(CATEGORIES, len(values) / 2) else "category"


def numbers(then: pd.Series, now: pd.Series) -> tuple[float, float]:
    """Return distance and p-value of the two-sample Kolmogorov-Smirnov test."""
    result = stats.ks_2samp(then, now)
    return float(result.statistic), float(result.pvalue)


def lengths(then: pd.Series, now: pd.Series) -> tuple[float, float]:
    """Return distance and p-value of the lengths of texts."""
    return numbers(then.astype(str).str.len(), now.astype(str).str.len())


def categories(then: pd.Series, now: pd.Series) -> tuple[float, float]:
    """Return total variation distance, and p-value of the chi-squared test.

    Categories that are expected fewer than 5 times count as one (Cochran's rule).
    """
    counts = pd.DataFrame({"then": then.value_counts(), "now": now.value_counts()}).fillna(0)
    distance = (counts / counts.sum()).diff(axis=1)["now"].abs().sum() / 2
    rare = counts.sum(axis=1) * min(len(then), len(now)) / (len(then) + len(now)) < 5
    whole = counts[~rare]
    if rare.any():
        whole = pd.concat([whole, counts[rare].sum().to_frame().T])
    p = stats.chi2_contingency(whole, correction=False).pvalue if len(whole) > 1 else 1.0
    return float(distance), float(p)


TESTS = {"number": numbers, "text": lengths, "category": categories}


# Quality


def qualities(watched: Watched) -> pd.DataFrame | None:
    """Return the metrics at promotion and now, and how likely the primary's loss is by chance."""
    if watched.labelled.empty:
        return None
    (then, spread_then), (now, spread_now) = (
        measured(watched.model, rows) for rows in (watched.reference, watched.labelled)
    )
    then = {name: watched.promoted.get(name, value) for name, value in then.items()}
    found = pd.DataFrame({"promoted": then, "live": now})
    name, direction = PRIMARY
    loss = (then[name] - now[name]) * (1 if direction == "maximize" else -1)
    spread = np.hypot(spread_then, spread_now)
    found.loc[name, "p"] = stats.norm.sf(loss / spread) if spread else float(loss <= 0)
    return found


def measured(model, rows: pd.DataFrame) -> tuple[dict[str, float], float]:
    """Return the metrics on `rows`, and the primary's standard error, by resampling (bootstrap)."""
    generator = np.random.default_rng(0)
    draws = [rows.iloc[generator.integers(len(rows), size=len(rows))] for _ in range(RESAMPLES)]
    whole, *others = (measure(model, X.drop(columns=TARGET), X[TARGET]) for X in [rows, *draws])
    return whole, float(np.nanstd([one[PRIMARY[0]] for one in others], ddof=1))


def judgement(drift: pd.DataFrame, quality: pd.DataFrame | None) -> str:
    """Return the verdict: stable, drift, decay, or drift and decay."""
    decay = quality is not None and quality.loc[PRIMARY[0], "p"] < ALPHA
    said = ["drift"] * bool(drift["drift"].any()) + ["decay"] * bool(decay)
    return " and ".join(said) or "stable"


def learn(champion, watched: Watched, report_id: str) -> None:
    """Train as the champion was, on the labelled rows alone, and put the result before the gate."""
    kinds = watched.reference.dtypes[[*watched.labelled]]
    frame = watched.labelled.astype(kinds).drop_duplicates().reset_index(drop=True)
    params, seed = parameters(mlflow.get_run(champion.run_id))
    run_id = train(params, seed, frame=frame)
    mlflow.MlflowClient().set_tag(run_id, "retrained_after", report_id)
    promote(frame)


# The report


def report(watched: Watched, drift: pd.DataFrame, quality: pd.DataFrame | None, verdict: str):
    """Log a report as a run, and its metrics to the run above it; return the report's info."""
    metrics = {"drifting": float(drift["drift"].mean()), "rows": float(len(watched.live))}
    for name, row in drift.iterrows():
        safe = re.sub(r"[^\w\-. :]", "_", str(name))
        metrics |= {f"drift/{safe}": row["distance"], f"missing/{safe}": row["missing_now"]}
        if not np.isnan(row["unseen"]):
            metrics[f"unseen/{safe}"] = row["unseen"]
    if quality is not None:
        metrics |= {f"live/{name}": value for name, value in quality["live"].items()}
    above = curves(watched.version)
    step = len(mlflow.MlflowClient().get_metric_history(above, "rows"))
    tags = run_tags() | {"step": "monitor", "version": watched.version, "verdict": verdict}
    name = f"report {step + 1}"
    with mlflow.start_run(run_name=name, tags=tags, parent_run_id=above, nested=True) as run:
        mlflow.log_metrics(metrics)
        mlflow.log_text(page(watched, drift, quality, verdict), "report.html")
    mlflow.log_metrics(metrics, step=step, run_id=above)
    return run.info


def curves(version: str) -> str:
    """Return the id of the run that is above the reports on a version."""
    wanted = f"tags.monitors = '{version}'"
    found = mlflow.search_runs(filter_string=wanted, output_format="list")
    if found:
        return found[0].info.run_id
    tags = {"monitors": version, "step": "monitor"}
    with mlflow.start_run(run_name=f"monitoring of version {version}", tags=tags) as run:
        return run.info.run_id


def page(watched: Watched, drift: pd.DataFrame, quality: pd.DataFrame | None, verdict: str) -> str:
    """Return the report as a page that needs no other file."""
    tables = [] if quality is None else ["<h2>Quality</h2>", quality.to_html(border=0, na_rep="")]
    tables += ["<h2>Columns</h2>", drift.to_html(border=0, float_format="%.4f", na_rep="")]
    pictures = [f'<img src="data:image/png;base64,{png(f)}">' for f in drawn(watched, drift)]
    return f"""<!doctype html><meta charset="utf-8"><title>{html.escape(verdict)}</title>
<style>{STYLE}</style>
<h1>{html.escape(MODEL)}, version {watched.version}: {html.escape(verdict)}</h1>
<p>{len(watched.live)} rows against {len(watched.reference)} held-out ones;
{len(watched.labelled)} have a label. Drift is a p-value below {ALPHA}, after correction for
{len(drift)} columns, and a distance of at least {DISTANCE}.</p>
{"".join(pictures)}
{"".join(tables)}
"""


def png(figure: Figure) -> str:
    """Return a figure as text for a page."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90)
    return base64.b64encode(file.getvalue()).decode()


def drawn(watched: Watched, drift: pd.DataFrame) -> list[Figure]:
    """Return pictures: how far columns moved, and the values of those that moved most."""
    top = drift.head(20)[::-1]
    bars = Figure(figsize=(8, 1 + len(top) / 4), layout="constrained")
    axis = bars.subplots()
    axis.barh(top.index, top["distance"], color=np.where(top["drift"], "tab:red", "tab:gray"))
    axis.set(xlim=(0, 1), xlabel="distance from the reference (red: drift)")
    grid = Figure(figsize=(8, 5), layout="constrained")
    old, new = (
        with_answers(watched.model, rows)
        for rows in (watched.reference.drop(columns=TARGET), watched.live)
    )
    for axis, (name, row) in zip(grid.subplots(2, 3).flat, drift.iterrows(), strict=False):
        draw(axis, row["kind"], old[name].dropna(), new[name].dropna())
        axis.set_title(name, fontsize=9)
    grid.axes[0].legend(["reference", "now"])
    return [bars, grid]


def draw(axis, sort: str, old: pd.Series, new: pd.Series) -> None:
    """Draw the shares that two columns have of each value, or of each interval."""
    if sort == "text":
        old, new = old.astype(str).str.len(), new.astype(str).str.len()
    if sort == "category":
        shares = [part.astype(str).value_counts(normalize=True) for part in (old, new)]
        both = pd.concat(shares, axis=1).fillna(0).iloc[:10]
        for place, values in zip((-0.2, 0.2), both.T.to_numpy(), strict=True):
            axis.bar(np.arange(len(both)) + place, values, 0.4)
        axis.set_xticks(range(len(both)), both.index, fontsize=7)
        return
    edges = np.histogram_bin_edges(pd.concat([old, new]), 20)
    for part in (old, new):
        axis.hist(part, edges, weights=np.full(len(part), 1 / max(len(part), 1)), alpha=0.6)
