"""The rules of the gate, without MLflow: which rows count, and which model is better."""

import math
import operator
import warnings
from collections.abc import Callable, Mapping

import numpy as np

SIGNS = {"maximize": 1, "minimize": -1}
COMPARISONS = {">=": operator.ge, "<=": operator.le}
ENOUGH = 50  # held-out rows of a part, or its thresholds do not count
EQUAL = 1e-9  # a smaller difference is rounding; relative for metrics above 1
RESAMPLES, UNUSABLE = 100, 10  # of the bootstrap, and how many of them may fail
LARGEST = 20_000  # rows of a resample
Z = 1.645  # standard deviations to each side of a 90 % interval

Rules = Mapping[str, tuple[str, float]]


def gain(
    challenger: Mapping[str, float], champion: Mapping[str, float], primary: tuple[str, str]
) -> float:
    """Return by how much the challenger's primary metric is better; negative if it is worse."""
    name, direction = primary
    return SIGNS[direction] * (challenger[name] - champion[name]) + 0.0  # no -0.0


def reasons(
    challenger: Mapping[str, float],
    champion: Mapping[str, float] | None,
    primary: tuple[str, str],
    thresholds: Rules,
    margin: float,
) -> dict[str, str]:
    """Return why the challenger is refused, by metric; nothing if it is promoted.

    Without a `champion` the thresholds alone decide. `margin` is in units of the primary metric.
    """
    found = {
        metric: "misses its threshold"
        for metric, (sign, value) in thresholds.items()
        if not COMPARISONS[sign](challenger[metric], value)
    }
    if champion is None:
        return found
    name, _ = primary
    rounding = EQUAL * max(1.0, abs(champion[name]))
    if gain(challenger, champion, primary) <= margin + rounding:
        why = f"is not better by more than {margin:g}" if margin else "is no better"
        found[name] = f"{found[name]} and {why}" if name in found else why
    return found


def worse(gain: float, half_width: float | None) -> bool:
    """Return whether a gain is surely a loss: the upper end of its 90 % interval is below 0.

    Without an interval, any loss counts.
    """
    return gain + (half_width or 0.0) < -EQUAL


def interval(gain_on: Callable[[np.ndarray], float], rows: int) -> float | None:
    """Return the half-width of the 90 % interval of a gain; None if it cannot be told.

    `gain_on` returns the gain on the rows with the given numbers, 0 to `rows` - 1. It is called
    with 100 paired bootstrap resamples; those in which it raises or is not finite are left out, of
    which there may be 10. Of more than 20,000 rows a resample has 20,000: the standard deviation
    shrinks with the square root of the number of rows.
    """
    generator, size = np.random.default_rng(0), min(rows, LARGEST)
    gains = []
    for _ in range(RESAMPLES):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about a class that a resample lacks
                found = gain_on(generator.integers(rows, size=size))
        except Exception:  # whatever the user's `measure` raises
            continue
        gains += [found] if math.isfinite(found) else []
    if len(gains) < RESAMPLES - UNUSABLE:
        return None
    return float(Z * np.std(gains, ddof=1) * math.sqrt(size / rows))


def unseen(whole: np.ndarray, held_out: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Return which held-out rows a model was not trained on, as booleans.

    All are hashes of rows. `whole` has today's rows, held-out ones included. A row that it has
    several times may be on both sides, as often as it is there.
    """
    trained = _counts(training, held_out)
    allowed = _counts(whole, held_out) - _counts(held_out, held_out)
    return (trained == 0) | (trained <= allowed)


def _counts(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return how often each of the `wanted` is among `values`."""
    known, counts = np.unique(values, return_counts=True)
    if not len(known):
        return np.zeros(len(wanted), "int64")
    places = np.searchsorted(known, wanted).clip(max=len(known) - 1)
    return np.where(known[places] == wanted, counts[places], 0)


def share_left(recorded: np.ndarray, whole: np.ndarray) -> float:
    """Return the share of a model's `recorded` rows that are still in today's `whole` data."""
    return float(np.isin(recorded, whole).mean()) if len(recorded) else 0.0
