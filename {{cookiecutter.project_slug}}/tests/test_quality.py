"""Decay is told where it is certain, and what cannot be measured is neither decay nor stable."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from {{ cookiecutter.__package }}.lifecycle import quality
from {{ cookiecutter.__package }}.lifecycle.quality import TARGET, assess


class Model:
    """A model whose answer is a column of its rows."""

    def predict(self, X):
        return X["answer"].to_numpy()


def rows(rng, count, right, classes=("no", "yes")):
    """Return rows of which a share `right` is answered well."""
    truth = rng.choice([*classes], count)
    other = rng.choice([*classes], count)
    answer = np.where(rng.random(count) < right, truth, other)
    return pd.DataFrame({"answer": answer, TARGET: truth})


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def contract(monkeypatch):
    """Return a function that sets what model.py says."""

    def change(**names):
        for name, value in names.items():
            monkeypatch.setattr(quality, name, value)

    change(
        TASK="classifier",
        PRIMARY=("accuracy", "maximize"),
        THRESHOLDS={},
        measure=lambda model, X, y: {"accuracy": float(np.mean(model.predict(X) == y))},
    )
    return change


def test_labels_like_the_held_out_rows_are_no_decay(rng):
    found = assess(Model(), rows(rng, 500, 0.8), rows(rng, 300, 0.8))
    assert not found.decay and not found.unknown and found.labels == 300
    assert found.table.loc["accuracy", "state"] == "not worse"
    assert found.table.loc["accuracy", "p"] > 0.01


def test_a_loss_of_the_primary_metric_is_decay_and_a_gain_is_none(rng):
    worse = assess(Model(), rows(rng, 500, 0.9), rows(rng, 300, 0.4))
    assert worse.decay and worse.table.loc["accuracy", "p"] < 0.01
    better = assess(Model(), rows(rng, 500, 0.4), rows(rng, 300, 0.9))
    assert not better.decay and better.table.loc["accuracy", "p"] > 0.5


def test_an_error_that_grows_is_decay(rng, contract):
    contract(
        TASK="regressor",
        PRIMARY=("mse", "minimize"),
        measure=lambda model, X, y: {"mse": metrics.mean_squared_error(y, model.predict(X))},
    )

    def made(count, noise):
        truth = rng.normal(size=count)
        return pd.DataFrame({"answer": truth + noise * rng.normal(size=count), TARGET: truth})

    assert assess(Model(), made(400, 1), made(200, 2)).decay
    assert not assess(Model(), made(400, 1), made(200, 0.5)).decay


def test_the_permutation_test_stops_early_and_counts(rng, contract):
    """Of equal rows the twentieth permutation that is as bad comes soon, and p is 20 / drawn."""
    calls = []

    def measure(model, X, y):
        calls.append(len(X))
        return {"accuracy": float(np.mean(model.predict(X) == y))}

    contract(measure=measure)
    equal = assess(Model(), rows(rng, 500, 0.8), rows(rng, 300, 0.8))
    drawn = (len(calls) - 2) // 2
    assert drawn < 200 and equal.table.loc["accuracy", "p"] == pytest.approx(20 / drawn)
    calls.clear()
    worse = assess(Model(), rows(rng, 500, 0.9), rows(rng, 300, 0.4))
    assert (len(calls) - 2) // 2 == 299 and worse.table.loc["accuracy", "p"] == 1 / 300


def test_wrong_alarms_have_their_rate(rng):
    alarms = [assess(Model(), rows(rng, 150, 0.8), rows(rng, 100, 0.8)).decay for _ in range(30)]
    assert sum(alarms) <= 3  # 1 % of 30; more than 3 has a probability of 0.0003


def test_a_missed_threshold_is_decay_only_where_it_is_certain(rng, contract):
    """Accuracy 0.08 is decay though the primary metric cannot tell."""
    contract(
        PRIMARY=("other", "maximize"),
        THRESHOLDS={"accuracy": (">=", 0.7)},
        measure=lambda model, X, y: {"accuracy": np.mean(model.predict(X) == y), "other": 0.5},
    )
    old = rows(rng, 500, 0.9)
    found = assess(Model(), old, rows(rng, 200, 0.0).assign(answer="none"))
    assert found.decay and found.table.loc["accuracy", "state"] == "misses its threshold"

    near = rows(rng, 200, 1)
    near.loc[:60, "answer"] = "none"
    found = assess(Model(), old, near)
    assert found.table.loc["accuracy", "live"] == pytest.approx(0.695)
    assert not found.decay
    assert found.unknown == "below the threshold, cannot tell yet (200 labels)"

    few = rows(rng, 200, 0).assign(answer="none", **{TARGET: ["no"] * 191 + ["yes"] * 9})
    assert "below the threshold, cannot tell yet (200 labels)" in assess(Model(), old, few).unknown
    contract(THRESHOLDS={"accuracy": ("<=", 0.3)})
    assert "above the threshold" in assess(Model(), old, few.assign(answer="no")).unknown


def test_a_class_that_is_absent_is_told(rng, contract):
    """Metrics that need every class raise an error; the others are shown all the same."""
    three = ("ok", "warn", "broken")

    def measure(model, X, y):
        if len(set(y)) < 3:
            raise ValueError("Number of classes\nin y_true not equal to ...")
        return {"accuracy": float(np.mean(model.predict(X) == y))}

    contract(measure=measure)
    old, new = rows(rng, 300, 0.9, three), rows(rng, 120, 0.9, three)
    found = assess(Model(), old, new[new[TARGET] != "broken"])
    assert not found.decay and "cannot tell: no label of class broken" in found.unknown
    assert found.table.loc["accuracy", "held_out"] > 0.8
    assert np.isnan(found.table.loc["accuracy", "live"])
    # A permutation may lack a rare class.
    old = pd.concat([old[old[TARGET] != "broken"], old[old[TARGET] == "broken"].head(1)])
    new = pd.concat([new[new[TARGET] != "broken"], new[new[TARGET] == "broken"].head(1)])
    assert "is undefined in" in assess(Model(), old, new).unknown


def test_what_cannot_be_measured_is_told_with_its_reason(rng, contract):
    old = rows(rng, 300, 0.9)
    assert "9 labels, at least 50 are needed" in assess(Model(), old, rows(rng, 9, 0.1)).unknown
    assert "0 labels" in assess(Model(), old, old.head(0)).unknown
    assert "its id" in assess(Model(), old, old.head(0), "labels.csv: its id").unknown

    def fails(model, X, y):
        raise KeyError("no such column")

    contract(measure=fails)
    found = assess(Model(), old, rows(rng, 100, 0.1))
    assert not found.decay and "KeyError: 'no such column'" in found.unknown
    contract(measure=lambda model, X, y: {"f1": 0.5}, THRESHOLDS={"recall": (">=", 0.5)})
    told = assess(Model(), old, rows(rng, 100, 0.1)).unknown
    assert "no number for recall" in told and "accuracy" in told
    contract(measure=lambda model, X, y: {"accuracy": float("nan")}, THRESHOLDS={})
    assert "cannot tell" in assess(Model(), old, rows(rng, 100, 0.1)).unknown
