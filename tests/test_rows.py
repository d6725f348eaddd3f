"""Rows as they come: values, files and columns that are odd, in the project's own functions."""

import pytest

pytestmark = pytest.mark.slow


def test_rare_categories_give_no_alarm_and_a_common_one_that_moves_does(uv_project):
    """Of 300 pairs of samples from one distribution 1 % may differ; untreated, 12 % would."""
    told = uv_project.python("""
import numpy as np, pandas as pd
from my_ml_project.lifecycle.drift import ALPHA, categories
generator = np.random.default_rng(0)
def drawn(size, common=0.6):
    shares = [common, 0.995 - common, *[0.001] * 5]
    return pd.Series(generator.choice([*"abcdefg"], size, p=shares))
same = [categories(drawn(5000), drawn(50))[1] for _ in range(300)]
print(sum(p < ALPHA for p in same))
distance, p = categories(drawn(5000), drawn(1000, 0.4))
print(0.15 < distance < 0.25, p < 2e-5)""").splitlines()
    assert int(told[0]) <= 6
    assert told[1] == "True True"


def test_the_gate_says_what_an_odd_metric_means(uv_project):
    """Equal models are refused however large the metric; one that is undefined is no verdict."""
    told = uv_project.python("""
import math
from mlflow.models import EvaluationResult
from my_ml_project.lifecycle import promote
promote.PRIMARY, promote.THRESHOLDS = ("mse", "minimize"), {"r2": (">=", 0.5)}
def told(challenger, champion):
    both = {"challenger": challenger, "champion": champion}
    results = {alias: EvaluationResult(metrics, {}) for alias, metrics in both.items()}
    try:
        print(promote.missed(results))
    except promote.UserError as error:
        print(error)
told({"mse": 2.5e9, "r2": 0.9}, {"mse": 2.5e9, "r2": 0.9})
told({"mse": 2.4e9, "r2": 0.9}, {"mse": 2.5e9, "r2": 0.9})
told({"mse": 1e-3, "r2": 0.4}, {"mse": 2e-3, "r2": 0.9})
told({"mse": math.nan, "r2": 0.9}, {"mse": 2.5e9, "r2": 0.9})
told({"rmse": 5.0, "r2": 0.9}, {"mse": 2.5e9, "r2": 0.9})""").splitlines()
    no = "The challenger has no mse: does measure() in model.py return it?"
    assert told == ["{'mse': 'is no better'}", "{}", "{'r2': 'misses its threshold'}", no, no]
