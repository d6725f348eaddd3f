"""A report is a run with a page, under the run of the training run that it is about."""

from types import SimpleNamespace as Named

import mlflow
import numpy as np
import pandas as pd
import pytest

from {{ cookiecutter.__package }} import config
from {{ cookiecutter.__package }}.data import TARGET
from {{ cookiecutter.__package }}.lifecycle import monitor, report
from {{ cookiecutter.__package }}.lifecycle.drawings import draw
from {{ cookiecutter.__package }}.lifecycle.drift import compare
from {{ cookiecutter.__package }}.lifecycle.incoming import Incoming
from {{ cookiecutter.__package }}.lifecycle.quality import Quality
from {{ cookiecutter.__package }}.lifecycle.report import Report, Watched


def quality_of(state, decay=False, unknown=""):
    columns = {"held_out": 0.91234567890123, "live": 0.5, "wanted": ">= 0.8", "p": 0.00001}
    table = pd.DataFrame({**columns, "state": state}, index=["accuracy"])
    return Quality(table, 120, decay, unknown)


def made(shift=0.0, quality=None, run_id="run", number="1", names=("a <b>", "c\n$d")):
    """Return a report on rows of which the first column moved by `shift`."""
    rng = np.random.default_rng(0)
    old, new = (pd.DataFrame({name: rng.normal(size=200) for name in names}) for _ in range(2))
    new.iloc[:, 0] += shift
    came = Incoming(new, new.head(0), ["3 rows of the log & more: left out."], None)
    version = Named(version=number, run_id=run_id)
    watched = Watched(version, None, old.assign(**{TARGET: 1}), came)
    drift = compare(old, new)
    return Report(watched, drift, quality, draw(old, new, drift))


@pytest.mark.parametrize(
    ("shift", "quality", "verdict"),
    [
        (0, None, "stable"),
        (0, quality_of("not worse"), "stable"),
        (0, quality_of("cannot tell: 9 labels", unknown="cannot tell: 9 labels"), "cannot tell"),
        (0, quality_of("worse", decay=True), "decay"),
        (0, quality_of("worse", decay=True, unknown="cannot tell yet"), "decay"),
        (2, None, "drift"),
        (2, quality_of("cannot tell: 9 labels", unknown="cannot tell: 9 labels"), "drift"),
        (2, quality_of("worse", decay=True), "drift and decay"),
    ],
)
def test_a_verdict_is_calm_only_where_all_is_known(shift, quality, verdict):
    assert made(shift, quality).verdict == verdict


def test_the_page_says_what_was_found_as_people_read_it():
    told = "cannot tell: 9 labels"
    page = report.page(made(2, quality_of(told, unknown=told)))
    for told in (
        "version 1: drift",
        "1 of 2 columns drift: a &lt;b&gt;",
        "3 rows of the log &amp; more: left out.",
        "Cannot tell: 9 labels",
        "0.9123",
        "&lt; 0.0001",
        "best of 30",
        "time order",
        "in groups",
    ):
        assert told in page
    assert "0.91234" not in page and "<b>" not in page
    assert page.index("<img") < page.index("<h2>Columns")


def test_numbers_have_few_digits():
    told = [report.number(value) for value in (0.123456, 1234567.0, np.nan, 0.0, 12.3456)]
    assert told == ["0.1235", "1,234,567", "", "0", "12.35"]
    assert [report.probability(p) for p in (1e-9, 0.012345, 1.0)] == ["< 0.0001", "0.012", "1"]


def test_names_of_metrics_are_those_that_mlflow_takes_and_no_two_are_the_same():
    names = ("a$b", "a_b", ".", "x" * 400, "é\n€", "e/f")
    found = report.metrics(made(names=names))
    assert len([name for name in found if name.startswith("drift/")]) == len(names)
    assert all(len(name) <= 250 for name in found)


