"""The contract of `data.py` and `model.py`, checked when `train` starts, before a run exists.

What is accepted here is accepted by every later command. The optional names of `model.py` have
their defaults here.
"""

import inspect
import math
import numbers
import sys
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from .. import data, model
from ..config import UserError
from . import gate
from .record import encoded
from .rows import Inputs, added, row_hashes


def no_plots(model, X: pd.DataFrame, y: pd.Series) -> dict:
    """Return no pictures."""
    return {}


THRESHOLDS: dict[str, tuple[str, float]] = getattr(model, "THRESHOLDS", {})
MARGIN: float = getattr(model, "MARGIN", 0)  # in units of the primary metric
TRUSTED_TYPES: list[str] = getattr(model, "TRUSTED_TYPES", [])
plots: Callable = getattr(model, "plots", no_plots)

TASKS, SIGNS, DIRECTIONS = ("classifier", "regressor"), (*gate.COMPARISONS,), (*gate.SIGNS,)


def check_names() -> None:
    """Raise `UserError` if a name of `data.py` or `model.py` is missing or has an unknown value."""
    for module, names in ((data, ("load", "split")), (model, ("build", "measure"))):
        for name in names:
            _check(callable(getattr(module, name, None)), module, f"needs a function {name}")
    target = getattr(data, "TARGET", None)
    _check(isinstance(target, str) and target, data, "TARGET has to be the name of a column")
    task, primary = getattr(model, "TASK", None), getattr(model, "PRIMARY", None)
    _check(task in TASKS, model, f"TASK is {task!r}: write {_either(TASKS)}")
    pair = isinstance(primary, tuple | list) and len(primary) == 2 and isinstance(primary[0], str)
    _check(pair, model, f"PRIMARY is {primary!r}: write a metric and {_either(DIRECTIONS)}")
    direction = primary[1]  # type: ignore[index]
    _check(
        direction in DIRECTIONS,
        model,
        f"PRIMARY has the direction {direction!r}: write {_either(DIRECTIONS)}",
    )
    _check(isinstance(THRESHOLDS, dict), model, "THRESHOLDS has to be a dict")
    for metric, threshold in THRESHOLDS.items():
        pair = isinstance(threshold, tuple | list) and len(threshold) == 2
        told = f"THRESHOLDS[{metric!r}] is {threshold!r}: write"
        _check(pair, model, f'{told} a sign and a number, as in (">=", 0.9)')
        _check(threshold[0] in SIGNS, model, f"{told} the sign as {_either(SIGNS)}")
        _check(_finite(threshold[1]), model, f"{told} a number after the sign")
    good = _finite(MARGIN) and MARGIN >= 0
    _check(good, model, f"MARGIN is {MARGIN!r}: write a number that is not negative")
    trusted = isinstance(TRUSTED_TYPES, list | tuple) and all(
        isinstance(name, str) for name in TRUSTED_TYPES
    )
    _check(trusted, model, "TRUSTED_TYPES has to be a list of names of types")
    for name in ("plots", "space"):
        _check(callable(getattr(model, name, no_plots)), model, f"{name} has to be a function")
    named = isinstance(getattr(model, "PARAMS", None), dict)
    _check(named, model, "needs PARAMS, a dict of parameters by name")


def check_parameters(params) -> dict:
    """Return the parameters of `build`; raise `UserError` if they cannot be recorded."""
    named = all(isinstance(name, str) for name in params)
    _check(named, model, "the names in PARAMS have to be text")
    _check(
        "seed" not in params,
        model,
        'PARAMS has a parameter "seed", which is the name of an option of train: rename it, for '
        "example to random_state",
    )
    for name, value in params.items():
        try:
            encoded(value)
        except TypeError as error:
            raise UserError(
                f"model.py: the parameter {name} is {error}, which cannot be recorded: use numbers,"
                " text, True, False, None, or lists, tuples and dicts of them."
            ) from error
    return params


def check_storable(unfitted_or_fitted) -> None:
    """Raise `UserError` if a model holds what skops cannot store, or is not told to trust."""
    import skops.io

    try:
        names = skops.io.get_untrusted_types(data=skops.io.dumps(unfitted_or_fitted))
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"model.py: skops cannot store the model: {error}") from error
    if nameless := sorted(filter(_is_nameless, names)):
        raise UserError(
            f"model.py: the model holds {', '.join(nameless)}, which cannot be stored: it has no "
            "name of its own in its module. Write a function or class with a name at the top level "
            "of model.py."
        )
    if unknown := set(names) - {*TRUSTED_TYPES}:
        raise UserError(
            f"The model holds types that skops does not know: {', '.join(sorted(unknown))}. "
            "Read what they are, then add them to TRUSTED_TYPES in model.py."
        )


