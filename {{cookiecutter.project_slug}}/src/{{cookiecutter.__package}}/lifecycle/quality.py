"""Live quality: the metrics on labelled rows, and whether the model has decayed.

A model has decayed where a metric surely misses its threshold, or where the primary metric is
worse on labelled rows than on held-out ones by a permutation test, which is exact whatever the
metric. What cannot be measured is neither stable nor decay.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import typer

from ..data import TARGET
from ..model import PRIMARY, TASK, measure
from .contract import THRESHOLDS
from .drift import ALPHA
from .gate import COMPARISONS, SIGNS
from .remember import Remembering

FEWEST = 50  # labelled rows that a metric is measured on
NEWEST = 20_000  # labelled rows that are looked at
PER_CLASS = 10  # labels of every class, to say that a metric misses its threshold
RESAMPLES, CERTAIN = 200, 0.95  # bootstrap resamples, and the share of them that has to miss
PERMUTATIONS, AS_BAD = 999, 20  # at most; the test stops at this many as bad as what was seen
# It stops, too, where none of the first ones is as bad: the rate of wrong alarms is then 1.009 %.
NONE_AS_BAD = 299
UNDEFINED = 0.1  # share of permutations that may have no metric


@dataclass(frozen=True)
class Quality:
    """The metrics on held-out and labelled rows, and what follows.

    `table` has a row per metric: `held_out`, `live`, `wanted`, `p` and `state`. `unknown` says
    why decay cannot be told, and is empty where it can.
    """

    table: pd.DataFrame
    labels: int
    decay: bool
    unknown: str


def assess(model, reference: pd.DataFrame, labelled: pd.DataFrame, trouble: str = "") -> Quality:
    """Return how good `model` is on labelled rows, beside held-out rows of its training.

    Both tables have the features and the target. `trouble` says why the labels cannot be used.
    """
    trouble = trouble or lacking(reference, labelled)
    both = pd.concat([reference, labelled[[*reference]]], ignore_index=True)
    parts = np.split(np.arange(len(both)), [len(reference)])
    X, y = both.drop(columns=TARGET), both[TARGET]
    score = scorer(model, X, y)
    (held_out, why_held_out), (live, why_live) = score(parts[0]), ({}, "")
    if len(labelled):
        live, why_live = score(parts[1])
    trouble = trouble or why_live or why_held_out
    names = [*dict.fromkeys([PRIMARY[0], *THRESHOLDS, *held_out, *live])]
    found = pd.DataFrame(index=names, columns=["held_out", "live", "wanted", "p", "state"])
    found["held_out"], found["live"] = (pd.Series(one, dtype=float) for one in (held_out, live))
    found["p"] = math.nan
    found["wanted"] = [" ".join(map(str, THRESHOLDS.get(name, ()))) for name in names]

    @cache
    def resampled() -> list[dict[str, float]]:
        generator = np.random.default_rng(0)
        rounds = range(RESAMPLES)
        return [score(generator.choice(parts[1], len(labelled)))[0] for _ in rounds]

    enough = enough_of_each(y.iloc[parts[0]], labelled[TARGET])
    states: dict[str, list[str]] = {name: [] for name in names}
    for name in THRESHOLDS:
        if not trouble or math.isfinite(live.get(name, math.nan)):
            again = resampled if enough else None
            states[name].append(standing(name, live.get(name, math.nan), len(labelled), again))
    if trouble:
        states[PRIMARY[0]].append(f"cannot tell: {trouble}")
    else:
        p, state = loss(held_out, live, len(both), len(reference), score)
        found.loc[PRIMARY[0], "p"] = p
        states[PRIMARY[0]].append(state)
    found["state"] = ["; ".join(states[name]) for name in names]
    every = [state for one in states.values() for state in one]
    decay = any(state in ("misses its threshold", "worse") for state in every)
    unknown = [state for state in every if "cannot tell" in state]
    return Quality(found, len(labelled), decay, "; ".join(dict.fromkeys(unknown)))


def lacking(reference: pd.DataFrame, labelled: pd.DataFrame) -> str:
    """Return what the labels lack to be measured on."""
    if len(labelled) < FEWEST:
        return f"{len(labelled)} labels, at least {FEWEST} are needed"
    if TASK == "classifier" and (absent := set(reference[TARGET]) - set(labelled[TARGET])):
        return f"no label of class {', '.join(sorted(map(str, absent)))}"
    return ""


def scorer(model, X: pd.DataFrame, y: pd.Series) -> Callable:
    """Return a function of places in `X`: the metrics of these rows, or why there are none."""
    model = Remembering(model, X)

    def score(places: np.ndarray) -> tuple[dict[str, float], str]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of an undefined metric, which is no number
                found = measure(model, X.iloc[places], y.iloc[places])
                return {name: float(value) for name, value in found.items()}, ""
        except Exception as error:  # the user's code, on rows that it was not written for
            told = (str(error).splitlines() or [""])[0]
            return {}, f"measure() in model.py fails: {type(error).__name__}: {told[:200]}"

    return score


def enough_of_each(reference: pd.Series, labels: pd.Series) -> bool:
    """Return whether there are enough labels, of every class of the held-out rows."""
    counts = labels.value_counts().reindex(reference.unique(), fill_value=0)
    return len(labels) >= FEWEST and (TASK != "classifier" or counts.min() >= PER_CLASS)


def standing(name: str, value: float, count: int, again: Callable | None) -> str:
    """Return how a live metric, of `count` labels, stands to its threshold.

    `again` returns the metrics of bootstrap resamples; None where there are too few labels.
    """
    sign, limit = THRESHOLDS[name]
    meets = COMPARISONS[sign]
    if not math.isfinite(value):
        return f"cannot tell: measure() returns no number for {name}"
    if meets(value, limit):
        return "meets its threshold"
    values = [one.get(name, math.nan) for one in again()] if again else []
    missed = sum(math.isfinite(value) and not meets(value, limit) for value in values)
    if missed >= CERTAIN * RESAMPLES:
        return "misses its threshold"
    side = "below" if sign == ">=" else "above"
    return f"{side} the threshold, cannot tell yet ({count} labels)"


def loss(held_out, live, size: int, first: int, score: Callable) -> tuple[float, str]:
    """Return the p-value of the loss of the primary metric, and what it says.

    It is the probability of a loss at least this large if nothing changed, by a permutation test
    which stops early where there is no doubt (Besag and Clifford 1991: p = 20 / drawn).
    """
    name, sign = PRIMARY[0], SIGNS[PRIMARY[1]]
    seen = sign * (held_out.get(name, math.nan) - live.get(name, math.nan))
    if not math.isfinite(seen):
        told = f"{held_out.get(name)} on held-out rows, {live.get(name)} on labelled rows"
        return math.nan, f"cannot tell: measure() returns for {name} {told}"
    generator = np.random.default_rng(0)
    drawn = as_bad = undefined = 0
    with typer.progressbar(length=PERMUTATIONS, label="Comparing") as bar:
        while drawn < (PERMUTATIONS if as_bad else NONE_AS_BAD) and as_bad < AS_BAD:
            order = generator.permutation(size)
            (then, _), (now, _) = score(order[:first]), score(order[first:])
            other = sign * (then.get(name, math.nan) - now.get(name, math.nan))
            drawn += 1
            undefined += not math.isfinite(other)
            as_bad += not other < seen - 1e-12  # one that is undefined counts as bad
            bar.update(1)
    if undefined > UNDEFINED * drawn:
        return math.nan, f"cannot tell: {name} is undefined in {undefined} of {drawn} permutations"
    p = as_bad / drawn if as_bad == AS_BAD else (as_bad + 1) / (drawn + 1)
    return p, "worse" if p < ALPHA else "not worse"