def test_reports_are_found_by_the_training_run_wherever_they_are(tracking_server):
    """A model that was deleted and made again has the same number, and is another one."""
    client = mlflow.MlflowClient()
    first = report.log(made(run_id="first"))
    second = report.log(made(run_id="second"))
    above = [client.get_run(one.run_id).data.tags["mlflow.parentRunId"] for one in (first, second)]
    assert above[0] != above[1]
    assert second.run_name == "report 1 on version 1"
    experiment = client.get_experiment(first.experiment_id)
    assert experiment.name == config.MONITORING_EXPERIMENT

    client.rename_experiment(first.experiment_id, "reports of 2026")
    third = report.log(made(2, quality_of("worse", decay=True), run_id="first"))
    assert third.experiment_id == first.experiment_id
    assert third.run_name == "report 2 on version 1"
    assert client.get_experiment_by_name(config.MONITORING_EXPERIMENT) is None
    drift = [one.value for one in client.get_metric_history(above[0], "drifting")]
    assert drift == [0, 0.5]
    assert client.get_run(third.run_id).data.tags["verdict"] == "drift and decay"
    assert client.get_run(third.run_id).data.metrics["live/accuracy"] == 0.5

    client.rename_experiment(first.experiment_id, config.MONITORING_EXPERIMENT)
    client.delete_experiment(first.experiment_id)
    with pytest.raises(config.UserError, match="was deleted"):
        report.log(made(run_id="third"))
    client.restore_experiment(first.experiment_id)
    wide = made(run_id="wide", names=[f"c{n}" for n in range(1200)])
    assert len(client.get_run(report.log(wide).run_id).data.metrics) > 2400


def test_retraining_takes_the_parameters_and_the_seed_of_the_champion(monkeypatch):
    asked = []

    def train(params, seed):
        asked.append((params, seed))
        return "new"

    params = {"depth": float("inf"), "names": ("a", "b"), "none": None}
    tags = []
    client = Named(set_tag=lambda *words: tags.append(words))
    monkeypatch.setattr(monitor.record, "read", lambda run_id: Named(params=params, seed=7))
    monkeypatch.setattr(monitor, "train", train)
    monkeypatch.setattr(monitor, "promote", lambda: asked.append("gate"))
    monkeypatch.setattr(mlflow, "MlflowClient", lambda: client)
    monitor.learn(Named(run_id="champion"), "report")
    assert asked == [(params, 7), "gate"]
    assert tags == [("new", "retrained_after", "report")]


@pytest.mark.parametrize(
    ("verdict", "retrain", "code", "learns"),
    [
        ("stable", False, 0, False),
        ("cannot tell", False, 0, False),
        ("drift", False, 3, False),
        ("decay", False, 3, False),
        ("drift and decay", True, 0, True),
        ("stable", True, 0, False),
    ],
)
def test_exit_codes_are_those_of_a_nightly_job(monkeypatch, verdict, retrain, code, learns):
    learned = []
    found = Named(verdict=verdict)
    monkeypatch.setattr(monitor.ownership, "connect", lambda: "http://here")
    monkeypatch.setattr(monitor, "version_of", lambda alias: Named(version="1"))
    monkeypatch.setattr(monitor.contract, "check_names", list)
    monkeypatch.setattr(monitor, "watch", lambda *words: Named(live=[1]))
    monkeypatch.setattr(monitor, "batch_of", lambda watched: "batch")
    monkeypatch.setattr(monitor, "examine", lambda watched: found)
    monkeypatch.setattr(monitor, "tell", lambda found: None)
    info = Named(run_id="r", experiment_id="1")
    kept = []
    monkeypatch.setattr(monitor.report, "log", lambda found, batch: kept.append(batch) or info)
    monkeypatch.setattr(monitor, "learn", lambda *words: learned.append(words))
    assert monitor.monitor(retrain=retrain) == code
    assert bool(learned) == learns and kept == ["batch" if learns else None]