def check_metrics(metrics) -> dict[str, float]:
    """Return the metrics of `measure` as floats; raise `UserError` if one that decides is none."""
    good = isinstance(metrics, dict) and all(isinstance(name, str) for name in metrics)
    _check(good, model, "measure() has to return a dict of numbers by name")
    wanted = (model.PRIMARY[0], *THRESHOLDS)
    for name in wanted:
        where = "PRIMARY" if name == wanted[0] else "THRESHOLDS"
        told = f"measure() returns {', '.join(metrics) or 'nothing'}"
        _check(name in metrics, model, f"{where} names the metric {name!r}, but {told}")
        value = metrics[name]
        _check(_finite(value), model, f"measure() returned {value!r} for {name!r}: no verdict")
    for name, value in metrics.items():
        number = isinstance(value, numbers.Real)
        _check(number, model, f"measure() returned {value!r} for {name!r}, which is not a number")
    return {name: float(value) for name, value in metrics.items()}


def check_frame(frame) -> None:
    """Raise `UserError` if `load` returned no table with a target and with usable names."""
    told = "load() has to return a pandas DataFrame with rows"
    _check(isinstance(frame, pd.DataFrame) and len(frame), data, told)
    names = [*frame]
    for name in names:
        told = f"load() has a column named {name!r}, and names of columns have to be text"
        _check(isinstance(name, str), data, f"{told}: use frame.rename(columns=str)")
    for name in frame.columns[frame.columns.duplicated()]:
        _check(False, data, f"load() has two columns named {name!r}: rename one")
    found = ", ".join(names[:5]) + ", ..." * (len(names) > 5)
    _check(
        data.TARGET in names, data, f"load() has no column {data.TARGET!r} (TARGET); it has {found}"
    )
    _check(len(names) > 1, data, "load() has no column but the target")
    gaps = int(frame[data.TARGET].isna().sum())
    _check(not gaps, data, f"the target {data.TARGET!r} is missing in {gaps} rows: leave them out")
    classes = frame[data.TARGET].unique() if model.TASK == "classifier" else None
    for name in filter(names.__contains__, added(classes)):
        told = f"load() has a column {name!r}, which is a column of the output of predict"
        _check(False, data, f"{told}: rename it")


def check_split(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return training and held-out rows; raise `UserError` if `split` returns no such tables."""
    parts = data.split(frame)
    pair = isinstance(parts, tuple | list) and len(parts) == 2
    tables = pair and all(isinstance(part, pd.DataFrame) and len(part) for part in parts)
    _check(tables, data, "split() has to return two DataFrames with rows: training and held-out")
    for part in parts:
        _check({*part} == {*frame}, data, "split() has to keep the columns of load()")
    training, held_out = parts
    return training, held_out


def check_target(parts: dict[str, pd.DataFrame], target: Inputs) -> None:
    """Raise `UserError` if the target does not fit the task, or has one class in a part."""
    kind = target.inputs[0].type.name
    if model.TASK == "regressor":
        suits = kind in ("double", "float")
        _check(suits, data, f"the target {data.TARGET!r} is {kind}, and a regressor's is numbers")
        return
    for name, part in parts.items():
        classes = part[data.TARGET].unique()
        told = f"the {name} rows have one class only ({classes[0]}): a classifier needs two"
        _check(len(classes) > 1, data, told)


def check_apart(training: np.ndarray, held_out: np.ndarray, frame: pd.DataFrame) -> None:
    """Raise `UserError` if held-out rows, by their hashes, are among the training rows.

    A row that `frame` has several times may be on both sides, as often as it is there.
    """
    both = np.intersect1d(training, held_out)
    if not len(both):
        return
    whole, sides = (
        pd.Series(hashes).value_counts()
        for hashes in (row_hashes(frame, [*frame]), np.concatenate([training, held_out]))
    )
    leaked = sum(sides[row] > whole.get(row, 0) for row in both)
    told = f"split() puts {leaked} rows both into the training and the held-out rows"
    _check(not leaked, data, f"{told}: keep them apart")


def _check(good, module, what: str) -> None:
    """Raise `UserError` with what is wrong in a module, unless it is `good`."""
    if not good:
        file = inspect.getsourcefile(module) or module.__name__
        raise UserError(f"{file.replace(chr(92), '/').rpartition('/')[2]}: {what}.")


def _either(words: Iterable[str]) -> str:
    return " or ".join(f'"{word}"' for word in words)


def _finite(value) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, ValueError):
        return False


def _is_nameless(type_name: str) -> bool:
    """Return whether a name of skops is that of a lambda, or of a function inside another one."""
    place, _, name = type_name.rpartition(".")
    return place in sys.modules and not hasattr(sys.modules[place], name)
