"""The gate's rules: who is better, on which rows, and how sure that is."""

import math

import numpy as np
import pandas as pd
import pytest

from {{ cookiecutter.__package }}.lifecycle import gate
from {{ cookiecutter.__package }}.lifecycle.remember import Remembering

AUC, MSE = ("auc", "maximize"), ("mse", "minimize")


@pytest.mark.parametrize(
    ("primary", "challenger", "champion", "margin", "promoted"),
    [
        (AUC, 0.92, 0.90, 0, True),
        (AUC, 0.90, 0.92, 0, False),
        (MSE, 0.90, 0.92, 0, True),  # less is better
        (MSE, 0.92, 0.90, 0, False),
        (AUC, 0.90, 0.90, 0, False),  # an equal one is not better
        (AUC, 0.90 + 1e-10, 0.90, 0, False),  # nor one that differs by rounding
        (AUC, 0.90 + 1e-8, 0.90, 0, True),
        (MSE, 2.5e9 - 1, 2.5e9, 0, False),  # rounding is relative to large metrics
        (MSE, 2.4e9, 2.5e9, 0, True),
        (AUC, 0.96, 0.95, 0.01, False),  # exactly the margin is not more than it
        (AUC, 0.961, 0.95, 0.01, True),
        (AUC, 0.955, 0.95, 0.01, False),
        (MSE, 0.955, 0.95, 0.01, False),
        (MSE, 0.93, 0.95, 0.01, True),
    ],
)
def test_a_better_model_is_promoted(primary, challenger, champion, margin, promoted):
    name, _ = primary
    found = gate.reasons({name: challenger}, {name: champion}, primary, {}, margin)
    assert set(found) == (set() if promoted else {name})


def test_a_gain_is_positive_where_the_challenger_is_better():
    assert gate.gain({"auc": 0.92}, {"auc": 0.90}, AUC) == pytest.approx(0.02)
    assert gate.gain({"mse": 0.92}, {"mse": 0.90}, MSE) == pytest.approx(-0.02)


def test_thresholds_hold_whatever_the_champion_is():
    rules = {"auc": (">=", 0.9), "loss": ("<=", 0.2)}
    good, bad = {"auc": 0.9, "loss": 0.2}, {"auc": 0.89, "loss": 0.21}
    assert gate.reasons(good, None, AUC, rules, 0) == {}
    assert gate.reasons(bad, None, AUC, rules, 0) == {
        "auc": "misses its threshold",
        "loss": "misses its threshold",
    }
    told = gate.reasons(bad, {"auc": 0.95}, AUC, rules, 0.01)
    assert told["auc"] == "misses its threshold and is not better by more than 0.01"
    assert told["loss"] == "misses its threshold"


def test_without_thresholds_the_first_one_is_promoted():
    assert gate.reasons({"auc": 0.1}, None, AUC, {}, 0) == {}
    assert gate.reasons({"auc": 0.1}, None, AUC, {}, 0.5) == {}


def test_a_loss_is_sure_where_the_whole_interval_is_below_zero():
    assert gate.worse(-0.02, 0.01) and not gate.worse(-0.02, 0.03) and not gate.worse(0.0, 0.0)
    assert gate.worse(-0.02, None) and not gate.worse(0.0, None)


def test_rows_that_a_model_was_trained_on_are_told_from_copies():
    whole = np.array([1, 1, 2, 3, 4, 4, 5], "uint64")
    held_out = np.array([1, 3, 4, 4, 9], "uint64")
    training = np.array([1, 2, 3, 4], "uint64")
    # 1 is there twice: once on each side. 3 is there once, 4 twice and both are held out.
    found = gate.unseen(whole, held_out, training)
    assert found.tolist() == [True, False, False, False, True]
    assert gate.unseen(whole, held_out, training[:0]).all()
    assert gate.unseen(whole, held_out[:0], training).tolist() == []


def test_the_share_of_rows_that_are_left():
    whole = np.arange(10, dtype="uint64")
    assert gate.share_left(np.array([1, 2, 30, 40], "uint64"), whole) == 0.5
    assert gate.share_left(whole[:0], whole) == 0.0


def test_the_interval_covers_the_true_gain_as_often_as_it_says():
    """Of 300 samples, 90 % of the intervals have the true gain, give or take 4 deviations."""
    generator, covered = np.random.default_rng(0), 0
    for _ in range(300):
        sample = generator.normal(0.5, 1, 80)
        half = gate.interval(lambda some, sample=sample: sample[some].mean(), 80)
        covered += abs(sample.mean() - 0.5) <= half
    assert 0.83 < covered / 300 < 0.97


def test_the_interval_of_many_rows_is_that_of_all_of_them(monkeypatch):
    sample = np.random.default_rng(0).normal(0, 1, 4000)
    sizes = []

    def mean(some):
        sizes.append(len(some))
        return sample[some].mean()

    whole = gate.interval(mean, 4000)
    monkeypatch.setattr(gate, "LARGEST", 250)
    part = gate.interval(mean, 4000)
    assert set(sizes) == {4000, 250}
    assert part == pytest.approx(whole, rel=0.3)
    assert whole == pytest.approx(1.645 / math.sqrt(4000), rel=0.3)


@pytest.mark.parametrize(("unusable", "told"), [(10, True), (11, False)])
@pytest.mark.parametrize("raises", [True, False])
def test_resamples_that_cannot_be_measured_are_left_out(unusable, told, raises):
    calls = []

    def gain(some):
        calls.append(some)
        if len(calls) <= unusable:
            if raises:
                raise ValueError("Only one class is present")
            return math.nan
        return float(len(calls) % 2)

    assert (gate.interval(gain, 50) is not None) == told
    assert len(calls) == 100


# Answers that are remembered


class Counting:
    """A model that adds up a row's values, and counts the rows that it was asked for."""

    asked = 0
    classes_ = (0, 1)

    def predict(self, X):
        self.asked += len(X)
        return np.asarray(X).sum(axis=1)


def test_parts_of_the_rows_are_answered_from_memory():
    X, model = pd.DataFrame({"a": [1.0, 2.0, np.nan], "b": [10.0, 20.0, 30.0]}), Counting()
    remembering = Remembering(model, X)
    assert remembering.classes_ == (0, 1)
    assert remembering.predict(X.iloc[[1, 1, 0]]).tolist() == [22.0, 22.0, 11.0]
    assert remembering.predict(X)[:2].tolist() == [11.0, 22.0]
    assert model.asked == 3


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda part: part.assign(a=100.0), [120.0, 110.0]),  # as for a measure of fairness
        (lambda part: part.reset_index(drop=True), [22.0, 11.0]),
        (lambda part: part.set_index(pd.Index(["x", "y"])), [22.0, 11.0]),
        (lambda part: part.set_index(pd.Index([7, -1])), [22.0, 11.0]),
        (lambda part: part.to_numpy(), [22.0, 11.0]),
        (lambda part: part[["a"]], [2.0, 1.0]),
    ],
)
def test_rows_that_a_metric_changed_are_answered_anew(change, wanted):
    X = pd.DataFrame({"a": [1.0, 2.0, 3.0], "b": [10.0, 20.0, 30.0]})
    remembering = Remembering(Counting(), X)
    remembering.predict(X)
    assert remembering.predict(change(X.iloc[[1, 0]])).tolist() == wanted
